//! Picks the engine.

use engine::{Engine, EngineError, ModelShape};

use crate::args::{DeviceName, EngineArgs, EngineName};

/// How the chosen engine is built.
pub(crate) fn builder(
    args: EngineArgs,
) -> impl Fn(&ModelShape) -> Result<Box<dyn Engine>, EngineError> + Sync {
    move |shape| match args.engine {
        EngineName::Burn => burn(shape, args.device),
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

/// What each device says of itself: its name, and what it is or why it is not there.
pub(crate) fn devices() -> Vec<(&'static str, Result<String, EngineError>)> {
    let shape = engine::contract::tiny_shape();
    let ask = |device| burn(&shape, device).map(|engine| engine.info().device);
    vec![("cpu", ask(DeviceName::Cpu)), ("cuda", ask(DeviceName::Cuda))]
}
