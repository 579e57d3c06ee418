//! What products read: a buffer as it is, or what it holds in bfloat16. A buffer in f32 that products read keeps such a copy, which is
//! made anew only after the buffer has changed, and not even then where whoever changed it has written both. Not here: the products.

use std::cell::Ref;

use engine::EngineError;

use crate::buffer::{Buffer, FactorCopy, Held};
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Number, Place};
use crate::launch::{Blocks, long};
use crate::row_major::Factor;

/// What a product reads.
pub(crate) struct Operand<'a, M> {
    memory: Lent<'a, M>,
    number: Number,
}

enum Lent<'a, M> {
    Itself(&'a M),
    Copy(Ref<'a, M>),
}

impl<M> Operand<'_, M> {
    /// From its element `first` on.
    pub(crate) fn at(&self, first: usize) -> Factor<'_, M> {
        Factor::at(Place { first_byte: first * self.number.bytes(), ..self.place() })
    }

    /// Where it begins.
    pub(crate) fn place(&self) -> Place<'_, M> {
        let memory = match &self.memory {
            Lent::Itself(memory) => memory,
            Lent::Copy(memory) => &**memory,
        };
        Place { memory, first_byte: 0 }
    }

    pub(crate) fn all(&self) -> Factor<'_, M> {
        self.at(0)
    }
}

impl<D: Driver> Cuda<D> {
    /// What activations are kept in, and what products read.
    pub(crate) fn activations_are(&self) -> Number {
        Number::of_activations(self.driver.precision())
    }

    /// An activation that products read.
    pub(crate) fn activation<'a>(
        &self,
        x: &'a Buffer<D::Memory>,
    ) -> Result<Operand<'a, D::Memory>, EngineError> {
        let number = self.activations_are();
        x.check(number)?;
        Ok(Operand { memory: Lent::Itself(x.memory()?), number })
    }

    /// What may be an activation, or else is in f32: a weight, or the residual stream's gradient.
    pub(crate) fn factor<'a>(&self, x: &'a Buffer<D::Memory>) -> Result<Operand<'a, D::Memory>, EngineError> {
        let number = self.activations_are();
        if x.number() == number {
            return Ok(Operand { memory: Lent::Itself(x.memory()?), number });
        }
        self.renew_copy(x, number)?;
        let copy = Ref::filter_map(x.copy().borrow(), |copy| copy.as_ref().map(|copy| &copy.memory));
        let Ok(copy) = copy else { return Err(EngineError::Device("a factor has lost its copy".into())) };
        Ok(Operand { memory: Lent::Copy(copy), number })
    }

    fn renew_copy(&self, whole: &Buffer<D::Memory>, number: Number) -> Result<(), EngineError> {
        let mut copy = whole.copy().borrow_mut();
        let bytes = whole.len() * number.bytes();
        let copy = match &mut *copy {
            Some(copy) => copy,
            none => none.insert(FactorCopy {
                memory: self.driver.allocate(bytes.max(1))?,
                is_current: false,
                _held: Held::new(&self.ledger, bytes as u64),
            }),
        };
        if !copy.is_current {
            self.narrow(whole, &mut copy.memory, whole.len())?;
            copy.is_current = true;
        }
        Ok(())
    }

    fn narrow(&self, from: &Buffer<D::Memory>, to: &mut D::Memory, len: usize) -> Result<(), EngineError> {
        let arguments = [from.read()?, Argument::Write(to), long(len)];
        self.launch("narrow", Blocks::of_elements(len), &arguments)
    }
}
