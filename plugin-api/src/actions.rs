//! What a strategy can ask of the host. A request is answered at once: taken, or refused with the reason.

mod batch;
mod execution;
mod probe;
mod rates;
mod well_formed;
mod widen;

use serde::{Deserialize, Serialize};

pub use batch::Batch;
pub use execution::{Gate, Pass};
pub use probe::{Probe, Probed};
pub use rates::{RateFactor, ScheduleShape};
pub use widen::{Widen, WidenedMoments, Widths};

use crate::{LayerId, Result};

/// Where new blocks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Above {
    /// Right above the embeddings, below all blocks.
    Embedding,
    /// Right above that block.
    Layer(LayerId),
}

/// New blocks, in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Insert {
    /// Where they go.
    pub above: Above,
    /// How many.
    pub count: usize,
    /// The role of the initializer that fills them in, one of the plan's `slots`.
    pub slot: String,
    /// For each new block the block it is made from; empty where the initializer needs none.
    pub sources: Vec<LayerId>,
    /// Their AdamW state.
    pub moments: MomentsRule,
}

/// Blocks whose values are made anew by an initializer, where they stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replace {
    /// The blocks; an initializer sees each as the one to fill in, and all as they were before this boundary.
    pub layers: Vec<LayerId>,
    /// The role of the initializer that fills them in, one of the plan's `slots`.
    pub slot: String,
    /// For each of them the block it is made from, which may be itself; empty where the initializer needs none.
    pub sources: Vec<LayerId>,
    /// Their AdamW state; copied from itself, a block's stays as it is.
    pub moments: MomentsRule,
}

/// The AdamW state of new blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MomentsRule {
    /// As the initializer declares.
    FromInitializer,
    /// Moments zero, step counter 0.
    Zero,
    /// Moments and counter of the source. A tensor whose weights are all zero keeps zero moments:
    /// a copied moment would move it at once.
    CopyFromSource,
}

/// What trains from now on; all else is frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Train {
    /// Blocks that train.
    pub layers: Vec<LayerId>,
    /// Tensor classes (`attn.c_attn.weight`) of these blocks that train; `None` = all of them.
    pub classes: Option<Vec<String>>,
    /// The token embedding as the model's input. Where the head is tied to it the tensor trains if
    /// either use trains, and the decision log says so.
    pub token_embedding: bool,
    /// The position embedding.
    pub position_embedding: bool,
    /// The norm before the head.
    pub final_norm: bool,
    /// The token embedding as the head.
    pub head: bool,
}

impl Train {
    /// These blocks and everything that is shared.
    pub fn with_shared(layers: Vec<LayerId>) -> Train {
        let classes = None;
        Train {
            layers,
            classes,
            token_embedding: true,
            position_embedding: true,
            final_norm: true,
            head: true,
        }
    }

    /// These blocks alone.
    pub fn blocks_only(layers: Vec<LayerId>) -> Train {
        let classes = None;
        Train {
            layers,
            classes,
            token_embedding: false,
            position_embedding: false,
            final_norm: false,
            head: false,
        }
    }
}

/// A change of AdamW states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerRule {
    /// Of which tensors.
    pub which: Which,
    /// What happens to them.
    pub change: OptimizerChange,
}

/// A choice of tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// Every tensor of the stack, shared ones included.
    All,
    /// Embeddings and final norm.
    Shared,
    /// These blocks.
    Layers(Vec<LayerId>),
    /// All tensors of a class, in every block or shared.
    Class(String),
}

/// What happens to AdamW states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerChange {
    /// Moments zero, step counter 0.
    Reset,
    /// Moments multiplied.
    Scale {
        /// Factor of the first moment.
        first: f64,
        /// Factor of the second moment; not negative.
        second: f64,
    },
    /// The step counter, which the bias correction uses.
    SetUpdates(u64),
    /// Moments and counter of another block; for [`Which::Layers`] alone.
    CopyFrom(LayerId),
}

/// A change of the learning rate's schedule from this step on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleChange {
    /// Moves along the schedule by that share of the budget, forward (positive) or back.
    Shift(f64),
    /// Rises linearly from zero to the scheduled rate over so many steps.
    Rewarm(u64),
    /// Begins the schedule anew, warm-up included, over what is left of the budget.
    Restart,
    /// Stretches the schedule's horizon by that factor (> 0).
    Extend(f64),
    /// Falls linearly from the present rate to the schedule's final one over that share of the budget.
    DecayNow(f64),
    /// Multiplies the highest rate, and so every later one. In a host of revision 2 and later.
    Scale(f64),
    /// Follows another shape over what is left of the budget, from the highest rate on and without a warm-up; a decay or
    /// a shift that was asked for before is forgotten. In a host of revision 2 and later.
    Follow(ScheduleShape),
}

