//! The metric reporter: watches a study's runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{GrowthReceipt, Result};

/// Watches. One instance sees all runs of a study, each event naming its run.
///
/// Runs on a thread of its own behind a bounded queue: it cannot slow training. Lifecycle events are never
/// dropped, step events may be. An error takes the reporter out of the study, which goes on without it.
pub trait MetricReporter: Send {
    /// [once, before any event]
    ///
    /// # Errors
    /// Whatever keeps the reporter from working.
    fn start(&mut self, session: &SessionFacts) -> Result<()>;

    /// [for every event]
    ///
    /// # Errors
    /// As for `start`.
    fn event(&mut self, event: &RunEvent) -> Result<()>;

    /// [now and then, and before `finish`] Writes out what is held back.
    ///
    /// # Errors
    /// As for `start`.
    fn flush(&mut self) -> Result<()>;

    /// [once, after the last event]
    ///
    /// # Errors
    /// As for `start`.
    fn finish(&mut self) -> Result<()>;
}

/// What a reporter is told before the first event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFacts {
    /// The study's name.
    pub study: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Runs of the study that are still to do.
    pub runs: usize,
    /// Whether standard error is a terminal: bars and colours are welcome.
    pub terminal: bool,
}

/// Something that happened in a run, named `arm/budget/seed-N`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunEvent {
    /// A run begins, or goes on from a checkpoint.
    RunStarted {
        /// The run.
        run: String,
        /// The run's own folder.
        folder: PathBuf,
        /// The first step to come; not 0 where the run is resumed.
        first_step: u64,
        /// Steps that the budget allows, where it is counted in tokens; an upper bound elsewhere.
        most_steps: u64,
    },
    /// A step is done.
    Step {
        /// The run.
        run: String,
        /// Its number, counted from 0.
        step: u64,
        /// Tokens trained on, this step's included.
        tokens: u64,
        /// Exact FLOPs spent, this step's included.
        flops: f64,
        /// Share of the budget spent, 0 to 1.
        progress: f64,
        /// Mean loss in nats per token, before the update.
        loss_nats_per_token: f64,
        /// L2 norm of the gradient, before clipping.
        gradient_norm: f64,
        /// Learning rate.
        learning_rate: f64,
        /// Blocks.
        depth: usize,
        /// Phase.
        phase: String,
        /// Seconds of training in this process so far.
        wall_seconds: f64,
        /// Tokens per second over the last second or so.
        tokens_per_second: f64,
    },
    /// An evaluation is done.
    Evaluated {
        /// The run.
        run: String,
        /// Steps taken before it.
        step: u64,
        /// Tokens trained on before it.
        tokens: u64,
        /// Mean validation loss in nats per token.
        loss_nats_per_token: f64,
    },
    /// The stack changed.
    Edited {
        /// The run.
        run: String,
        /// The host's audit.
        receipt: GrowthReceipt,
    },
    /// A phase begins.
    PhaseStarted {
        /// The run.
        run: String,
        /// The coming step.
        step: u64,
        /// Its label.
        label: String,
        /// Blocks.
        depth: usize,
        /// Tensors that train, of all tensors of the stack.
        trainable_tensors: usize,
        /// All tensors of the stack.
        tensors: usize,
    },
    /// A number that has no event of its own: one of the strategy's, a suite's (`suite/number`), or `skipped_step`, which is 1
    /// at a step whose update was not made.
    Metric {
        /// The run.
        run: String,
        /// The coming step.
        step: u64,
        /// Its name.
        key: String,
        /// Its value.
        value: f64,
    },
    /// A run is finished.
    RunFinished {
        /// The run.
        run: String,
        /// Steps taken.
        steps: u64,
        /// Tokens trained on.
        tokens: u64,
        /// Last validation loss in nats per token.
        loss_nats_per_token: f64,
        /// Seconds of training, all sittings together.
        wall_seconds: f64,
    },
    /// A run failed or was interrupted.
    RunStopped {
        /// The run.
        run: String,
        /// Why.
        reason: String,
    },
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

impl RunEvent {
    /// The run that it is about; `None` for what this version does not know.
    pub fn run(&self) -> Option<&str> {
        match self {
            RunEvent::RunStarted { run, .. }
            | RunEvent::Step { run, .. }
            | RunEvent::Evaluated { run, .. }
            | RunEvent::Edited { run, .. }
            | RunEvent::PhaseStarted { run, .. }
            | RunEvent::Metric { run, .. }
            | RunEvent::RunFinished { run, .. }
            | RunEvent::RunStopped { run, .. } => Some(run),
            RunEvent::Unknown => None,
        }
    }

    /// Whether it may be dropped when the reporter is too slow.
    pub fn may_be_dropped(&self) -> bool {
        match self {
            RunEvent::Step { .. } | RunEvent::Metric { .. } => true,
            RunEvent::RunStarted { .. }
            | RunEvent::Evaluated { .. }
            | RunEvent::Edited { .. }
            | RunEvent::PhaseStarted { .. }
            | RunEvent::RunFinished { .. }
            | RunEvent::RunStopped { .. }
            | RunEvent::Unknown => false,
        }
    }
}
