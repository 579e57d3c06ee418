//! The CUDA device without a GPU: its kernels emulated, its calls recorded; one binary, a module per question.

#[path = "../../engine/tests/of_every_engine/mod.rs"]
mod of_every_engine;

/// The kernels' sources as a library for the processor.
mod compiled;
/// A driver that runs the kernels' sources on the processor.
mod emulated;
/// A driver that computes nothing and writes down what it is asked for.
mod recording;

/// The engine that `of_every_engine` asks, on the emulated device where there is one, else on the CPU's: those
/// questions have been asked of it before, and the others say that they are skipped.
fn build(shape: &engine::ModelShape) -> Result<Box<dyn engine::Engine>, engine::EngineError> {
    match emulated::Emulated::new(emulated::Order::Rising) {
        Some(driver) => Ok(Box::new(engine_native::Step::new(shape, engine_cuda::Cuda::on(driver))?)),
        None => engine_native::build(shape, engine_native::Device::Cpu { threads: None }),
    }
}

mod it {
    /// Does it keep what every engine has to keep?
    mod contract;
    /// Do all kernels compile for the architectures that are promised?
    mod cubin;
    /// Is the emulated driver strict enough for the proofs that rest on it?
    mod emulation;
    /// What becomes of a device that runs out of memory?
    mod failures;
    /// Does each kernel do what its twin in f64 does, in whichever order threads run?
    mod kernels;
    /// Which kernels run, in which order, and do fewer run where less trains?
    mod order;
    /// Do TF32 and bfloat16 differ from f32 by their rounding alone?
    mod precision;
    /// Do steps follow those of the CPU, through growth, freezing and thawing?
    mod trajectory;
}