/// One request, as the decision log records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// See [`Actions::insert`].
    Insert(Insert),
    /// See [`Actions::remove`].
    Remove(Vec<LayerId>),
    /// See [`Actions::train`].
    Train(Train),
    /// See [`Actions::optimizer`].
    Optimizer(OptimizerRule),
    /// See [`Actions::schedule`].
    Schedule(ScheduleChange),
    /// See [`Actions::evaluate`].
    Evaluate,
    /// See [`Actions::checkpoint`].
    Checkpoint(String),
    /// See [`Actions::stop`].
    Stop(String),
    /// See [`Actions::phase`].
    Phase(String),
    /// See [`Actions::metric`].
    Metric {
        /// Its name.
        key: String,
        /// Its value.
        value: f64,
    },
    /// See [`Actions::accept`].
    Accept,
    /// See [`Actions::reject`].
    Reject(String),
    /// See [`Actions::replace`].
    Replace(Replace),
    /// See [`Actions::execute`].
    Execute(Vec<Pass>),
    /// See [`Actions::execute_whole_stack`].
    ExecuteWholeStack,
    /// See [`Actions::permute`].
    Permute(Vec<LayerId>),
    /// See [`Actions::gate`].
    Gate(Vec<Gate>),
    /// See [`Actions::rates`].
    Rates(Vec<RateFactor>),
    /// See [`Actions::batch`].
    Batch(Batch),
    /// See [`Actions::probe`].
    Probe(Probe),
    /// See [`Actions::widen`].
    Widen(Widen),
}

/// What the host answers to a request that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Taken.
    Taken,
    /// Taken; the new blocks get this identity and those that follow it.
    FirstLayer(LayerId),
}

/// Where requests go. Authors use [`Actions`]; hosts and test harnesses implement this.
pub trait ActionSink {
    /// Takes a request or refuses it with the reason.
    ///
    /// # Errors
    /// The reason of the refusal.
    fn push(&mut self, action: Action) -> Result<Pushed>;
}

/// The requests of one call, applied in order, all or none, before the coming step.
///
/// Every method answers at once. A refusal changes nothing: pass it on with `?` to stop the run with that
/// reason, or ask for something else.
pub struct Actions<'a> {
    sink: &'a mut dyn ActionSink,
}

