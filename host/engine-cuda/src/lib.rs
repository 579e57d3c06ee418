//! The native engine on CUDA: its kernels in plain forms, attention in bfloat16 on tensor cores as well, in f32, TF32 or bfloat16,
//! launched through a narrow [`Driver`], so that all but the calls of CUDA's own libraries is proved without a GPU.
//!
//! Not here: the step itself (engine-native), and which device a user gets.

mod adamw;
mod argument;
mod attention;
mod buffer;
mod classifier;
mod columns;
mod device;
pub mod driver;
mod elements;
mod embed;
mod factors;
mod launch;
mod linear;
mod norm;
pub mod nvidia;
mod product;
mod row_major;
pub mod sources;
mod tally;
mod tokens;

pub use buffer::Buffer;
pub use device::Cuda;
pub use driver::Driver;

use std::sync::Arc;

use engine::{Engine, EngineError, ModelShape, Precision};
use engine_native::{KernelTimes, Step, Timed};

/// The native engine on a GPU in that precision: a model of that shape with its shared tensors at zero and no block.
///
/// # Errors
/// A shape that describes no GPT-2, or a device that fails or has no memory for it.
pub fn build(
    shape: &ModelShape,
    machine: &Arc<nvidia::Machine>,
    precision: Precision,
) -> Result<Box<dyn Engine>, EngineError> {
    Ok(Box::new(Step::new(shape, Cuda::on(machine.queue(precision)?))?))
}

/// The same, waiting for each kernel, whose time it takes; and these times.
///
/// # Errors
/// As for [`build`].
pub fn build_timed(
    shape: &ModelShape,
    machine: &Arc<nvidia::Machine>,
    precision: Precision,
) -> Result<(Box<dyn Engine>, KernelTimes), EngineError> {
    let step = Step::new(shape, Timed::new(Cuda::on(machine.queue(precision)?)))?;
    let times = step.kernels().times();
    Ok((Box::new(step), times))
}
