//! The growth strategy: what it is told, when it is called, what it answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Actions, Claim, Key, Measure, Measured, Probed, Result, Saved, Widths};

/// Decides when, where and how the model grows, and what trains.
///
/// Called on the training thread. It does nothing itself: it requests, and the host validates, applies,
/// audits and logs. Same configuration, same contexts: same requests; no clocks, no files, no randomness
/// but [`Random`](crate::Random).
pub trait GrowthStrategy: Send {
    /// [once, before the first step, and again when a run is resumed] What the run will look like.
    ///
    /// # Errors
    /// A model or budget that the strategy cannot work with; the run does not start.
    fn plan(&mut self, run: &RunFacts) -> Result<Plan>;

    /// [before every optimizer step] Requests what is to change before that step; silence changes nothing.
    ///
    /// # Errors
    /// An error stops the run after a checkpoint; return one only if going on is pointless.
    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()>;

    /// [after each event] Silence changes nothing.
    ///
    /// # Errors
    /// As for `before_step`.
    fn on_event(&mut self, event: &Event, actions: &mut Actions<'_>) -> Result<()> {
        let _ = (event, actions);
        Ok(())
    }

    /// [between steps, at a checkpoint] The state that decisions depend on.
    /// [`stateless!`](crate::stateless) writes this for a strategy that has none.
    ///
    /// # Errors
    /// A state that cannot be written down.
    fn save(&self) -> Result<Saved>;

    /// [after `plan`, when a run is resumed] Goes back to what `save` gave.
    ///
    /// # Errors
    /// A state that this version cannot read.
    fn restore(&mut self, saved: &Saved) -> Result<()>;
}

impl<S: GrowthStrategy + ?Sized> GrowthStrategy for Box<S> {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        (**self).plan(run)
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        (**self).before_step(context, actions)
    }

    fn on_event(&mut self, event: &Event, actions: &mut Actions<'_>) -> Result<()> {
        (**self).on_event(event, actions)
    }

    fn save(&self) -> Result<Saved> {
        (**self).save()
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        (**self).restore(saved)
    }
}

/// A block's identity: given at birth, never reused, independent of its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[repr(transparent)]
pub struct LayerId(pub u64);

impl LayerId {
    /// No block: what all blocks share, the embeddings and the final norm, where an initializer is asked for it
    /// ([`Widen`](crate::Widen)).
    pub const SHARED: LayerId = LayerId(u64::MAX - 1);
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a run is, before it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The model at its final depth.
    pub model: ModelFacts,
    /// Tokens of one optimizer step.
    pub tokens_per_step: u64,
    /// What ends the run.
    pub budget: Budget,
    /// Whether the learning rate is the same at every step after the warm-up.
    pub constant_rate: bool,
    /// The strategy's own random streams, by the study's seed and its id. Number them by the step
    /// ([`Key::numbered`]), so that a run that goes on draws what it would have drawn. Zero from a host of revision 1.
    #[serde(default, skip_serializing_if = "Key::is_none")]
    pub key: Key,
}

/// The model at its final depth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Longest sequence.
    pub context: usize,
    /// Token ids.
    pub vocabulary: usize,
    /// Standard deviation of the initial weights.
    pub init_std: f64,
    /// Neurons of each MLP's hidden layer; 0 from a host that does not tell.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mlp_width: usize,
}

impl ModelFacts {
    /// How wide it is; from a host that does not tell of hidden layers, those are taken for GPT-2's.
    pub fn widths(&self) -> Widths {
        let mlp_width = if self.mlp_width == 0 { 4 * self.width } else { self.mlp_width };
        Widths { width: self.width, heads: self.heads, mlp_width }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What ends a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Steps of the study's token budget: what the baseline trains for. A run that is matched by
    /// compute goes on after them until its FLOPs are spent.
    pub reference_steps: u64,
    /// Exact FLOPs that end the run, where it is matched by compute.
    pub flops: Option<f64>,
}

/// What a run will look like; `sapwood plan` shows it, and what the host cannot do is refused now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Blocks at step 0, taken from the initial model's lowest; 0 is legal.
    pub initial_depth: usize,
    /// Most blocks that the stack will ever have.
    pub deepest: usize,
    /// Initializers that the study has to name, by role.
    pub slots: Vec<String>,
    /// Phases as far as they are known, for people to read.
    pub phases: Vec<PlannedPhase>,
    /// Whether the strategy chooses what runs in a step ([`Actions::execute`], [`Actions::gate`]). A run on an engine that cannot follow is
    /// refused before its first step; without the announcement every such request is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executes: bool,
    /// How wide the model is at step 0, where that is less than in the end ([`Actions::widen`]): the first coordinates,
    /// heads and neurons of the initial model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widths: Option<Widths>,
    /// What it wants to have measured, told by [`Event::Measured`]. An engine that cannot is refused before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<Measure>,
}

