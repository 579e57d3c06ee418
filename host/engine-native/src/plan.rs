//! What a step asks of each run of a block: where gradients have to arrive, and so which activations are kept.
//!
//! Not here: buffers, and the passes that follow the plan.

use engine::{
    Branch, Entry, Execution, ModelShape, Recompute, StepPlan, TensorClass, TensorId, Trainable, Wanted,
};

use crate::stack::BLOCK_TENSORS;

/// A plan for all that runs, from the embeddings up.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) embeddings: bool,
    pub(crate) entries: Vec<EntryPlan>,
    /// Whether a gradient has to arrive at the final norm's input.
    pub(crate) top: bool,
    /// Whether it has to arrive at its output.
    pub(crate) head_input: bool,
    pub(crate) recompute: Recompute,
    pub(crate) wanted: Wanted,
}

/// One run of one block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntryPlan {
    /// Its place in the stack.
    pub(crate) block: usize,
    pub(crate) entry: Entry,
    pub(crate) needs: Needs,
}

/// Where in a block a gradient has to arrive because something at or below that place trains. Each place
/// includes those before it; where one is false, the backward pass ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) input: bool,
    pub(crate) norm_1: bool,
    pub(crate) qkv: bool,
    /// The residual stream between the two branches.
    pub(crate) middle: bool,
    pub(crate) norm_2: bool,
    /// Before the GELU.
    pub(crate) hidden: bool,
    pub(crate) output: bool,
    pub(crate) trains: BlockWeights,
}

/// The weights of a block that train: each needs the activation that it multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockWeights {
    pub(crate) qkv: bool,
    pub(crate) mixed: bool,
    pub(crate) hidden: bool,
    pub(crate) output: bool,
}

impl Plan {
    /// Walks up what runs; `layers` is the stack.
    pub(crate) fn new(shape: &ModelShape, layers: &[engine::LayerId], step: &StepPlan) -> Plan {
        let shared = |name| step.trainable.contains(TensorId::shared(TensorClass(name)));
        let embeddings = shared("wte.weight") || shared("wpe.weight");
        let classes: Vec<TensorClass> = shape.block_tensors().into_iter().map(|spec| spec.class).collect();
        let mut below = embeddings;
        let mut entries = Vec::with_capacity(layers.len());
        for entry in step.execution.running(layers) {
            let trains = std::array::from_fn(|i| {
                let runs = entry.gate(Branch::of(classes[i])) != 0.0;
                runs && step.trainable.contains(TensorId::block(entry.layer, classes[i]))
            });
            let needs = Needs::new(below, trains);
            below = needs.output;
            let block = layers.iter().position(|layer| *layer == entry.layer);
            let block = block.expect("the execution was checked against the stack");
            entries.push(EntryPlan { block, entry, needs });
        }
        let head_input = below || shared("ln_f.weight") || shared("ln_f.bias");
        let (recompute, wanted) = (step.recompute, step.statistics);
        Plan { embeddings, entries, top: below, head_input, recompute, wanted }
    }

    /// A forward pass and nothing else.
    pub(crate) fn forward_only(
        shape: &ModelShape,
        layers: &[engine::LayerId],
        execution: &Execution,
    ) -> Plan {
        let execution = execution.clone();
        Plan::new(shape, layers, &StepPlan { execution, ..StepPlan::new(Trainable::default(), 1) })
    }
}

impl EntryPlan {
    /// Whether its forward pass runs once more before its backward pass.
    pub(crate) fn is_recomputed(&self, recompute: Recompute) -> bool {
        recompute == Recompute::Blocks && self.needs.output
    }

    /// Whether a gate changes what comes back into a branch.
    pub(crate) fn is_gated(&self) -> bool {
        let open = |gate: f32| gate == 0.0 || gate == 1.0;
        !(open(self.entry.attention_gate) && open(self.entry.mlp_gate))
    }

    /// Of the sequences `first..first + count`, those that pass through, counted from `first`.
    pub(crate) fn active(&self, first: usize, count: usize) -> Option<Vec<usize>> {
        let mask = &self.entry.sequences.as_ref()?[first..first + count];
        Some((0..count).filter(|&sequence| mask[sequence]).collect())
    }
}

impl Needs {
    fn new(below: bool, trains: [bool; BLOCK_TENSORS]) -> Needs {
        // The tensors of a block stand in pairs, weight and bias, in the order of their use.
        let upto = |pairs: usize| below || trains[..2 * pairs].contains(&true);
        Needs {
            input: below,
            norm_1: upto(1),
            qkv: upto(2),
            middle: upto(3),
            norm_2: upto(4),
            hidden: upto(5),
            output: upto(6),
            trains: BlockWeights { qkv: trains[2], mixed: trains[4], hidden: trains[8], output: trains[10] },
        }
    }

    pub(crate) fn keeps_input(&self) -> bool {
        self.norm_1 || self.trains.qkv
    }

    pub(crate) fn keeps_mixed(&self) -> bool {
        self.qkv || self.trains.mixed
    }

    pub(crate) fn keeps_middle(&self) -> bool {
        self.norm_2 || self.trains.hidden
    }

    pub(crate) fn keeps_hidden(&self) -> bool {
        self.hidden || self.trains.output
    }
}
