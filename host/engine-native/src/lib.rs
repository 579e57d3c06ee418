//! The native engine: one GPT-2 training step written once over a small set of kernels, and its devices.
//!
//! Callers get a boxed [`Engine`]; tests and benchmarks may name [`Step`] and a device, for what the trait
//! does not tell (exact FLOPs, a time table). Not here: files, schedules, and any choice of what trains.

mod arena;
mod backward;
mod cpu;
mod evaluate;
mod forward;
pub mod kernels;
mod memory;
mod param;
mod plan;
mod pool;
pub mod proof;
mod rate;
mod reference;
mod stack;
mod statistics;
mod step;
mod timed;

use std::num::NonZeroUsize;

use engine::{BlockKind, Engine, EngineError, ModelShape};

pub use cpu::{Cpu, Level};
pub use kernels::Kernels;
pub use rate::sgemm_gflops_per_second;
pub use reference::Reference;
pub use step::Step;
pub use timed::{ALLOCATION, KernelTime, KernelTimes, Timed};

/// The engine's name in messages and in [`engine::EngineInfo`].
const NAME: &str = "native";

/// Where an engine computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// f32 on the best vector instructions that the processor has.
    Cpu {
        /// Threads of its own; `None` uses the rayon pool that the caller runs in.
        threads: Option<NonZeroUsize>,
    },
    /// f64 in plain loops on the calling thread: an oracle, not fast.
    Reference,
}

/// A model of that shape with its shared tensors at zero and no block.
///
/// # Errors
/// A shape that describes no GPT-2, or threads that cannot be started.
pub fn build(shape: &ModelShape, device: Device) -> Result<Box<dyn Engine>, EngineError> {
    match device {
        Device::Reference => Ok(Box::new(Step::new(shape, Reference)?)),
        Device::Cpu { threads: None } => Ok(Box::new(Step::new(shape, Cpu::new())?)),
        Device::Cpu { threads: Some(threads) } => pool::InPool::boxed(Step::new(shape, Cpu::new())?, threads),
    }
}

/// A model on the CPU whose kernels are timed, in the pool that it is used in; and their times.
///
/// # Errors
/// As for [`build`].
pub fn build_timed(shape: &ModelShape) -> Result<(Box<dyn Engine>, KernelTimes), EngineError> {
    let step = Step::new(shape, Timed::new(Cpu::new()))?;
    let times = step.kernels().times();
    Ok((Box::new(step), times))
}

fn check(shape: &ModelShape) -> Result<(), EngineError> {
    let unsupported = |what| EngineError::Unsupported { engine: NAME, what };
    if shape.block != BlockKind::GPT2 {
        return Err(unsupported(format!("the block {:?}: it knows GPT-2's only", shape.block)));
    }
    shape.check().map_err(|error| unsupported(format!("this shape: {error}; {}", error.hint)))
}
