//! Wider hidden layers.

use serde::{Deserialize, Serialize};

use super::MomentsRule;

/// The hidden layers of all MLPs become wider. An initializer is asked for each block anew, the block itself being the
/// source: its `target` has the new shapes, and what `existing` shows has those before. Of what it writes the host takes
/// the tensors whose shape has changed; all others stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Widen {
    /// Neurons of each hidden layer from now on.
    pub mlp_width: usize,
    /// The role of the initializer that fills them in, one of the plan's `slots`.
    pub slot: String,
    /// The AdamW state of tensors whose shape has changed; copied, the first neurons, as many as there were, keep theirs and
    /// the step counter, and those that come have moments of zero.
    pub moments: MomentsRule,
}
