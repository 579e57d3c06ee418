//! Names of tensors: a class (what it is in its block) and, for a block's tensor, whose it is.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{LayerId, LayerIndex};

/// What a tensor is within its block, or among the shared ones: the last part of its Hugging Face
/// GPT-2 name, such as `attn.c_attn.weight` or `wte.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorClass(pub &'static str);

impl fmt::Display for TensorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for TensorClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// One tensor of a model: a shared one (`layer` is `None`) or a block's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId {
    /// The block it belongs to; `None` for embeddings and the final norm.
    pub layer: Option<LayerId>,
    /// What it is there.
    pub class: TensorClass,
}

impl TensorId {
    /// A tensor that all blocks share.
    pub fn shared(class: TensorClass) -> TensorId {
        TensorId { layer: None, class }
    }

    /// A tensor of one block.
    pub fn block(layer: LayerId, class: TensorClass) -> TensorId {
        TensorId { layer: Some(layer), class }
    }

    /// The Hugging Face name, given the block's present position: `transformer.h.3.mlp.c_fc.weight`.
    pub fn hugging_face_name(self, position: Option<LayerIndex>) -> String {
        match position {
            Some(position) => format!("transformer.h.{position}.{}", self.class),
            None => format!("transformer.{}", self.class),
        }
    }
}

/// By identity, not by position: `layer 3: mlp.c_fc.weight`.
impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "layer {layer}: {}", self.class),
            None => self.class.fmt(f),
        }
    }
}

/// What a tensor does, so that an initializer need not know a block's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TensorRole {
    /// Rows by token id, `[vocabulary, width]`; tied to the head where the block says so.
    TokenEmbedding,
    /// Rows by position, `[context, width]`.
    PositionEmbedding,
    /// Multiplies a normalised activation.
    NormGain,
    /// Is added to a normalised activation.
    NormShift,
    /// A linear map inside a branch, `[in, out]`.
    Weight,
    /// The bias of such a map.
    Bias,
    /// The last linear map of a branch, whose output is added to the residual stream, `[in, out]`.
    BranchOutputWeight,
    /// The bias of such a map.
    BranchOutputBias,
}

/// One tensor of a block, or one shared tensor: its class, shape and role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name within the block.
    pub class: TensorClass,
    /// Row-major; linear weights are `[in, out]`, as Hugging Face's Conv1D stores them.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: TensorRole,
}

impl TensorSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Equal parts, side by side in the last dimension, each of which grows by itself: queries, keys and values are three.
    pub fn parts(&self) -> usize {
        if self.class.0.starts_with("attn.c_attn.") { 3 } else { 1 }
    }

    /// Whether decoupled weight decay applies: matrices yes, biases and norms no (nanoGPT's rule,
    /// which the paper's code follows).
    pub fn decays(&self) -> bool {
        self.shape.len() >= 2
    }
}
