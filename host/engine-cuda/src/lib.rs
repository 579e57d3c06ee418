//! The native engine on CUDA: its kernels in plain f32, launched through a narrow [`Driver`], so that all but the
//! calls of CUDA's own libraries is proved without a GPU.
//!
//! Not here: the step itself (engine-native), and which device a user gets.

mod adamw;
mod attention;
mod buffer;
mod classifier;
mod columns;
mod device;
pub mod driver;
mod elements;
mod embed;
mod launch;
mod linear;
mod norm;
pub mod sources;

pub use buffer::Buffer;
pub use device::Cuda;
pub use driver::Driver;