impl<'a> Actions<'a> {
    /// Requests into that sink.
    pub fn new(sink: &'a mut dyn ActionSink) -> Actions<'a> {
        Actions { sink }
    }

    /// Inserts new blocks; answers their identities, from the lowest up, so that later requests of the
    /// same call can name them. New blocks train, unless [`train`](Actions::train) says otherwise.
    ///
    /// # Errors
    /// A refusal: no such block or slot, too deep, or an engine that cannot.
    pub fn insert(&mut self, insert: Insert) -> Result<Vec<LayerId>> {
        let count = insert.count as u64;
        match self.sink.push(Action::Insert(insert))? {
            Pushed::FirstLayer(first) => Ok((first.0..first.0 + count).map(LayerId).collect()),
            Pushed::Taken => Ok(Vec::new()),
        }
    }

    /// Removes blocks.
    ///
    /// # Errors
    /// A refusal: no such block.
    pub fn remove(&mut self, layers: &[LayerId]) -> Result<()> {
        self.take(Action::Remove(layers.to_vec()))
    }

    /// Has an initializer make the values of blocks anew, in a host of revision 2 and later.
    ///
    /// # Errors
    /// A refusal: no such block or slot, or a host that cannot.
    pub fn replace(&mut self, replace: Replace) -> Result<()> {
        self.take(Action::Replace(replace))
    }

    /// Sets which blocks run, and in which order, from the coming step on: until another such request, or until blocks
    /// come or go, after which the whole stack runs. In a host of revision 2 and later. What does not run in a step
    /// does not train in it: its AdamW state and step counter stay as they are. Evaluations and probes always run the
    /// whole stack.
    ///
    /// # Errors
    /// A refusal: a plan that did not announce it ([`Plan::executes`](crate::Plan)), no such block, a gate that is no
    /// number, a mask of another length than the step's sequences, or a host that cannot.
    pub fn execute(&mut self, passes: Vec<Pass>) -> Result<()> {
        self.take(Action::Execute(passes))
    }

    /// The whole stack runs again, each block once, in order. In a host of revision 2 and later.
    ///
    /// # Errors
    /// A refusal: a host that cannot.
    pub fn execute_whole_stack(&mut self) -> Result<()> {
        self.take(Action::ExecuteWholeStack)
    }

    /// Puts the blocks into another order. In a host of revision 2 and later.
    ///
    /// # Errors
    /// A refusal: not every block once, or a host that cannot.
    pub fn permute(&mut self, from_the_embedding: Vec<LayerId>) -> Result<()> {
        self.take(Action::Permute(from_the_embedding))
    }

    /// Multiplies what blocks add to the residual stream, from the coming step on until the next such request about them.
    /// Other than in [`execute`](Actions::execute), a gate is part of the model: evaluations and probes pass it too. At 0 a
    /// branch does not run, and does not train. In a host of revision 2 and later.
    ///
    /// # Errors
    /// A refusal: a plan that did not announce it ([`Plan::executes`](crate::Plan)), no such block, a gate that is no
    /// number, or a host that cannot.
    pub fn gate(&mut self, gates: Vec<Gate>) -> Result<()> {
        self.take(Action::Gate(gates))
    }

    /// Multiplies the learning rate of some tensors, from the coming step on, in place of what was asked before; of several
    /// factors for a tensor the last counts. Decoupled weight decay goes with the rate. In a host of revision 2 and later.
    ///
    /// # Errors
    /// A refusal: no such block or class, a factor below 0, or a host that cannot.
    pub fn rates(&mut self, factors: Vec<RateFactor>) -> Result<()> {
        self.take(Action::Rates(factors))
    }

    /// Sets how much a step reads, from the coming one on. In a host of revision 2 and later.
    ///
    /// # Errors
    /// A refusal: a length that does not divide the model's, a step that is no whole number of such rows or more than 64
    /// times the study's, or a host that cannot.
    pub fn batch(&mut self, batch: Batch) -> Result<()> {
        self.take(Action::Batch(batch))
    }

    /// Tries out several ways to go on, each from how things stand now, for some steps on the data to come; then all is as
    /// it was, and [`Event::Probed`](crate::Event::Probed) tells their losses before the coming step, so that one of them
    /// can be asked for. What it costs is charged to the run. Once a step, and beside numbers alone. In a host of revision
    /// 2 and later.
    ///
    /// # Errors
    /// A refusal: a candidate that would be refused by itself, more than the budget has left, or a host that cannot.
    pub fn probe(&mut self, probe: Probe) -> Result<()> {
        self.take(Action::Probe(probe))
    }

    /// Makes the model wider, in a host of revision 2 and later.
    ///
    /// # Errors
    /// A refusal: no such slot, nothing that would be wider, a part that would be narrower or is beyond the model's own, or a
    /// host that cannot.
    pub fn widen(&mut self, widen: Widen) -> Result<()> {
        self.take(Action::Widen(widen))
    }

    /// Sets what trains from now on.
    ///
    /// # Errors
    /// A refusal: no such block or class, or nothing would train.
    pub fn train(&mut self, train: Train) -> Result<()> {
        self.take(Action::Train(train))
    }

    /// Changes AdamW states.
    ///
    /// # Errors
    /// A refusal: no such block or class, or a factor that is no number.
    pub fn optimizer(&mut self, rule: OptimizerRule) -> Result<()> {
        self.take(Action::Optimizer(rule))
    }

    /// Changes the learning rate's schedule.
    ///
    /// # Errors
    /// A refusal: a number out of range.
    pub fn schedule(&mut self, change: ScheduleChange) -> Result<()> {
        self.take(Action::Schedule(change))
    }

    /// Evaluates before the coming step.
    ///
    /// # Errors
    /// Never in revision 1.
    pub fn evaluate(&mut self) -> Result<()> {
        self.take(Action::Evaluate)
    }

    /// Saves a checkpoint of that name before the coming step; it is kept.
    ///
    /// # Errors
    /// A refusal: a name that is no file name.
    pub fn checkpoint(&mut self, name: &str) -> Result<()> {
        self.take(Action::Checkpoint(name.into()))
    }

    /// Ends the run before the coming step, as finished.
    ///
    /// # Errors
    /// Never in revision 1.
    pub fn stop(&mut self, reason: &str) -> Result<()> {
        self.take(Action::Stop(reason.into()))
    }

    /// A new phase begins: a span in which what trains does not change. The host audits the one that ends.
    ///
    /// # Errors
    /// A refusal: a label that is too long.
    pub fn phase(&mut self, label: &str) -> Result<()> {
        self.take(Action::Phase(label.into()))
    }

    /// A number of the strategy's own, for the reporters.
    ///
    /// # Errors
    /// A refusal: a key that is too long.
    pub fn metric(&mut self, key: &str, value: f64) -> Result<()> {
        self.take(Action::Metric { key: key.into(), value })
    }

    /// [on [`Event::Edited`](crate::Event::Edited)] Keeps the edit, as does saying nothing.
    ///
    /// # Errors
    /// A refusal at any other moment.
    pub fn accept(&mut self) -> Result<()> {
        self.take(Action::Accept)
    }

    /// [on [`Event::Edited`](crate::Event::Edited)] Takes the edit back: the model is again what it was
    /// before this boundary's requests.
    ///
    /// # Errors
    /// A refusal at any other moment.
    pub fn reject(&mut self, reason: &str) -> Result<()> {
        self.take(Action::Reject(reason.into()))
    }

    /// Passes a request on as it is.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub fn push(&mut self, action: Action) -> Result<Pushed> {
        self.sink.push(action)
    }

    fn take(&mut self, action: Action) -> Result<()> {
        self.sink.push(action).map(|_| ())
    }
}
