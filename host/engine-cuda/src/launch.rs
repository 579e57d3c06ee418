//! How the device calls its driver: grids for the shapes that kernels come in, memory that is kept between calls, and the first
//! failure, after which nothing runs.
//!
//! Not here: any kernel's own call.

use engine::EngineError;
use engine_native::kernels::Write;

use crate::buffer::{Buffer, Held};
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Grid};

/// Threads of a block, where a kernel asks for no other number; the kernels' `THREADS`.
pub(crate) const THREADS: usize = 256;
const WARP: usize = 32;

/// Blocks by rows and columns, before it is known whether CUDA takes so many, and the threads of each.
pub(crate) struct Blocks {
    x: usize,
    y: usize,
    threads: usize,
}

impl Blocks {
    /// A thread for each element.
    pub(crate) fn of_elements(len: usize) -> Blocks {
        Blocks::of(len.div_ceil(THREADS))
    }

    /// A warp for each row.
    pub(crate) fn of_warps(rows: usize) -> Blocks {
        Blocks::of(rows.div_ceil(THREADS / WARP))
    }

    /// A thread for each element of a matrix: rows along x, columns along y.
    pub(crate) fn of_matrix(rows: usize, columns: usize) -> Blocks {
        Blocks { y: columns.div_ceil(THREADS), ..Blocks::of(rows) }
    }

    /// So many.
    pub(crate) fn of(blocks: usize) -> Blocks {
        Blocks { x: blocks, y: 1, threads: THREADS }
    }

    /// With so many threads each, which the kernel counts on.
    pub(crate) fn with_threads(self, threads: usize) -> Blocks {
        Blocks { threads, ..self }
    }
}

/// Tensors that one launch takes, each with blocks of its own, which follow each other.
pub(crate) struct Row {
    lens: Vec<u64>,
    ends: Vec<u32>,
}

impl Row {
    /// At most [`MANY`](crate::driver::MANY), with so many elements for each block.
    pub(crate) fn of(lens: impl Iterator<Item = usize>, elements_of_a_block: usize) -> Row {
        let mut row = Row { lens: Vec::new(), ends: Vec::new() };
        for len in lens {
            let end = row.blocks() + len.div_ceil(elements_of_a_block);
            row.lens.push(len as u64);
            row.ends.push(u32::try_from(end).expect("2^32 blocks of elements would not fit any device"));
        }
        row
    }

    pub(crate) fn blocks(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    pub(crate) fn lens<'a, M>(&self) -> Argument<'a, M> {
        Argument::U64Each(self.lens.clone())
    }

    /// The first block behind those of each.
    pub(crate) fn ends<'a, M>(&self) -> Argument<'a, M> {
        Argument::U32Each(self.ends.clone())
    }
}

/// A dimension of a model or a batch.
pub(crate) fn count<'a, M>(count: usize) -> Argument<'a, M> {
    Argument::U32(u32::try_from(count).expect("a dimension beyond 2^32 would not fit any device"))
}

/// A number of elements or rows.
pub(crate) fn long<'a, M>(count: usize) -> Argument<'a, M> {
    Argument::U64(count as u64)
}

/// Yes or no, as kernels take it.
pub(crate) fn flag<'a, M>(flag: bool) -> Argument<'a, M> {
    Argument::U32(flag.into())
}

/// What is kept from call to call, as large as the largest call has needed.
pub(crate) struct Scratch<M> {
    memory: Option<(M, Held)>,
    bytes: usize,
}

impl<M> Default for Scratch<M> {
    fn default() -> Scratch<M> {
        Scratch { memory: None, bytes: 0 }
    }
}

impl<D: Driver> Cuda<D> {
    /// Runs a kernel; one without blocks has nothing to do.
    pub(crate) fn launch(
        &self,
        kernel: &'static str,
        Blocks { x, y, threads }: Blocks,
        arguments: &[Argument<'_, D::Memory>],
    ) -> Result<(), EngineError> {
        if x == 0 || y == 0 {
            return Ok(());
        }
        let [Some(x), Some(y)] = [(x, i32::MAX as usize), (y, u16::MAX.into())]
            .map(|(blocks, most)| u32::try_from(blocks).ok().filter(|_| blocks <= most))
        else {
            return Err(EngineError::Device(format!(
                "{kernel} would take {x} x {y} blocks, more than CUDA has"
            )));
        };
        self.driver.launch(kernel, Grid { blocks: [x, y], threads: threads as u32 }, arguments)
    }

    /// Memory of at least so many bytes, with whatever the last call left in it.
    pub(crate) fn reserve<'s>(
        &self,
        scratch: &'s mut Scratch<D::Memory>,
        bytes: usize,
    ) -> Result<&'s mut D::Memory, EngineError> {
        if scratch.memory.is_none() || scratch.bytes < bytes {
            // What was there goes first, so that both are never held.
            scratch.memory = None;
            let held = Held::new(&self.ledger, bytes as u64);
            scratch.memory = Some((self.driver.allocate(bytes.max(1))?, held));
            scratch.bytes = bytes;
        }
        let (memory, _) = scratch.memory.as_mut().expect("it was just made");
        Ok(memory)
    }

    /// A sum that replaces what was there starts at zero.
    pub(crate) fn start(&self, buffer: &mut Buffer<D::Memory>, write: Write) -> Result<(), EngineError> {
        let bytes = buffer.len() * buffer.number().bytes();
        match write {
            Write::Replace => self.driver.clear(buffer.memory_mut()?, bytes),
            Write::Add => Ok(()),
        }
    }

    /// Does it unless the device has failed before; `T::default()` where it has, or now does.
    pub(crate) fn attempt<T: Default>(&self, work: impl FnOnce() -> Result<T, EngineError>) -> T {
        if self.failure.borrow().is_some() {
            return T::default();
        }
        work().unwrap_or_else(|error| {
            self.failure.replace(Some(error));
            T::default()
        })
    }
}
