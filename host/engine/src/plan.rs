//! What a step trains, what runs in it, what is kept for its backward pass, and what is measured meanwhile.
//!
//! Not here: who decides it, and who does it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{EngineError, LayerId, ModelShape, TensorClass, TensorId, Trainable};

/// What a step trains, and how it is made.
#[derive(Clone, Debug, PartialEq)]
pub struct StepPlan {
    /// What trains, where it runs: a tensor of a branch that the execution leaves out is skipped like a frozen
    /// one, its AdamW state and step counter untouched.
    pub trainable: Trainable,
    /// Most sequences in one forward and backward pass; at least 1.
    pub micro_batch_sequences: usize,
    /// Which blocks run, in which order.
    pub execution: Execution,
    /// What the backward pass computes again instead of finding it in memory.
    pub recompute: Recompute,
    /// What is measured beside loss and gradient norm.
    pub statistics: Wanted,
}

impl StepPlan {
    /// The whole stack once, with nothing measured.
    pub fn new(trainable: Trainable, micro_batch_sequences: usize) -> StepPlan {
        StepPlan {
            trainable,
            micro_batch_sequences,
            execution: Execution::WholeStack,
            recompute: Recompute::Gelu,
            statistics: Wanted::default(),
        }
    }

    /// The tensors that this step updates: those that train and that something running uses.
    pub fn trained(&self, shape: &ModelShape, stack: &[LayerId]) -> Trainable {
        let running = self.execution.running(stack);
        let shared = shape.shared_tensors().into_iter().map(|spec| TensorId::shared(spec.class));
        let used = running.iter().flat_map(|entry| {
            let specs = shape.block_tensors().into_iter();
            let used = specs.filter(|spec| entry.gate(Branch::of(spec.class)) != 0.0);
            used.map(|spec| TensorId::block(entry.layer, spec.class)).collect::<Vec<_>>()
        });
        shared.chain(used).filter(|tensor| self.trainable.contains(*tensor)).collect()
    }

    /// For engines that run the whole stack and measure nothing: refuses a plan that asks for more.
    ///
    /// # Errors
    /// Another execution, statistics, or blocks that are to be computed again.
    pub fn check_plain(&self, engine: &'static str) -> Result<(), EngineError> {
        let unsupported = |what: &str| Err(EngineError::Unsupported { engine, what: what.into() });
        self.execution.check_whole(engine)?;
        if self.statistics != Wanted::default() {
            return unsupported("statistics of tensors and blocks");
        }
        if self.recompute == Recompute::Blocks {
            return unsupported("blocks that are computed again in the backward pass");
        }
        Ok(())
    }
}

/// Which blocks run in a step, from the embeddings up.
#[derive(Clone, Debug, PartialEq)]
pub enum Execution {
    /// Every block of the stack, once, in order.
    WholeStack,
    /// These, in this order: a block may be left out, repeated, moved, gated, or run for some sequences only.
    Entries(Vec<Entry>),
}

/// One run of one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The block.
    pub layer: LayerId,
    /// Multiplies what its attention adds to the residual stream; at 0 the branch does not run.
    pub attention_gate: f32,
    /// Multiplies what its MLP adds to the residual stream; at 0 the branch does not run.
    pub mlp_gate: f32,
    /// Which sequences of the step pass through it; all others pass it by. `None` = all.
    pub sequences: Option<Vec<bool>>,
}

impl Entry {
    /// A block as it stands in the stack.
    pub fn whole(layer: LayerId) -> Entry {
        Entry { layer, attention_gate: 1.0, mlp_gate: 1.0, sequences: None }
    }

    /// The gate of one of its branches.
    pub fn gate(&self, branch: Branch) -> f32 {
        match branch {
            Branch::Attention => self.attention_gate,
            Branch::Mlp => self.mlp_gate,
        }
    }

    /// How many of a step's sequences pass through it.
    pub fn active(&self, sequences: usize) -> usize {
        self.sequences.as_ref().map_or(sequences, |mask| mask.iter().filter(|&&runs| runs).count())
    }

    fn runs(&self) -> bool {
        let gated_off = self.attention_gate == 0.0 && self.mlp_gate == 0.0;
        !gated_off && self.sequences.as_ref().is_none_or(|mask| mask.contains(&true))
    }
}

impl Execution {
    /// Refuses an execution that a stack and a batch of so many sequences cannot follow.
    ///
    /// # Errors
    /// A block that is not there, a gate that is not finite, a mask of another length.
    pub fn check(&self, stack: &[LayerId], sequences: usize) -> Result<(), EngineError> {
        let Execution::Entries(entries) = self else { return Ok(()) };
        for Entry { layer, attention_gate, mlp_gate, sequences: mask } in entries {
            if !stack.contains(layer) {
                return Err(EngineError::NoSuchTensor(format!("the stack has no layer {layer} to run")));
            }
            if !(attention_gate.is_finite() && mlp_gate.is_finite()) {
                return Err(EngineError::BadBatch(format!("a gate of layer {layer} is not a finite number")));
            }
            if let Some(mask) = mask.as_ref().filter(|mask| mask.len() != sequences) {
                let wrong = mask.len();
                return Err(EngineError::BadBatch(format!(
                    "the mask of layer {layer} is for {wrong} sequences, the step has {sequences}"
                )));
            }
        }
        Ok(())
    }

