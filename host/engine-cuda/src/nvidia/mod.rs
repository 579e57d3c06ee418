//! The driver for NVIDIA's GPUs: memory and launches by CUDA's driver, kernels compiled by NVRTC, products by
//! cuBLASLt. All three are loaded when they are first called, and asked for before, so that a binary that has this
//! starts without any of them.
//!
//! Of what is in here, the compilation of kernels is tried with NVIDIA's own library, and all other calls with stand-ins
//! (`tests/stand_in`): it has not run on a GPU yet. Not here: which kernels there are, and in which order they run.

mod cache;
mod calls;
mod compile;
mod graphs;
mod library;
mod machine;
mod nvml;
mod product;
mod queue;
mod staging;
mod stream;

pub use cache::Cache;
pub use compile::{cubin, version as nvrtc_version};
pub use library::Library;
pub use machine::{Found, Machine, devices, driver_version};
pub use nvml::{Meter, Nvml};
pub use product::version as cublaslt_version;
pub use queue::{Later, Memory, Nvidia};
