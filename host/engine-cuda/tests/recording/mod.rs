//! A driver that computes nothing and writes down what it is asked for, line by line; only for tests.

use std::sync::{Arc, Mutex, PoisonError};

use engine::{EngineError, Precision};
use engine_cuda::driver::{After, Argument, Driver, Grid, Number, Place, PlaceMut, Product, Then};

/// What was asked for; clones see the same.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<String>>>);

impl Record {
    /// The lines since the last call of this.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// The driver. It has memory for so many pieces, and refuses the next.
pub(crate) struct Recording {
    pub(crate) record: Record,
    pub(crate) pieces: Mutex<usize>,
    pub(crate) precision: Precision,
}

impl Recording {
    /// With more memory than anybody needs.
    pub(crate) fn new(record: &Record) -> Recording {
        Recording { record: record.clone(), pieces: Mutex::new(usize::MAX), precision: Precision::Fp32 }
    }
}

impl Driver for Recording {
    type Memory = ();
    type Later = usize;

    fn words(&self) -> String {
        "cuda, recorded".into()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn allocate(&self, bytes: usize) -> Result<(), EngineError> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let full = EngineError::OutOfMemory { device: self.words(), what: format!("{bytes} bytes") };
        *pieces = pieces.checked_sub(1).ok_or(full)?;
        Ok(())
    }

    fn clear(&self, (): &mut (), _: usize) -> Result<(), EngineError> {
        self.record.add("clear".into());
        Ok(())
    }

    fn upload(&self, bytes: &[u8], (): &mut ()) -> Result<(), EngineError> {
        self.record.add(format!("upload {} numbers", bytes.len() / 4));
        Ok(())
    }

    fn download(&self, (): &(), to: &mut [u8]) -> Result<(), EngineError> {
        self.record.add(format!("download {} bytes", to.len()));
        Ok(())
    }

    fn submit(&self) -> Result<(), EngineError> {
        self.record.add("submit".into());
        Ok(())
    }

    fn download_later(&self, (): &(), bytes: usize) -> Result<usize, EngineError> {
        self.record.add(format!("download {bytes} bytes later"));
        Ok(bytes)
    }

    fn arrived(&self, later: &usize, to: &mut [u8]) -> Result<(), EngineError> {
        assert_eq!(*later, to.len());
        self.record.add(format!("wait for {later} bytes"));
        Ok(())
    }

    fn copy(&self, _: Place<'_, ()>, _: PlaceMut<'_, ()>, bytes: usize) -> Result<(), EngineError> {
        self.record.add(format!("copy {} numbers", bytes / 4));
        Ok(())
    }

    fn launch(
        &self,
        kernel: &'static str,
        grid: Grid,
        arguments: &[Argument<'_, ()>],
    ) -> Result<(), EngineError> {
        let Grid { blocks: [x, y], .. } = grid;
        let tensors = arguments.iter().find_map(|argument| match argument {
            Argument::U64Each(lens) => Some(format!(", {} tensors", lens.len())),
            _ => None,
        });
        self.record.add(format!("{kernel}, {x} x {y} blocks{}", tensors.unwrap_or_default()));
        Ok(())
    }

    fn multiply(
        &self,
        product: &Product,
        _: Place<'_, ()>,
        _: Place<'_, ()>,
        _: PlaceMut<'_, ()>,
        _: Then<'_, ()>,
    ) -> Result<bool, EngineError> {
        // Row by row, as the step sees it.
        let Product { m, n, k, adds, factors, result, after, .. } = product;
        let numbers = match (factors, result) {
            (Number::F32, Number::F32) => String::new(),
            (factors, result) => format!(", {factors:?} to {result:?}"),
        };
        let adds = if *adds { ", added" } else { "" };
        let then = match after {
            After::Nothing => "",
            After::Bias => ", bias",
            After::BiasAndMatrix => ", bias, residual",
            After::BiasGelu { keeps: false } => ", bias, gelu",
            After::BiasGelu { keeps: true } => ", bias, gelu with its input",
            After::GeluSlope => ", through gelu",
        };
        self.record.add(format!("product {n} x {m}, depth {k}{adds}{numbers}{then}"));
        Ok(true)
    }
}
