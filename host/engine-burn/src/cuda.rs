//! The engine on the first CUDA device, or the reason why there is none and what to do about it.
//!
//! Only with the feature `burn-cuda`; the answer without it is in the crate's root.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
};

use burn::tensor::Tensor;
use burn_cuda::{Cuda, CudaDevice};
use cudarc::{driver::result as driver, nvrtc};
use engine::{Energy, Engine, EngineError, ModelShape};

use crate::{cuda_unavailable as unavailable, oracle::Oracle};

pub(crate) fn build(shape: &ModelShape) -> Result<Box<dyn Engine>, EngineError> {
    let words = format!("cuda:0 {} (Burn CUDA)", probe()?);
    let device = CudaDevice::default();
    attempt(|| try_out(&device))
        .and_then(|tried| tried)
        .map_err(|reason| unavailable(format!("a trial computation failed: {reason}")))?;
    Ok(Box::new(Oracle::<Cuda>::new(shape, device, words, Energy::Untold)))
}

/// The first device's name. Each question is asked only after what it rests on has answered.
fn probe() -> Result<String, EngineError> {
    attempt(driver::init)
        .map_err(|_| unavailable("the driver library libcuda cannot be loaded; install NVIDIA's driver"))?
        .map_err(|error| unavailable(format!("the driver does not start ({error}); see nvidia-smi")))?;
    attempt(|| nvrtc::compile_ptx(""))
        .map_err(|_| {
            unavailable(
                "the library libnvrtc cannot be loaded; install CUDA's NVRTC, or put its folder on \
                 LD_LIBRARY_PATH",
            )
        })?
        .map_err(|error| unavailable(format!("NVRTC does not compile: {error}")))?;
    match driver::device::get_count() {
        Ok(0) => Err(unavailable("the driver sees no device; see nvidia-smi and CUDA_VISIBLE_DEVICES")),
        Ok(_) => driver::device::get(0)
            .and_then(driver::device::get_name)
            .map_err(|error| unavailable(format!("the first device does not answer: {error}"))),
        Err(error) => Err(unavailable(format!("the driver cannot count its devices: {error}"))),
    }
}

/// Missing CUDA headers, for one, show only when Burn compiles its first kernel.
fn try_out(device: &CudaDevice) -> Result<(), String> {
    let ones = Tensor::<Cuda, 2>::ones([4, 4], device);
    let product = ones.clone().matmul(ones).try_into_data().map_err(|error| error.to_string())?;
    match product.iter::<f32>().all(|x| x == 4.0) {
        true => Ok(()),
        false => Err("ones times ones is not four".into()),
    }
}

/// Runs what panics where a library is missing, and keeps that panic off the user's screen.
///
/// cudarc's own question for a library is an unsafe function, which this workspace forbids.
fn attempt<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    let (usual, us) = (Arc::new(panic::take_hook()), thread::current().id());
    let others = Arc::clone(&usual);
    panic::set_hook(Box::new(move |info| {
        // Other threads go on while we try, and their panics are nobody's to hide.
        if thread::current().id() != us {
            others(info);
        }
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(what));
    panic::set_hook(Box::new(move |info| usual(info)));
    outcome.map_err(|panic| match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(_) => "it panicked".into(),
    })
}
