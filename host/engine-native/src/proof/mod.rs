//! Proofs that tests demand and that `sapwood parity` shows: kernels against f64, gradients against slopes.
//!
//! Not here: what deviation is allowed.

mod kernels;
mod rounded;
mod slopes;

pub use kernels::{attention_beside, kernels, kernels_in_bf16, positive_products};
pub use rounded::Rounded;
pub use slopes::slopes;

/// How far one thing is from what it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// A kernel, or a tensor.
    pub what: String,
    /// Measures and device, or what runs.
    pub place: String,
    /// Relative; infinite where something is not a number.
    pub deviation: f64,
}
