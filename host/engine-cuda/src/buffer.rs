//! A flat array of numbers on the device, the copy of it that products read, and how much memory all of them take. Not here: what
//! is in them.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::EngineError;

use crate::driver::{Argument, Number, Place, PlaceMut};

/// The CUDA device's buffer.
#[derive(Debug)]
pub struct Buffer<M> {
    /// `None` where the device had no memory for it: the device has failed then and runs nothing any more.
    memory: Option<M>,
    len: usize,
    number: Number,
    /// Of what products read, where this is in f32 and they read bfloat16.
    copy: RefCell<Option<FactorCopy<M>>>,
    _held: Held,
}

/// A buffer as products read it.
#[derive(Debug)]
pub(crate) struct FactorCopy<M> {
    pub(crate) memory: M,
    /// Whether it is what the buffer is now.
    pub(crate) is_current: bool,
    pub(crate) _held: Held,
}

impl<M> Buffer<M> {
    pub(crate) fn new(memory: Option<M>, len: usize, number: Number, held: Held) -> Buffer<M> {
        Buffer { memory, len, number, copy: RefCell::default(), _held: held }
    }

    pub(crate) fn number(&self) -> Number {
        self.number
    }

    /// It as products read it, once it has been asked for.
    pub(crate) fn copy(&self) -> &RefCell<Option<FactorCopy<M>>> {
        &self.copy
    }

    /// It and its copy, to write both; the copy is current afterwards.
    pub(crate) fn with_copy(&mut self) -> Result<(&mut M, Option<&mut M>), EngineError> {
        self.check(Number::F32)?;
        let copy = self.copy.get_mut().as_mut().map(|copy| {
            copy.is_current = true;
            &mut copy.memory
        });
        Ok((self.memory.as_mut().ok_or_else(absent)?, copy))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn memory(&self) -> Result<&M, EngineError> {
        self.memory.as_ref().ok_or_else(absent)
    }

    /// To be written: a copy is not current any more.
    pub(crate) fn memory_mut(&mut self) -> Result<&mut M, EngineError> {
        if let Some(copy) = self.copy.get_mut() {
            copy.is_current = false;
        }
        self.memory.as_mut().ok_or_else(absent)
    }

    /// To be written as such numbers.
    pub(crate) fn memory_mut_as(&mut self, number: Number) -> Result<&mut M, EngineError> {
        self.check(number)?;
        self.memory_mut()
    }

    /// From its element `first` on.
    pub(crate) fn at(&self, first: usize) -> Result<Place<'_, M>, EngineError> {
        Ok(Place { memory: self.memory()?, first_byte: first * self.number.bytes() })
    }

    /// The same, to write to.
    pub(crate) fn at_mut(&mut self, first: usize) -> Result<PlaceMut<'_, M>, EngineError> {
        let first_byte = first * self.number.bytes();
        Ok(PlaceMut { memory: self.memory_mut()?, first_byte })
    }

    /// For a kernel that reads f32.
    pub(crate) fn read(&self) -> Result<Argument<'_, M>, EngineError> {
        self.read_as(Number::F32)
    }

    /// For a kernel that writes f32.
    pub(crate) fn write(&mut self) -> Result<Argument<'_, M>, EngineError> {
        self.write_as(Number::F32)
    }

    /// For a kernel that reads such numbers.
    pub(crate) fn read_as(&self, number: Number) -> Result<Argument<'_, M>, EngineError> {
        self.check(number)?;
        Ok(Argument::Read(self.at(0)?))
    }

    /// For a kernel that writes such numbers.
    pub(crate) fn write_as(&mut self, number: Number) -> Result<Argument<'_, M>, EngineError> {
        Ok(Argument::Write(self.memory_mut_as(number)?))
    }

    pub(crate) fn check(&self, number: Number) -> Result<(), EngineError> {
        let other = || EngineError::Device(format!("{number:?} is wanted of a buffer of {:?}", self.number));
        (self.number == number).then_some(()).ok_or_else(other)
    }
}

/// The argument for a buffer of such numbers that need not be there.
pub(crate) fn write_if_any<M>(
    buffer: Option<&mut Buffer<M>>,
    number: Number,
) -> Result<Argument<'_, M>, EngineError> {
    buffer.map_or(Ok(Argument::Nothing), |buffer| buffer.write_as(number))
}

fn absent() -> EngineError {
    EngineError::Device("a buffer was never allocated".into())
}

/// Bytes that are held now, and the most that ever were.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Ledger {
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

/// An entry of the ledger, which ends with what it was made for.
#[derive(Debug)]
pub(crate) struct Held {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Held {
    pub(crate) fn new(ledger: &Arc<Ledger>, bytes: u64) -> Held {
        let now = ledger.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        ledger.peak.fetch_max(now, Ordering::Relaxed);
        Held { ledger: Arc::clone(ledger), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ledger.now.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
