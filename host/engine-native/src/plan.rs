//! What a trainable set asks of a step: where gradients have to arrive, and so which activations are kept.
//!
//! Not here: buffers, and the passes that follow the plan.

use engine::{ModelShape, TensorClass, TensorId, Trainable};

use crate::stack::BLOCK_TENSORS;

/// A plan for a whole stack, from the embeddings up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) embeddings: bool,
    pub(crate) blocks: Vec<BlockPlan>,
    /// Whether a gradient has to arrive at the final norm's input.
    pub(crate) top: bool,
    /// Whether it has to arrive at its output.
    pub(crate) head_input: bool,
}

/// Where in a block a gradient has to arrive because something at or below that place trains. Each place
/// includes those before it; where one is false, the backward pass ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockPlan {
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
    /// Walks up the stack; `layers` in order.
    pub(crate) fn new(shape: &ModelShape, layers: &[engine::LayerId], trainable: &Trainable) -> Plan {
        let shared = |name| trainable.contains(TensorId::shared(TensorClass(name)));
        let embeddings = shared("wte.weight") || shared("wpe.weight");
        let classes: Vec<TensorClass> = shape.block_tensors().into_iter().map(|spec| spec.class).collect();
        let mut below = embeddings;
        let mut blocks = Vec::with_capacity(layers.len());
        for &layer in layers {
            let trains = std::array::from_fn(|i| trainable.contains(TensorId::block(layer, classes[i])));
            let plan = BlockPlan::new(below, trains);
            below = plan.output;
            blocks.push(plan);
        }
        let head_input = below || shared("ln_f.weight") || shared("ln_f.bias");
        Plan { embeddings, blocks, top: below, head_input }
    }

    /// A forward pass of that many blocks and nothing else.
    pub(crate) fn forward_only(depth: usize) -> Plan {
        let block = BlockPlan::new(false, [false; BLOCK_TENSORS]);
        Plan { embeddings: false, blocks: vec![block; depth], top: false, head_input: false }
    }
}

impl BlockPlan {
    fn new(below: bool, trains: [bool; BLOCK_TENSORS]) -> BlockPlan {
        // The tensors of a block stand in pairs, weight and bias, in the order of their use.
        let upto = |pairs: usize| below || trains[..2 * pairs].contains(&true);
        BlockPlan {
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