impl Plan {
    /// So many blocks at the start, at most so many ever, no initializer, no phases announced.
    pub fn fixed_depth(initial_depth: usize, deepest: usize) -> Plan {
        Plan {
            initial_depth,
            deepest,
            slots: Vec::new(),
            phases: Vec::new(),
            executes: false,
            widths: None,
            measure: None,
        }
    }
}

/// A phase that a strategy announces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedPhase {
    /// Its label.
    pub label: String,
    /// Its first step.
    pub first_step: u64,
    /// Its length; `None` = to the end of the run.
    pub steps: Option<u64>,
    /// Blocks in it.
    pub depth: usize,
    /// What trains, in words.
    pub trains: String,
}

/// What a strategy knows before a step.
#[derive(Clone, Copy, Debug)]
pub struct StepContext<'a> {
    /// The coming step, counted from 0.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Exact FLOPs spent so far.
    pub flops: f64,
    /// The learning rate of the coming step, if nothing changes.
    pub learning_rate: f64,
    /// Share of the budget that is spent, 0 to 1.
    pub progress: f64,
    /// The present phase's label; empty before the first.
    pub phase: &'a str,
    /// The stack, from the embeddings up.
    pub blocks: &'a [Block],
    /// Training losses, oldest first, complete to step - 2 on every engine; the newest 1024 of them.
    pub losses: &'a [LossPoint],
    /// Evaluations so far, oldest first; the newest 1024 of them.
    pub evaluations: &'a [Evaluation],
}

/// A block of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// Its identity.
    pub id: LayerId,
    /// The step before which it was inserted.
    pub born_at_step: u64,
    /// Whether any of its tensors trains (1) or none (0).
    pub trains: u64,
}

/// A step's training loss.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct LossPoint {
    /// The step.
    pub step: u64,
    /// Mean loss in nats per token, before the update.
    pub loss_nats_per_token: f64,
}

/// An evaluation on the validation tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Evaluation {
    /// Steps taken before it.
    pub step: u64,
    /// Tokens trained on before it.
    pub tokens: u64,
    /// Mean loss in nats per token.
    pub loss_nats_per_token: f64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "one event at a time, and authors take the receipt apart as it is"
)]
pub enum Event {
    /// An evaluation is done.
    Evaluated {
        /// Steps taken before it.
        step: u64,
        /// Mean validation loss in nats per token.
        loss_nats_per_token: f64,
    },
    /// What the plan wanted to have measured in a step.
    Measured(Measured),
    /// The requested edits of the stack were applied; [`Actions::reject`] takes them back.
    Edited(GrowthReceipt),
    /// A probe is over, and all is as it was before it; told before the step that it was asked for.
    Probed(Probed),
    /// The run was resumed from a checkpoint; `restore` has been called.
    Resumed {
        /// The coming step.
        step: u64,
    },
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The host's audit of a change of the stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthReceipt {
    /// The coming step.
    pub step: u64,
    /// Blocks before.
    pub depth_before: usize,
    /// Blocks after.
    pub depth_after: usize,
    /// The new blocks.
    pub new_layers: Vec<LayerId>,
    /// The blocks that left.
    pub removed_layers: Vec<LayerId>,
    /// The blocks whose values were made anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced_layers: Vec<LayerId>,
    /// Mean loss on the probe batch before, in nats per token.
    pub loss_before: f64,
    /// The same after.
    pub loss_after: f64,
    /// Largest change of a single token's loss on the probe batch.
    pub largest_token_loss_change: f64,
    /// Largest change of a logit after the first tokens of the probe batch; `None` from a host that does not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_logit_change: Option<f64>,
    /// What the initializers claimed, the weakest of them; `None` where nothing was inserted.
    pub claim: Option<Claim>,
    /// How wide the model was before and is after, where that has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widths: Option<[Widths; 2]>,
    /// RMS of what each block left in the residual stream on the probe batch before, from the embeddings up; empty from an
    /// engine that measures losses alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activation_rms_before: Vec<(LayerId, f64)>,
    /// The same after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activation_rms_after: Vec<(LayerId, f64)>,
    /// Tensors of new blocks, and of those made anew, that train but whose gradient on the probe batch is zero throughout:
    /// the coming step leaves them as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_gradient: Vec<String>,
    /// AdamW state of the new blocks by tensor: `zero`, or the counter that was copied.
    pub moments: Vec<(String, String)>,
    /// Whether every tensor that was there before, and was not made anew, is bit-identical.
    pub others_bit_identical: bool,
}
