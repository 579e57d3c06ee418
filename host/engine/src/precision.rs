//! In which numbers a step computes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// In which numbers a step computes. Weights, gradients of weights, AdamW's state, the residual stream with its gradient and losses
/// are in f32 whatever it is, and no sum is formed in less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// All of it in f32, as the code of arXiv 2411.18700 has it.
    #[default]
    Fp32,
    /// The factors of products are cut to TF32, which has f32's exponent and 10 bits behind the point.
    Tf32,
    /// What lies between the products of a block, the logits, and the copies of weights that products read are in bfloat16, which
    /// has f32's exponent and 7 bits behind the point; as under PyTorch's autocast.
    Bf16,
}

impl Precision {
    /// Whether it is f32 throughout.
    pub fn is_fp32(&self) -> bool {
        *self == Precision::Fp32
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Fp32 => "fp32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        })
    }
}
