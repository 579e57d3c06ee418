//! The seam: everything above an engine sees these two traits, named tensors and plain values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Execution, LayerId, LayerIndex, ModelShape, Statistics, StepMemory, StepPlan, TensorClass, TensorId,
    TokenBatch, Widths,
};

/// A model: a stack of blocks, each tensor with its weights, its last gradient and its AdamW state. It is looked at and changed
/// between steps; whoever gets no more than this can train nothing.
///
/// What crosses is row-major f32 in host memory.
pub trait Model {
    /// [any time] The blocks of the stack, from the embeddings up.
    fn layers(&self) -> Vec<LayerId>;

    /// [any time] How wide the model is.
    fn widths(&self) -> Widths;

    /// [between steps] Changes the stack; touches no tensor of any other block.
    ///
    /// # Errors
    /// A layer that is there already, or not there, or weights of another shape.
    fn edit(&mut self, edit: Edit) -> Result<(), EngineError>;

    /// [between steps] A tensor's weights, or its gradient as the last `step` left it (before
    /// clipping; zeros where it did not train).
    ///
    /// # Errors
    /// A tensor that the stack does not have.
    fn read(&self, tensor: TensorId, part: Part) -> Result<Vec<f32>, EngineError>;

    /// [between steps] Replaces a tensor's weights; its moments stay.
    ///
    /// # Errors
    /// A tensor that the stack does not have, or another number of elements.
    fn write(&mut self, tensor: TensorId, weights: &[f32]) -> Result<(), EngineError>;

    /// [between steps] A tensor's AdamW state.
    ///
    /// # Errors
    /// A tensor that the stack does not have.
    fn moments(&self, tensor: TensorId) -> Result<Moments, EngineError>;

    /// [between steps] Replaces a tensor's AdamW state.
    ///
    /// # Errors
    /// As for `write`.
    fn set_moments(&mut self, tensor: TensorId, moments: &Moments) -> Result<(), EngineError>;
}

/// A model in training.
///
/// The engine owns weights, gradients and AdamW state. It is built with the shared tensors at zero and no block at all, is used by
/// one thread at a time, opens no file and reads no clock. Same calls, same bits.
///
/// One optimizer step is [`step`](Engine::step), then [`optimize`](Engine::optimize); its loss and
/// gradient norm come from [`outcome`](Engine::outcome), at the latest one step later.
pub trait Engine: Model + Send {
    /// [any time] Who computes, where, and how much memory that took.
    fn info(&self) -> EngineInfo;

    /// [any time] What the device has used so far.
    fn energy(&self) -> Energy {
        Energy::OfHost
    }

    /// [any time] What a step by that plan would hold in memory, on a stack of these blocks of a model of that `shape`, which
    /// need not be as wide as this one, and a batch of `sequences` rows of `length` targets, an evaluation of as many rows
    /// as a micro-batch has beside it; `None` where the engine cannot tell.
    fn memory(
        &self,
        shape: &ModelShape,
        stack: &[LayerId],
        plan: &StepPlan,
        sequences: usize,
        length: usize,
    ) -> Option<StepMemory>;

    /// [between steps] Forward and backward over the whole batch, in micro-batches of at most
    /// `plan.micro_batch_sequences`; the gradient is that of the mean loss over all tokens of the
    /// batch, whatever the micro-batch. Replaces earlier gradients. A step that is not optimized is forgotten by the
    /// next, and has no outcome.
    ///
    /// # Errors
    /// A token outside the vocabulary, a row longer than the context, a tensor in the scope or a block in
    /// the execution that the stack does not have, a plan that the engine does not implement, or a failing
    /// device.
    fn step(&mut self, batch: &TokenBatch, plan: &StepPlan) -> Result<(), EngineError>;

    /// [once after a `step`] One AdamW update of what the step trained, each tensor with its own step
    /// counter; clips by the global norm first if asked to. Where the loss or the norm is not finite nothing is updated:
    /// weights, moments and counters stay as they are, and the outcome tells.
    ///
    /// # Errors
    /// A failing device.
    fn optimize(&mut self, update: &AdamW) -> Result<(), EngineError>;

    /// [after `optimize`] The oldest outcome not read yet, in the order of the steps. With
    /// [`Wait::ForOlder`] the newest step's may be held back (`None`); with [`Wait::ForAll`] `None`
    /// means that all have been read.
    ///
    /// # Errors
    /// A failing device.
    fn outcome(&mut self, wait: Wait) -> Result<Option<StepOutcome>, EngineError>;

    /// [between steps] The loss of each target in nats, `[sequences, length]`, of what runs by that execution; changes
    /// nothing.
    ///
    /// # Errors
    /// As for `step`.
    fn evaluate(&mut self, batch: &TokenBatch, execution: &Execution) -> Result<Vec<f32>, EngineError>;

    /// [between steps] The logits after each of these tokens, `[tokens, vocabulary]`, of what runs by that execution for
    /// one sequence; changes nothing.
    ///
    /// # Errors
    /// As for `step`.
    fn logits(&mut self, tokens: &[u32], execution: &Execution) -> Result<Vec<f32>, EngineError>;
}

