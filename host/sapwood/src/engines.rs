//! Picks the engine.

use engine::{Engine, EngineError, ModelShape};

use crate::args::{DeviceName, EngineArgs, EngineName};

/// How the chosen engine is built.
pub(crate) fn builder(
    args: EngineArgs,
) -> impl Fn(&ModelShape) -> Result<Box<dyn Engine>, EngineError> + Sync {
    move |shape| build(shape, args)
}

fn build(shape: &ModelShape, args: EngineArgs) -> Result<Box<dyn Engine>, EngineError> {
    match args.engine {
        EngineName::Burn => burn(shape, args.device),
        // Runs are executed inside a thread pool of their own: no threads are asked for here.
        EngineName::Native => native(shape, args.device, engine_native::Device::Cpu { threads: None }),
        EngineName::Reference => native(shape, args.device, engine_native::Device::Reference),
    }
}

fn native(
    shape: &ModelShape,
    wanted: DeviceName,
    device: engine_native::Device,
) -> Result<Box<dyn Engine>, EngineError> {
    match wanted {
        DeviceName::Cpu => engine_native::build(shape, device),
        DeviceName::Cuda => Err(EngineError::DeviceUnavailable {
            device: "cuda".into(),
            reason: "the engine `native` has no CUDA device yet; `--engine burn` of a binary built with \
                     `--features burn-cuda` has"
                .into(),
        }),
    }
}

#[cfg(feature = "burn")]
fn burn(shape: &ModelShape, device: DeviceName) -> Result<Box<dyn Engine>, EngineError> {
    let device = match device {
        DeviceName::Cpu => engine_burn::Device::Cpu,
        DeviceName::Cuda => engine_burn::Device::Cuda,
    };
    engine_burn::build(shape, device)
}

#[cfg(not(feature = "burn"))]
fn burn(_: &ModelShape, device: DeviceName) -> Result<Box<dyn Engine>, EngineError> {
    Err(EngineError::DeviceUnavailable {
        device: format!("{device:?}").to_lowercase(),
        reason: "this binary was built without the engine `burn`".into(),
    })
}

/// What each engine says of each device: what it is, or why it is not there.
pub(crate) fn devices() -> Vec<(&'static str, &'static str, Result<String, EngineError>)> {
    let shape = engine::contract::tiny_shape();
    let ask =
        |engine, device| build(&shape, EngineArgs { engine, device }).map(|engine| engine.info().device);
    vec![
        ("native", "cpu", ask(EngineName::Native, DeviceName::Cpu)),
        ("native", "cuda", ask(EngineName::Native, DeviceName::Cuda)),
        ("reference", "cpu", ask(EngineName::Reference, DeviceName::Cpu)),
        ("burn", "cpu", ask(EngineName::Burn, DeviceName::Cpu)),
        ("burn", "cuda", ask(EngineName::Burn, DeviceName::Cuda)),
    ]
}
