//! Questions that both engines answer, asked of whatever `crate::build` builds; their `tests/it.rs` includes this
//! by path, so that no question is written twice. Not here: what only one of them can do.

/// `.npy` files and safetensors, as far as the fixtures need them.
mod arrays;
/// Do edits leave the rest alone, and are bad calls refused?
mod edits;
/// Does it reproduce transformers' GPT-2 with large random weights?
mod hf_fixture;
/// What the golden runs' files hold, and an engine filled from them.
pub(crate) mod reference;
/// Do whole training runs follow PyTorch's, step by step?
mod runs;
/// Does the gradient depend on nothing but batch, weights and scope?
mod scope;
