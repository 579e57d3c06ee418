//! The oracle: GPT-2 on Burn's autodiff, on the CPU (Flex) or, behind the feature `burn-cuda`, on CUDA.
//!
//! Nothing of Burn leaves this crate: callers get a boxed [`Engine`]. Not here: the fast engines, files,
//! schedules, and any choice of what trains.

mod adamw;
mod attention;
#[cfg(feature = "burn-cuda")]
mod cuda;
mod evaluate;
mod model;
mod operation;
mod oracle;
mod param;
mod pointwise;
mod stack;
mod step;

use burn::backend::Flex;
use engine::{BlockKind, Energy, Engine, EngineError, ModelShape};

/// The engine's name in messages and in [`engine::EngineInfo`].
const NAME: &str = "burn";

/// Where an engine computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Burn's Flex backend, on the calling thread.
    Cpu,
    /// The first CUDA device; needs the cargo feature `burn-cuda`.
    Cuda,
}

/// A model of that shape with its shared tensors at zero and no block.
///
/// # Errors
/// A shape that describes no GPT-2, or a device that is not there: CUDA is never replaced by the CPU.
pub fn build(shape: &ModelShape, device: Device) -> Result<Box<dyn Engine>, EngineError> {
    check(shape)?;
    match device {
        Device::Cpu => {
            let words = "cpu (Burn Flex)".to_owned();
            Ok(Box::new(oracle::Oracle::<Flex>::new(shape, Default::default(), words, Energy::OfHost)))
        }
        #[cfg(feature = "burn-cuda")]
        Device::Cuda => cuda::build(shape),
        #[cfg(not(feature = "burn-cuda"))]
        Device::Cuda => Err(cuda_unavailable(
            "the engine `burn` was built without it; rebuild with `--features burn-cuda`, or choose the cpu",
        )),
    }
}

fn check(shape: &ModelShape) -> Result<(), EngineError> {
    let unsupported = |what| EngineError::Unsupported { engine: NAME, what };
    if shape.block != BlockKind::GPT2 {
        return Err(unsupported(format!("the block {:?}: it knows GPT-2's only", shape.block)));
    }
    shape.check().map_err(|error| unsupported(format!("this shape: {error}; {}", error.hint)))
}

fn cuda_unavailable(reason: impl Into<String>) -> EngineError {
    EngineError::DeviceUnavailable { device: "cuda".into(), reason: reason.into() }
}
