//! Calls element by element, copies of whole sequences, and sums in double precision. Not here: the arithmetic
//! (cu/elements.cu).

use engine::EngineError;
use engine_native::kernels::{Comparison, Form};

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Place};
use crate::launch::{Blocks, count, flag, long};

/// Elements that one block sums; the kernels' `CHUNK`.
pub(crate) const CHUNK: usize = 1 << 14;

/// f64s of the sums of chunks, one kind of sum for each.
pub(crate) fn chunks(len: usize) -> usize {
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
        let mut totals = self.totals.borrow_mut();
        let out = self.reserve(&mut totals, size_of::<[f64; 4]>())?;
        self.total(sums, Totals { chunks: chunks(len), kinds: 4, first: 0, adds: false }, out)?;
        let mut read = [0.0; 4];
        self.driver.download(out, bytemuck::cast_slice_mut(&mut read))?;
        let [squares_a, squares_b, product, squares_of_difference] = read;
        Ok(Comparison { squares_a, squares_b, product, squares_of_difference })
    }

    /// What rows of sums of chunks come to.
    pub(crate) fn total(
        &self,
        sums: &D::Memory,
        Totals { chunks, kinds, first, adds }: Totals,
        out: &mut D::Memory,
    ) -> Result<(), EngineError> {
        let sums = Argument::Read(Place { memory: sums, first_byte: 0 });
        let arguments = [sums, Argument::Write(out), long(chunks), count(kinds), count(first), flag(adds)];
        self.launch("total", Blocks::of(1), &arguments)
    }
}

/// Sums of chunks, `[chunks, kinds]`, and where in f64s their totals go or are added.
pub(crate) struct Totals {
    pub(crate) chunks: usize,
    pub(crate) kinds: usize,
    pub(crate) first: usize,
    pub(crate) adds: bool,
}

pub(crate) fn sums_bytes(chunks: usize, kinds: usize) -> usize {
    chunks * kinds * size_of::<f64>()
}
