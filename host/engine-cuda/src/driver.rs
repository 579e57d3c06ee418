//! What lies beneath the CUDA device: memory, kernels by name, and products of matrices; so that all that is above
//! can be tried without a GPU. Calls of one driver run one after another, in the order in which they are made.
//!
//! Not here: any driver, and what the kernels are called for.

use engine::{Clocks, EngineError, GraphCounts, Precision};

pub use crate::argument::{Argument, MANY, Words};
pub use crate::product::{After, Lie, Product, Then};

/// Memory, kernels and matrix products of one machine.
pub trait Driver: Send {
    /// A piece of its memory; given back when it is dropped.
    type Memory: Send;
    /// Bytes on their way to the host.
    type Later: Send;

    /// The device in words.
    fn words(&self) -> String;

    /// In which numbers its kernels compute: [`Number::of_activations`] says what they take.
    fn precision(&self) -> Precision;

    /// What the machine has used since some moment that stays the same; `None` where it does not tell.
    fn millijoules(&self) -> Option<u64> {
        None
    }

    /// How fast it runs at this moment, where it tells.
    fn clocks(&self) -> Option<Clocks> {
        None
    }

    /// What has become of calls so far, where it makes graphs of them.
    fn graphs(&self) -> Option<GraphCounts> {
        None
    }

    /// Bytes that the driver itself holds, for as long as it lives.
    fn own_bytes(&self) -> u64 {
        0
    }

    /// That many bytes, all zero.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`], or a failing device.
    fn allocate(&self, bytes: usize) -> Result<Self::Memory, EngineError>;

    /// Makes the first `bytes` zero.
    ///
    /// # Errors
    /// A failing device; so for all that follow.
    fn clear(&self, memory: &mut Self::Memory, bytes: usize) -> Result<(), EngineError>;

    /// All calls so far begin: until then a driver may keep them back, to begin them together.
    ///
    /// # Errors
    /// See [`clear`](Driver::clear).
    fn submit(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Until all calls so far are done.
    ///
    /// # Errors
    /// See [`clear`](Driver::clear).
    fn wait(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Overwrites the beginning; `bytes` is free again when the call returns, though they may not have arrived yet.
    ///
    /// # Errors
    /// See [`clear`](Driver::clear).
    fn upload(&self, bytes: &[u8], to: &mut Self::Memory) -> Result<(), EngineError>;

    /// Reads the beginning, once all earlier calls are done: what failed in them is told here at the latest.
    ///
    /// # Errors
    /// See [`clear`](Driver::clear).
    fn download(&self, from: &Self::Memory, to: &mut [u8]) -> Result<(), EngineError>;

    /// The same without waiting: `bytes` of the beginning, as all earlier calls leave them.
    ///
    /// # Errors
    /// See [`clear`](Driver::clear).
    fn download_later(&self, from: &Self::Memory, bytes: usize) -> Result<Self::Later, EngineError>;

    /// Those bytes, once they have arrived.
    ///
    /// # Errors
    /// See [`download`](Driver::download).
    fn arrived(&self, later: &Self::Later, to: &mut [u8]) -> Result<(), EngineError>;

    /// Copies bytes from a place to one in another piece.
    ///
    /// # Errors
    /// See [`clear`](Driver::clear).
    fn copy(
        &self,
        from: Place<'_, Self::Memory>,
        to: PlaceMut<'_, Self::Memory>,
        bytes: usize,
    ) -> Result<(), EngineError>;

    /// Runs a kernel. The arguments are those of its source in number, order and type.
    ///
    /// # Errors
    /// A kernel that there is not; see [`clear`](Driver::clear).
    fn launch(
        &self,
        kernel: &'static str,
        grid: Grid,
        arguments: &[Argument<'_, Self::Memory>],
    ) -> Result<(), EngineError>;

    /// Multiplies matrices, with sums in f32, and does at once what follows. Answers whether it did: a driver that knows no way to
    /// do a product together with what follows it has done nothing then; a product alone it always does.
    ///
    /// # Errors
    /// See [`clear`](Driver::clear).
    fn multiply(
        &self,
        product: &Product,
        a: Place<'_, Self::Memory>,
        b: Place<'_, Self::Memory>,
        c: PlaceMut<'_, Self::Memory>,
        then: Then<'_, Self::Memory>,
    ) -> Result<bool, EngineError>;
}

/// A place in a piece of memory.
#[derive(Debug)]
pub struct Place<'a, M> {
    /// The piece.
    pub memory: &'a M,
    /// The byte that is meant.
    pub first_byte: usize,
}

/// A place to write to.
#[derive(Debug)]
pub struct PlaceMut<'a, M> {
    /// The piece.
    pub memory: &'a mut M,
    /// The byte that is meant.
    pub first_byte: usize,
}

/// Blocks of a launch, and threads of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// `blockIdx.x` runs to the first, `blockIdx.y` to the second.
    pub blocks: [u32; 2],
    /// `threadIdx.x` runs to it.
    pub threads: u32,
}

/// What stands in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    /// `float`.
    F32,
    /// bfloat16.
    Bf16,
}

impl Number {
    /// What activations are kept in, and what products read.
    pub fn of_activations(precision: Precision) -> Number {
        match precision {
            Precision::Fp32 | Precision::Tf32 => Number::F32,
            Precision::Bf16 => Number::Bf16,
        }
    }

    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Number::F32 => size_of::<f32>(),
            Number::Bf16 => size_of::<half::bf16>(),
        }
    }
}
