//! A finished model at work: GPT-2's forward pass with a cache of keys and values, over the native engine's kernels;
//! text sampled from it, and suites of questions that it is judged by.
//!
//! A room of its own, since an engine trains whole batches and this goes on from what it has read: no gradient, no arena,
//! no plan; and neither plugins nor runs. Not here: how a model gets out of its folder (`trainer::hugging_face`).

mod attention;
mod cache;
mod error;
mod model;
mod sampling;
pub mod suites;
mod tokenizer;

pub use cache::{Cache, Piece};
pub use error::InferenceError;
pub use model::{Model, Passed};
pub use sampling::{Generation, Sampling};
pub use tokenizer::{Bytes, Tokenizer};
