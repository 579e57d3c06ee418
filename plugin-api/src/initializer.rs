//! The layer initializer: fills in the values of new blocks.

use serde::{Deserialize, Serialize};

use crate::{Key, LayerId, MomentsRule, Result, Saved};

/// Fills in new blocks, one call a block, from the lowest up.
///
/// The strategy owns placement and sources, the initializer owns values. Called between steps, on the
/// training thread; same configuration, same contexts: same values.
pub trait LayerInitializer: Send {
    /// [for every new block] Writes every element of `target`, and says what the block then does to the
    /// model's function. The host checks that all is written and finite, and an exact claim against the
    /// probe batch.
    ///
    /// # Errors
    /// An error stops the run after a checkpoint.
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim>;

    /// [once] The AdamW state of new blocks where the strategy leaves it to the initializer.
    fn moments(&self) -> MomentsRule {
        MomentsRule::Zero
    }

    /// [between steps, at a checkpoint] See [`GrowthStrategy::save`](crate::GrowthStrategy::save).
    ///
    /// # Errors
    /// A state that cannot be written down.
    fn save(&self) -> Result<Saved>;

    /// [when a run is resumed] Goes back to what `save` gave.
    ///
    /// # Errors
    /// A state that this version cannot read.
    fn restore(&mut self, saved: &Saved) -> Result<()>;
}

/// What new blocks do to the model's function. Of a block that was there and is made anew nothing exact is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// They may change it in any way.
    None,
    /// They change it little.
    Approximate,
    /// They leave it as it is, up to rounding.
    Exact,
}

/// What a tensor does in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Role(pub u32);

impl Role {
    /// Multiplies a normalised activation.
    pub const NORM_GAIN: Role = Role(1);
    /// Is added to a normalised activation.
    pub const NORM_SHIFT: Role = Role(2);
    /// A linear map inside a branch, `[in, out]`.
    pub const WEIGHT: Role = Role(3);
    /// The bias of such a map.
    pub const BIAS: Role = Role(4);
    /// The last linear map of a branch, whose output is added to the residual stream, `[in, out]`.
    pub const BRANCH_OUTPUT_WEIGHT: Role = Role(5);
    /// The bias of such a map.
    pub const BRANCH_OUTPUT_BIAS: Role = Role(6);

    /// Rows by token, `[vocabulary, width]`; also the head's weight. Among shared tensors only.
    pub const TOKEN_EMBEDDING: Role = Role(7);
    /// Rows by position, `[context, width]`. Among shared tensors only.
    pub const POSITION_EMBEDDING: Role = Role(8);

    /// Whether the tensor belongs to the last linear map of a branch: where both of these are zero, the
    /// branch adds nothing.
    pub fn is_branch_output(self) -> bool {
        self == Role::BRANCH_OUTPUT_WEIGHT || self == Role::BRANCH_OUTPUT_BIAS
    }
}

/// A tensor to fill in. Row-major; linear weights are `[in, out]`, as Hugging Face's Conv1D stores them.
/// Every element is NaN until it is written.
#[derive(Debug)]
pub struct TensorMut<'a> {
    /// Name within the block, such as `mlp.c_fc.weight`.
    pub class: &'a str,
    /// What it does.
    pub role: Role,
    /// Its dimensions.
    pub shape: &'a [u64],
    /// Its elements.
    pub values: &'a mut [f32],
}

/// A tensor to read.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Name within the block.
    pub class: &'a str,
    /// What it does.
    pub role: Role,
    /// Its dimensions.
    pub shape: &'a [u64],
    /// Its elements.
    pub values: &'a [f32],
}

/// A block to read.
#[derive(Clone, Copy, Debug)]
pub struct BlockView<'a> {
    /// Its identity.
    pub id: LayerId,
    /// Its tensors, in the order of `target`.
    pub tensors: &'a [TensorView<'a>],
}

/// What an initializer knows about the block that it fills in.
#[derive(Clone, Copy, Debug)]
pub struct InitContext<'a> {
    /// The new block's identity; [`LayerId::SHARED`] where the tensors that all blocks share are to be made wider.
    pub layer: LayerId,
    /// Where it will stand, 0 = next to the embeddings.
    pub position: usize,
    /// Blocks before this growth.
    pub depth_before: usize,
    /// Blocks after it.
    pub depth_after: usize,
    /// Blocks of the whole model.
    pub final_depth: usize,
    /// Standard deviation of the model's initial weights.
    pub init_std: f64,
    /// Random streams for this block.
    pub key: Key,
    /// The block that the strategy names as this one's source.
    pub source: Option<LayerId>,
    /// The blocks that stood before this growth, from the embeddings up.
    pub existing: &'a [BlockView<'a>],
    /// This block as the run's initial model has it: drawn from the seed, scaled for the final depth, or
    /// read from the checkpoint that the run starts from. Empty where that has no such block.
    pub original: &'a [TensorView<'a>],
}

impl<'a> InitContext<'a> {
    /// The tensors of the source block.
    ///
    /// # Errors
    /// A strategy that named none.
    pub fn source_tensors(&self) -> Result<&'a [TensorView<'a>]> {
        let source = self.source.ok_or_else(|| {
            crate::Error::new("this initializer needs a source block, but the strategy names none")
        })?;
        let block = self.existing.iter().find(|block| block.id == source);
        block.map(|block| block.tensors).ok_or_else(|| {
            crate::Error::new(format!("the source block {source} did not stand before this growth"))
        })
    }

    /// The tensors of this block as the run's initial model has it.
    ///
    /// # Errors
    /// A run that starts from a checkpoint without such a block.
    pub fn original_tensors(&self) -> Result<&'a [TensorView<'a>]> {
        if self.original.is_empty() {
            let layer = self.layer;
            return Err(crate::Error::new(format!("the initial model has no block {layer}")));
        }
        Ok(self.original)
    }
}
