//! A wider model.

use serde::{Deserialize, Serialize};

/// How wide a model is, now or in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Widths {
    /// Width of the residual stream.
    pub width: usize,
    /// Attention heads of each block; how wide one is never changes.
    pub heads: usize,
    /// Neurons of each MLP's hidden layer.
    pub mlp_width: usize,
}

impl Widths {
    /// As an array, in the order of the fields.
    pub fn all(self) -> [usize; 3] {
        [self.width, self.heads, self.mlp_width]
    }

    /// What differs between it and another, in words: `stream 4 -> 8, neurons 16 -> 32`.
    pub fn change_to(self, after: Widths) -> String {
        let names = ["stream", "heads", "neurons"].into_iter().zip(self.all().into_iter().zip(after.all()));
        let changed = names.filter(|(_, (before, after))| before != after);
        changed
            .map(|(name, (before, after))| format!("{name} {before} -> {after}"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Whether something of it is 0.
    pub fn has_zero(self) -> bool {
        self.all().contains(&0)
    }

    /// Whether no part of it is beyond that of another.
    pub fn is_within(self, other: Widths) -> bool {
        self.all().into_iter().zip(other.all()).all(|(own, other)| own <= other)
    }
}

/// In words: `a stream 64 wide, 4 heads, 256 neurons`.
impl std::fmt::Display for Widths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Widths { width, heads, mlp_width } = self;
        write!(f, "a stream {width} wide, {heads} heads, {mlp_width} neurons")
    }
}

/// The model becomes wider: the residual stream, the number of heads, the hidden layers, or several of them at once. An
/// initializer is asked for each block anew, the block itself being the source: its `target` has the new shapes, and what
/// `existing` shows has those before. Where the stream becomes wider it is asked first for the tensors that all blocks share,
/// as for a block with the identity [`LayerId::SHARED`](crate::LayerId::SHARED): the embeddings and the final norm. Of what it
/// writes the host takes the tensors whose shape has changed; all others stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Widen {
    /// How wide it is from now on; no part may be less than now.
    pub widths: Widths,
    /// The role of the initializer that fills in what comes, one of the plan's `slots`.
    pub slot: String,
    /// The AdamW state of tensors whose shape has changed.
    pub moments: WidenedMoments,
}

/// The AdamW state of a tensor that has become larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WidenedMoments {
    /// Moments of zero, counter 0.
    Zero,
    /// The first rows and columns, as many as there were, keep theirs and the counter; those that come have moments of zero
    /// (masked structural growth, arXiv 2305.02869).
    Keep,
    /// Rows and columns that come repeat those that were there, from the first on, and the counter stays; factors are for
    /// [`OptimizerChange::Scale`](crate::OptimizerChange::Scale) afterwards (staged training, arXiv 2203.06211).
    Repeat,
}
