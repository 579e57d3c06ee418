//! What a strategy may have measured in steps, beside losses.

use serde::{Deserialize, Serialize};

use crate::LayerId;

/// What is to be measured, and how often. It costs time in those steps, and no FLOPs that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Steps from one measured step to the next, the first being step 0; at least 1.
    pub every_steps: u64,
    /// Norms of every tensor that the step updates.
    pub tensors: bool,
    /// What every block that runs does to the residual stream.
    pub blocks: bool,
}

/// What was measured in a step; told before step + 2, on every engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The step.
    pub step: u64,
    /// Every tensor that it updated; empty where that was not asked for.
    pub tensors: Vec<MeasuredTensor>,
    /// Every pass through a block, in the order of the step; empty where that was not asked for.
    pub blocks: Vec<MeasuredBlock>,
}

/// One tensor in one step; norms are L2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredTensor {
    /// Whose it is; `None` for the embeddings and the final norm.
    pub layer: Option<LayerId>,
    /// What it is there, such as `mlp.c_fc.weight`.
    pub class: String,
    /// Of its gradient, before clipping.
    pub gradient_norm: f64,
    /// Of its weights, before the update.
    pub weight_norm: f64,
    /// Of the difference that the update made.
    pub update_norm: f64,
    /// Cosine of its gradient and of AdamW's mean of earlier gradients; 0 where there is none.
    pub gradient_direction: f64,
}

/// One pass through one block in one step, over all tokens that passed through it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredBlock {
    /// The block.
    pub layer: LayerId,
    /// Root mean square of the residual stream above it.
    pub activation_rms: f64,
    /// Cosine of the stream below and above it.
    pub cosine: f64,
    /// Norm of what it added over the norm of the stream below it.
    pub contribution: f64,
}

impl Measured {
    /// L2 norm of the gradient of all of a block's tensors that the step updated; `None` where it updated none.
    pub fn gradient_norm(&self, layer: LayerId) -> Option<f64> {
        let of_block = self.tensors.iter().filter(|tensor| tensor.layer == Some(layer));
        let squares = of_block.map(|tensor| tensor.gradient_norm * tensor.gradient_norm);
        squares.reduce(|sum, square| sum + square).map(f64::sqrt)
    }
}
