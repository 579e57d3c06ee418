//! Calls element by element, copies of whole sequences, and sums in double precision. Not here: the arithmetic
//! (cu/elements.cu).

use engine::EngineError;
use engine_native::kernels::{Comparison, Form};

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Place};
use crate::launch::{Blocks, count, long};

/// Elements that one block sums; the kernels' `CHUNK`.
const CHUNK: usize = 1 << 14;

/// f64s of the sums of chunks, one kind of sum for each.
fn chunks(len: usize) -> usize {
    len.div_ceil(CHUNK)
}

impl<D: Driver> Cuda<D> {
    pub(crate) fn copy_elements(
        &self,
        (from, from_first): (&Buffer<D::Memory>, usize),
        (to, to_first): (&mut Buffer<D::Memory>, usize),
        len: usize,
    ) -> Result<(), EngineError> {
        to.check(from.number())?;
        self.driver.copy(from.at(from_first)?, to.at_mut(to_first)?, len * from.number().bytes())
    }

    pub(crate) fn scaled(
        &self,
        len: usize,
        factor: f32,
        from: &Buffer<D::Memory>,
        to: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let to = to.write_as(self.activations_are())?;
        let arguments = [from.read()?, to, Argument::F32(factor), long(len)];
        self.launch("scale", Blocks::of_elements(len), &arguments)
    }

    /// Sequences `from` lie where `at` says, and go to the beginning.
    pub(crate) fn gather_sequences(
        &self,
        form: &Form,
        at: &[usize],
        from: &Buffer<D::Memory>,
        to: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let len = form.length * form.width;
        at.iter()
            .enumerate()
            .try_for_each(|(i, sequence)| self.copy_elements((from, sequence * len), (to, i * len), len))
    }

    /// The inverse.
    pub(crate) fn scatter_sequences(
        &self,
        form: &Form,
        at: &[usize],
        from: &Buffer<D::Memory>,
        to: &mut Buffer<D::Memory>,
    ) -> Result<(), EngineError> {
        let len = form.length * form.width;
        at.iter()
            .enumerate()
            .try_for_each(|(i, sequence)| self.copy_elements((from, i * len), (to, sequence * len), len))
    }

    pub(crate) fn sum_of(&self, x: &Buffer<D::Memory>, len: usize) -> Result<f64, EngineError> {
        let mut numbers = self.numbers.borrow_mut();
        let sums = self.reserve(&mut numbers, sums_bytes(chunks(len), 1))?;
        let arguments = [x.read()?, Argument::Write(&mut *sums), long(len)];
        self.launch("sum_of_chunks", Blocks::of(chunks(len)), &arguments)?;
        let [sum] = self.total(sums, chunks(len))?;
        Ok(sum)
    }

    pub(crate) fn compare_elements(
        &self,
        a: &Buffer<D::Memory>,
        b: &Buffer<D::Memory>,
        len: usize,
    ) -> Result<Comparison, EngineError> {
        let mut numbers = self.numbers.borrow_mut();
        let sums = self.reserve(&mut numbers, sums_bytes(chunks(len), 4))?;
        let arguments = [a.read()?, b.read()?, Argument::Write(&mut *sums), long(len)];
        self.launch("compare_chunks", Blocks::of(chunks(len)), &arguments)?;
        let [squares_a, squares_b, product, squares_of_difference] = self.total(sums, chunks(len))?;
        Ok(Comparison { squares_a, squares_b, product, squares_of_difference })
    }

    /// Of all buffers together.
    pub(crate) fn squares_of(&self, buffers: &[(&Buffer<D::Memory>, usize)]) -> Result<f64, EngineError> {
        let all: usize = buffers.iter().map(|(_, len)| chunks(*len)).sum();
        let mut numbers = self.numbers.borrow_mut();
        let sums = self.reserve(&mut numbers, sums_bytes(all, 1))?;
        let mut first = 0;
        for (buffer, len) in buffers {
            let arguments = [buffer.read()?, Argument::Write(&mut *sums), long(first), long(*len)];
            self.launch("squares_of_chunks", Blocks::of(chunks(*len)), &arguments)?;
            first += chunks(*len);
        }
        let [sum] = self.total(sums, all)?;
        Ok(sum)
    }

    /// The sums of `chunks` rows of `KINDS` numbers, read back.
    fn total<const KINDS: usize>(
        &self,
        sums: &D::Memory,
        chunks: usize,
    ) -> Result<[f64; KINDS], EngineError> {
        let mut totals = self.totals.borrow_mut();
        let out = self.reserve(&mut totals, size_of::<[f64; KINDS]>())?;
        let sums = Argument::Read(Place { memory: sums, first_byte: 0 });
        let arguments = [sums, Argument::Write(&mut *out), long(chunks), count(KINDS)];
        self.launch("total", Blocks::of(1), &arguments)?;
        let mut read = [0.0; KINDS];
        self.driver.download(out, bytemuck::cast_slice_mut(&mut read))?;
        Ok(read)
    }
}

fn sums_bytes(chunks: usize, kinds: usize) -> usize {
    chunks * kinds * size_of::<f64>()
}