    /// For engines that run the whole stack: refuses everything else.
    ///
    /// # Errors
    /// Another execution.
    pub fn check_whole(&self, engine: &'static str) -> Result<(), EngineError> {
        if *self == Execution::WholeStack {
            return Ok(());
        }
        let what = "anything but the whole stack once".into();
        Err(EngineError::Unsupported { engine, what })
    }

    /// The entries that compute something: none that is gated off whole or that no sequence passes through.
    pub fn running(&self, stack: &[LayerId]) -> Vec<Entry> {
        let entries: Cow<'_, [Entry]> = match self {
            Execution::WholeStack => stack.iter().copied().map(Entry::whole).collect(),
            Execution::Entries(entries) => entries.into(),
        };
        entries.iter().filter(|entry| entry.runs()).cloned().collect()
    }
}

/// The two branches of a block, each added to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// Norm, attention, output projection.
    Attention,
    /// Norm, MLP.
    Mlp,
}

impl Branch {
    /// The branch that a tensor of a block belongs to.
    pub fn of(class: TensorClass) -> Branch {
        if class.0.starts_with("ln_1.") || class.0.starts_with("attn.") {
            Branch::Attention
        } else {
            Branch::Mlp
        }
    }
}

/// What the backward pass computes again. Norms always are: they cost next to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Nothing that costs a product or a transcendental function.
    Nothing,
    /// The output of each GELU, from its input: a quarter of a block's activations for almost no time.
    #[default]
    Gelu,
    /// Each block from its input: of a block nothing else is kept, for one more forward pass.
    Blocks,
}

/// What is measured in a step beside loss and gradient norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Norms of every tensor that was updated.
    pub tensors: bool,
    /// What every block that ran did to the residual stream.
    pub blocks: bool,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Of each tensor that was updated, in the order of [`ModelShape::tensors`].
    pub tensors: Vec<(TensorId, TensorStatistics)>,
    /// Of each entry that ran, in the order of the execution.
    pub blocks: Vec<BlockStatistics>,
}

/// One tensor in one step; norms are L2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorStatistics {
    /// Of its gradient, before clipping.
    pub gradient_norm: f64,
    /// Of its weights, before the update.
    pub weight_norm: f64,
    /// Of the difference that the update made.
    pub update_norm: f64,
    /// Cosine of its gradient and of AdamW's mean of earlier gradients; 0 where there is none.
    pub gradient_direction: f64,
}

/// One run of one block, over all tokens that passed through it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockStatistics {
    /// The block.
    pub layer: LayerId,
    /// Root mean square of the residual stream above it.
    pub activation_rms: f64,
    /// Cosine of the stream below and above it.
    pub cosine: f64,
    /// Norm of what it added over the norm of the stream below it.
    pub contribution: f64,
}

/// What an engine holds in memory for a step, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StepMemory {
    /// Weights of the stack.
    pub weights: u64,
    /// Gradients of what trains.
    pub gradients: u64,
    /// AdamW's moments of what trains.
    pub moments: u64,
    /// Activations and their gradients of one micro-batch, kernels' scratch included.
    pub activations: u64,
    /// What an evaluation takes beside it.
    pub evaluation: u64,
}

impl StepMemory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.activations + self.evaluation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tiny_shape;

    fn plan(entries: Vec<Entry>) -> StepPlan {
        let shape = tiny_shape();
        let all = Trainable::all(&shape, &stack());
        StepPlan { execution: Execution::Entries(entries), ..StepPlan::new(all, 1) }
    }

    fn stack() -> Vec<LayerId> {
        vec![LayerId(0), LayerId(1)]
    }

    #[test]
    fn what_does_not_run_does_not_train() {
        let no_mlp = Entry { mlp_gate: 0.0, ..Entry::whole(LayerId(1)) };
        let nowhere = Entry { sequences: Some(vec![false, false]), ..Entry::whole(LayerId(0)) };
        let trained = plan(vec![nowhere, no_mlp]).trained(&tiny_shape(), &stack());
        let names: Vec<String> =
            trained.iter().filter(|id| id.layer.is_some()).map(|id| id.to_string()).collect();
        assert_eq!(
            names,
            [
                "layer 1: attn.c_attn.bias",
                "layer 1: attn.c_attn.weight",
                "layer 1: attn.c_proj.bias",
                "layer 1: attn.c_proj.weight",
                "layer 1: ln_1.bias",
                "layer 1: ln_1.weight",
            ]
        );
        assert_eq!(trained.len(), 6 + 4, "what is shared is always used");
    }

    #[test]
    fn an_execution_that_cannot_be_followed_is_refused() {
        let refusal =
            |entry: Entry| plan(vec![entry]).execution.check(&stack(), 2).map_err(|e| e.to_string());
        let good = Entry { sequences: Some(vec![true, false]), ..Entry::whole(LayerId(1)) };
        assert_eq!(refusal(good), Ok(()));
        let cases = [
            (Entry::whole(LayerId(7)), "the stack has no layer 7 to run"),
            (
                Entry { mlp_gate: f32::NAN, ..Entry::whole(LayerId(0)) },
                "a gate of layer 0 is not a finite number",
            ),
            (
                Entry { sequences: Some(vec![true]), ..Entry::whole(LayerId(0)) },
                "the mask of layer 0 is for 1 sequences, the step has 2",
            ),
        ];
        for (entry, message) in cases {
            assert_eq!(refusal(entry), Err(message.to_owned()));
        }
    }
}
