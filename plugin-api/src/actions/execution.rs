//! Which blocks run in a step, for strategies that do not run the whole stack; and how much a block counts in the model.

use serde::{Deserialize, Serialize};

use crate::LayerId;

/// One pass through one block; a block may be left out, repeated, moved, gated, or passed through by some sequences
/// only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// The block.
    pub layer: LayerId,
    /// Multiplies what its attention adds to the residual stream; at 0 the branch does not run.
    pub attention_gate: f32,
    /// The same of its MLP.
    pub mlp_gate: f32,
    /// Which sequences of the step pass through it, all others pass it by; `None` = all.
    pub sequences: Option<Vec<bool>>,
}

impl Pass {
    /// All sequences through a block as it stands in the stack.
    pub fn whole(layer: LayerId) -> Pass {
        Pass { layer, attention_gate: 1.0, mlp_gate: 1.0, sequences: None }
    }
}

/// How much a block counts in the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The block.
    pub layer: LayerId,
    /// Multiplies what its attention adds to the residual stream.
    pub attention: f32,
    /// The same of its MLP.
    pub mlp: f32,
}

impl Gate {
    /// The same for both branches.
    pub fn both(layer: LayerId, gate: f32) -> Gate {
        Gate { layer, attention: gate, mlp: gate }
    }
}
