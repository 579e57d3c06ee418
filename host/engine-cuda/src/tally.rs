//! What a step comes to, summed on the device and read late: its losses, and the squared norm of its gradients. Not here: the
//! sums over elements (cu/elements.cu).

use engine::EngineError;
use engine_native::kernels::Tallied;

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::{Argument, Driver, MANY, Place};
use crate::elements::{CHUNK, Totals, chunks, sums_bytes};
use crate::launch::{Blocks, Row, long};

/// Both sums, in the order in which they stand on the device.
const SUMS: usize = 2;
const LOSS: usize = 0;
const SQUARED_NORM: usize = 1;
const BYTES: usize = SUMS * size_of::<f64>();

/// Both sums on the device.
#[derive(Debug)]
pub struct Tally<M>(Option<M>);

impl<M> Tally<M> {
    pub(crate) fn read(&self) -> Result<Argument<'_, M>, EngineError> {
        let memory = self.0.as_ref().ok_or_else(absent)?;
        Ok(Argument::Read(Place { memory, first_byte: 0 }))
    }

    fn memory_mut(&mut self) -> Result<&mut M, EngineError> {
        self.0.as_mut().ok_or_else(absent)
    }
}

/// Both sums on their way; `None` of a device that has failed.
#[derive(Debug)]
pub struct Reading<L>(Option<L>);

impl<D: Driver> Cuda<D> {
    pub(crate) fn new_tally(&self) -> Tally<D::Memory> {
        Tally(self.attempt(|| self.driver.allocate(BYTES).map(Some)))
    }

    pub(crate) fn restart_tally(&self, tally: &mut Tally<D::Memory>) -> Result<(), EngineError> {
        self.driver.clear(tally.memory_mut()?, BYTES)
    }

    pub(crate) fn add_to_tally(
        &self,
        losses: &Buffer<D::Memory>,
        len: usize,
        tally: &mut Tally<D::Memory>,
    ) -> Result<(), EngineError> {
        let mut numbers = self.numbers.borrow_mut();
        let sums = self.reserve(&mut numbers, sums_bytes(chunks(len), 1))?;
        let arguments = [losses.read()?, Argument::Write(&mut *sums), long(len)];
        self.launch("sum_of_chunks", Blocks::of(chunks(len)), &arguments)?;
        let totals = Totals { chunks: chunks(len), kinds: 1, first: LOSS, adds: true };
        self.total(sums, totals, tally.memory_mut()?)
    }

    pub(crate) fn finish(
        &self,
        gradients: &[(&Buffer<D::Memory>, usize)],
        tally: &mut Tally<D::Memory>,
    ) -> Result<Reading<D::Later>, EngineError> {
        let all: usize = gradients.iter().map(|(_, len)| chunks(*len)).sum();
        let mut numbers = self.numbers.borrow_mut();
        let sums = self.reserve(&mut numbers, sums_bytes(all, 1))?;
        let mut first = 0;
        for gradients in gradients.chunks(MANY) {
            let row = Row::of(gradients.iter().map(|(_, len)| *len), CHUNK);
            let places = gradients.iter().map(|(gradient, _)| gradient.at(0)).collect::<Result<_, _>>()?;
            let sums = Argument::Write(&mut *sums);
            let arguments = [Argument::ReadEach(places), row.lens(), row.ends(), sums, long(first)];
            self.launch("squares_of_chunks", Blocks::of(row.blocks()), &arguments)?;
            first += row.blocks();
        }
        let totals = Totals { chunks: all, kinds: 1, first: SQUARED_NORM, adds: false };
        self.total(sums, totals, tally.memory_mut()?)?;
        Ok(Reading(Some(self.driver.download_later(tally.memory_mut()?, BYTES)?)))
    }

    pub(crate) fn read_tally(&self, reading: &Reading<D::Later>) -> Result<Tallied, EngineError> {
        let mut sums = [0.0; SUMS];
        let later = reading.0.as_ref().ok_or_else(absent)?;
        self.driver.arrived(later, bytemuck::cast_slice_mut(&mut sums))?;
        Ok(Tallied { loss_nats: sums[LOSS], squared_norm: sums[SQUARED_NORM] })
    }
}

impl<L> Default for Reading<L> {
    fn default() -> Reading<L> {
        Reading(None)
    }
}

fn absent() -> EngineError {
    EngineError::Device("a tally was never made".into())
}
