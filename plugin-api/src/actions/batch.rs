//! How much a step reads.

use serde::{Deserialize, Serialize};

/// The measures of a step's batch. Where sequences are shorter than the model's context, each of the data's rows is cut
/// into several: the tokens and their order stay the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Sequences of a step.
    pub sequences: usize,
    /// Tokens of a sequence.
    pub length: usize,
}

impl Batch {
    /// Tokens of a step.
    pub fn tokens(&self) -> u64 {
        (self.sequences as u64).saturating_mul(self.length as u64)
    }
}
