//! Calls that sum a matrix column by column. Not here: the arithmetic (cu/columns.cu).

use engine::EngineError;
use engine_native::kernels::{Sink, Write};

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Number, Place};
use crate::launch::{Blocks, count, flag, long};

/// The kernels' `ROWS_OF_A_CHUNK`.
const ROWS_OF_A_CHUNK: usize = 64;

/// Sums of chunks of rows, as they lie in memory.
pub(crate) struct Chunks {
    pub(crate) count: usize,
    /// The number that the first chunk's first column is.
    pub(crate) first: usize,
    /// Numbers from a chunk to the next.
    pub(crate) stride: usize,
    pub(crate) columns: usize,
}

/// f32s of the partial sums over that many rows.
pub(crate) fn partials(rows: usize, columns: usize) -> usize {
    rows.div_ceil(ROWS_OF_A_CHUNK) * columns
}

impl<D: Driver> Cuda<D> {
    /// The sum of all rows of `x[rows, columns]`.
    pub(crate) fn sum_of_rows(
        &self,
        x: &Buffer<D::Memory>,
        [rows, columns]: [usize; 2],
        sink: Sink<'_, Buffer<D::Memory>>,
    ) -> Result<(), EngineError> {
        let chunks = rows.div_ceil(ROWS_OF_A_CHUNK);
        let mut numbers = self.numbers.borrow_mut();
        let sums = self.reserve(&mut numbers, size_of::<f32>() * partials(rows, columns))?;
        let kernel = match x.number() {
            Number::F32 => "columns_of_chunks",
            Number::Bf16 => "columns_of_chunks_of_activations",
        };
        let arguments = [x.read_as(x.number())?, Argument::Write(sums), long(rows), count(columns)];
        self.launch(kernel, Blocks::of_matrix(chunks, columns), &arguments)?;
        let sums = Place { memory: &*sums, first_byte: 0 };
        self.add_chunks(sums, Chunks { count: chunks, first: 0, stride: columns, columns }, sink)
    }

    /// What the chunks come to.
    pub(crate) fn add_chunks(
        &self,
        sums: Place<'_, D::Memory>,
        chunks: Chunks,
        sink: Sink<'_, Buffer<D::Memory>>,
    ) -> Result<(), EngineError> {
        let Chunks { count: number, first, stride, columns } = chunks;
        let (sums, out) = (Argument::Read(sums), sink.buffer.write()?);
        let adds = flag(sink.write == Write::Add);
        let arguments = [sums, out, count(number), long(first), long(stride), count(columns), adds];
        self.launch("add_chunks", Blocks::of_elements(columns), &arguments)
    }
}
