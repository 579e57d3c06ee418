//! A flat array of f32 on the device, and how much memory all of them take. Not here: what is in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::EngineError;

use crate::driver::{Argument, Place, PlaceMut};

/// The CUDA device's buffer.
#[derive(Debug)]
pub struct Buffer<M> {
    /// `None` where the device had no memory for it: the device has failed then and runs nothing any more.
    memory: Option<M>,
    len: usize,
    _held: Held,
}

impl<M> Buffer<M> {
    pub(crate) fn new(memory: Option<M>, len: usize, held: Held) -> Buffer<M> {
        Buffer { memory, len, _held: held }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn memory(&self) -> Result<&M, EngineError> {
        self.memory.as_ref().ok_or_else(absent)
    }

    pub(crate) fn memory_mut(&mut self) -> Result<&mut M, EngineError> {
        self.memory.as_mut().ok_or_else(absent)
    }

    /// From its element `first` on.
    pub(crate) fn at(&self, first: usize) -> Result<Place<'_, M>, EngineError> {
        Ok(Place { memory: self.memory()?, first_byte: first * size_of::<f32>() })
    }

    /// The same, to write to.
    pub(crate) fn at_mut(&mut self, first: usize) -> Result<PlaceMut<'_, M>, EngineError> {
        Ok(PlaceMut { memory: self.memory_mut()?, first_byte: first * size_of::<f32>() })
    }

    pub(crate) fn read(&self) -> Result<Argument<'_, M>, EngineError> {
        Ok(Argument::Read(self.at(0)?))
    }

    pub(crate) fn write(&mut self) -> Result<Argument<'_, M>, EngineError> {
        Ok(Argument::Write(self.memory_mut()?))
    }
}

/// The argument for a buffer that need not be there.
pub(crate) fn write_if_any<M>(buffer: Option<&mut Buffer<M>>) -> Result<Argument<'_, M>, EngineError> {
    buffer.map_or(Ok(Argument::Nothing), Buffer::write)
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
