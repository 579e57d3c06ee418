//! The engine against independent references and against the contract; one binary, a module per question.

#[path = "../../engine/tests/of_every_engine/mod.rs"]
mod of_every_engine;

/// The engine that `of_every_engine` asks.
fn build(shape: &engine::ModelShape) -> Result<Box<dyn engine::Engine>, engine::EngineError> {
    engine_burn::build(shape, engine_burn::Device::Cpu)
}

mod it {
    /// Does it keep what every engine has to keep?
    mod contract;
    /// Is a device that is not there refused?
    mod device;
}
