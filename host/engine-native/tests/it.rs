//! The engine against independent references and against the contract; one binary, a module per question.

#[path = "../../engine/tests/of_every_engine/mod.rs"]
mod of_every_engine;

/// The engine that `of_every_engine` asks.
fn build(shape: &engine::ModelShape) -> Result<Box<dyn engine::Engine>, engine::EngineError> {
    engine_native::build(shape, engine_native::Device::Cpu { threads: None })
}

mod it {
    /// Does it keep what every engine has to keep?
    mod contract;
    /// Do steps that run other than the whole stack do what they say, and at what cost?
    mod execution;
    /// Is the gradient the slope of the loss, for every kind of parameter?
    mod finite_differences;
    /// Do the golden runs come out to 1e-9 in f64?
    mod float64;
    /// Does it count what a step costs as the cost accounting does?
    mod flops;
    /// Does each kernel of the CPU do what its twin in f64 does, whatever the measures?
    mod kernels;
    /// Are measured figures those of what can be read back?
    mod statistics;
    /// Are the bits the same whatever the number of threads?
    mod threads;
}
