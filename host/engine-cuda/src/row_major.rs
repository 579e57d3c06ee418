//! Row-major products on drivers whose matrices lie column by column. Not here: which products there are.

use engine::EngineError;
use engine_native::kernels::Write;

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::{After, Driver, Lie, Place, Product, Then};

/// A factor of a row-major product.
pub(crate) struct Factor<'a, M> {
    place: Place<'a, M>,
    transposed: bool,
}

impl<'a, M> Factor<'a, M> {
    pub(crate) fn at(place: Place<'a, M>) -> Factor<'a, M> {
        Factor { place, transposed: false }
    }

    pub(crate) fn transposed(self) -> Factor<'a, M> {
        Factor { transposed: true, ..self }
    }

    /// As it lies in memory, where the product sees `rows` by `columns`: what is a row to us is a column to BLAS.
    fn lie(&self, [rows, columns]: [usize; 2]) -> Lie {
        Lie { transposed: self.transposed, leading: if self.transposed { rows } else { columns } }
    }
}

impl<D: Driver> Cuda<D> {
    /// Row-major `c[rows, columns] = a b`, with `depth` terms in every sum; or it is added. `c` is the buffer from an
    /// element on.
    pub(crate) fn multiply(
        &self,
        measures: [usize; 3],
        a: Factor<'_, D::Memory>,
        b: Factor<'_, D::Memory>,
        (c, first): (&mut Buffer<D::Memory>, usize),
        write: Write,
    ) -> Result<(), EngineError> {
        let adds = write == Write::Add;
        let product = Product { adds, ..self.product(measures, &a, &b, c, After::Nothing) };
        self.driver.multiply(&product, b.place, a.place, c.at_mut(first)?, Then::Nothing)?;
        Ok(())
    }

    /// The same with what follows. Answers whether it did: where the driver can only do one after the other, nothing was done.
    pub(crate) fn multiply_then(
        &self,
        measures: [usize; 3],
        a: Factor<'_, D::Memory>,
        b: Factor<'_, D::Memory>,
        c: &mut Buffer<D::Memory>,
        then: Then<'_, D::Memory>,
    ) -> Result<bool, EngineError> {
        let product = self.product(measures, &a, &b, c, then.kind());
        self.driver.multiply(&product, b.place, a.place, c.at_mut(0)?, then)
    }

    /// Row by row is the transpose column by column, and the transpose of a product is that of its factors' transposes in the
    /// other order.
    fn product(
        &self,
        [rows, columns, depth]: [usize; 3],
        a: &Factor<'_, D::Memory>,
        b: &Factor<'_, D::Memory>,
        c: &Buffer<D::Memory>,
        after: After,
    ) -> Product {
        Product {
            m: columns,
            n: rows,
            k: depth,
            a: b.lie([depth, columns]),
            b: a.lie([rows, depth]),
            leading_c: columns,
            adds: false,
            factors: self.activations_are(),
            result: c.number(),
            after,
        }
    }
}