/// Who computes, where, and how much memory that took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// The engine's name, as `--engine` takes it.
    pub engine: &'static str,
    /// The device in words.
    pub device: String,
    /// Most device memory held at once, in bytes; `None` where the device is the host's memory.
    pub device_memory_peak_bytes: Option<u64>,
    /// How fast the device runs at this moment; `None` where it does not tell.
    pub clocks: Option<Clocks>,
    /// What has become of calls so far; `None` where the device knows no graphs.
    pub graphs: Option<GraphCounts>,
    /// Whether it refuses every execution but that of the whole stack, and every statistic.
    pub plain_steps_only: bool,
}

/// What a device says of the energy that it has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Energy {
    /// It is the host's processor, whose counters tell.
    OfHost,
    /// Since some moment that stays the same.
    Millijoules(u64),
    /// It has no counter, or one that others use as well.
    Untold,
}

/// What has become of the sequences of calls that a device was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphCounts {
    /// Sequences that came again, and were made into graphs.
    pub captured: u64,
    /// Launches of graphs.
    pub launched: u64,
    /// Graphs that were given up for others.
    pub dropped: u64,
    /// Sequences that were issued call by call.
    pub issued: u64,
}

/// How fast a device runs at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// Of its multiprocessors.
    pub processor_megahertz: u32,
    /// The most that they may run at.
    pub most_processor_megahertz: u32,
    /// Of its memory.
    pub memory_megahertz: u32,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean loss over all tokens of the step, in nats, before the update.
    pub loss_nats_per_token: f64,
    /// L2 norm of the gradient of all that trained, before clipping, squares summed in f64.
    pub gradient_norm: f64,
    /// What else was measured, where the plan wanted it.
    pub statistics: Option<Box<Statistics>>,
}

impl StepOutcome {
    /// Whether a loss and a gradient norm are numbers that an update can be made from.
    pub fn is_finite(loss_nats_per_token: f64, gradient_norm: f64) -> bool {
        loss_nats_per_token.is_finite() && gradient_norm.is_finite()
    }
}

/// Whether [`Engine::outcome`] has to wait for the newest step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The newest may be held back.
    ForOlder,
    /// Every step is to be finished.
    ForAll,
}

/// One AdamW update with decoupled weight decay on matrices (Loshchilov and Hutter, arXiv 1711.05101).
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay, of tensors with two dimensions.
    pub weight_decay: f64,
    /// Largest global gradient norm; gradients are multiplied by `min(1, clip / (norm + 1e-6))`.
    pub clip_norm: Option<f64>,
    /// Multiply the rate of these tensors, weight decay included.
    pub rate_factors: BTreeMap<TensorId, f64>,
}

impl AdamW {
    /// An update that moves no weight.
    pub const NOTHING: AdamW = AdamW {
        rate: 0.0,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.0,
        clip_norm: None,
        rate_factors: BTreeMap::new(),
    };

    /// What the rate of a tensor is multiplied by.
    pub fn rate_factor(&self, tensor: TensorId) -> f64 {
        self.rate_factors.get(&tensor).copied().unwrap_or(1.0)
    }
}

/// Weights of tensors of one block.
pub type BlockTensors = Vec<(TensorClass, Vec<f32>)>;

/// A change of the stack.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// A new block comes to stand at `at`, with these weights, moments at zero and counters at 0.
    Insert {
        /// Its position afterwards.
        at: LayerIndex,
        /// Its identity.
        layer: LayerId,
        /// Every tensor of the block.
        weights: BlockTensors,
    },
    /// A block leaves, with its moments.
    Remove {
        /// Its identity.
        layer: LayerId,
    },
    /// The model gets another width.
    Resize {
        /// How wide it is then.
        widths: Widths,
        /// Every tensor whose size changes, and any other: they get these weights, moments at zero and counters at 0. All that
        /// are not among them stay as they are.
        weights: Vec<(TensorId, Vec<f32>)>,
    },
    /// The blocks come to stand in another order.
    Reorder {
        /// Every block of the stack once, from the embeddings up.
        layers: Vec<LayerId>,
    },
}

/// Which of a tensor's buffers is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The weights.
    Weights,
    /// The gradient of the last step.
    Gradient,
}

/// A tensor's AdamW state.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
    /// Updates that this tensor has had; its bias correction uses this counter.
    pub updates: u64,
}

impl Moments {
    /// The state of a tensor that was never updated.
    pub fn zero(len: usize) -> Moments {
        Moments { first: vec![0.0; len], second: vec![0.0; len], updates: 0 }
    }
}

/// What an engine cannot do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The device is not there; never answered by a silent fall back to another.
    #[error("device `{device}` is not available: {reason}")]
    DeviceUnavailable {
        /// As the user named it.
        device: String,
        /// Why not.
        reason: String,
    },
    /// The engine does not implement what the model's description asks for.
    #[error("the engine `{engine}` does not implement {what}")]
    Unsupported {
        /// The engine.
        engine: &'static str,
        /// What was asked.
        what: String,
    },
    /// A tensor or block that the stack does not have, or has already.
    #[error("{0}")]
    NoSuchTensor(String),
    /// Another number of elements than the tensor has.
    #[error("{tensor} has {expected} elements, not {given}")]
    WrongSize {
        /// The tensor.
        tensor: String,
        /// Its elements.
        expected: usize,
        /// What was given.
        given: usize,
    },
    /// A batch that the model cannot read.
    #[error("{0}")]
    BadBatch(String),
    /// The device has not enough memory.
    #[error("out of memory on {device}: {what}")]
    OutOfMemory {
        /// Where.
        device: String,
        /// What was to be allocated.
        what: String,
    },
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(String),
}
