//! The loop of one run, read top to bottom; what each line does stands in a file of its own below `run/`:
//!
//! ```text
//! start, or go on from the newest checkpoint         RunStarted
//! until the budget is spent or the strategy stops:
//!     evaluate if it is due                     -> evals.jsonl, Evaluated
//!     put suites to the model if they are due   -> suites.jsonl, Metric
//!     save for runs that begin as copies        -> forks/
//!     cease to be another run's copy
//!     save and end if interrupted
//!     save if it is due, and go on meanwhile    -> checkpoints/
//!     once before each step, and then all over again:
//!         ask the strategy                      -> decisions.jsonl
//!         ask the shadows, to no effect         -> shadows.jsonl
//!         try out candidates, if it asks to     -> it may ask again; all is as before
//!         carry the requests out                -> Edited, PhaseStarted; rolled back if rejected
//!     forward, backward, update                 -> metrics.jsonl, Step
//! evaluate, put all suites to the model, audit, save, DONE    RunFinished, or RunStopped
//! ```
//!
//! Evaluation comes before growth: the loss right after an insertion is not comparable. A checkpoint comes
//! before the strategy is asked, so that going on asks again, and nothing grows twice.

mod decisions;
mod evaluating;
mod logs;
mod measured;
mod phases;
mod prefix;
mod probing;
mod saving;
mod shadows;
mod start;
mod step;
mod suites;
mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use data::{Corpus, ReadAhead};
use engine::{Engine, ModelShape, Step, TokenBatch, Wait};
use plugin_host::Loaded;
use plugin_host::api::{GrowthStrategy, Measure, RunEvent};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{RunState, Untold};
use crate::costs::budget::step_fits;
use crate::costs::energy::EnergyCounter;
use crate::costs::{Costs, Speedometer, SpentFlops, StepCost, peak_memory_bytes};
use crate::course::Rules;
use crate::folder::RunFolder;
use crate::folder::owner::Owner;
use crate::folder::records::StepRecord;
use crate::growth::Initializers;
use crate::initial::InitialModel;
use crate::storage::write_json;
use crate::trail::StepKey;
use crate::{RunConfig, Suite, TrainError};
use shadows::Shadows;
pub use shadows::check_shadow;
use suites::Answered;
use writer::Writer;

use logs::Logs;
use prefix::Ahead;
pub use prefix::{Prefix, SharedPrefix};

/// What a run is made of.
pub struct Parts<'a> {
    /// Its configuration, checked.
    pub config: &'a RunConfig,
    /// An engine with no block yet.
    pub engine: Box<dyn Engine>,
    /// Decides.
    pub strategy: Loaded<dyn GrowthStrategy>,
    /// Fill in new blocks, by slot.
    pub initializers: Initializers,
    /// Ride along, in the order of the configuration: asked as the strategy is, never obeyed.
    pub shadows: Vec<Loaded<dyn GrowthStrategy>>,
    /// The model that baseline and grown runs share.
    pub initial: InitialModel,
    /// What is read.
    pub corpus: &'a Corpus,
    /// What the model is put to, in the order of the configuration.
    pub suites: &'a [Suite],
    /// Where it is written down.
    pub folder: &'a RunFolder,
    /// Where events go.
    pub report: &'a (dyn Fn(RunEvent) + Sync),
    /// Set when the run is to save and stop.
    pub interrupt: &'a AtomicBool,
    /// Whether nothing else runs beside it, so that its seconds and joules are its own.
    pub alone: bool,
    /// What it begins as a copy of, where it has no checkpoint of its own yet.
    pub prefix: Option<Prefix>,
    /// Steps before which it is saved for other runs that begin as its copies.
    pub forks: BTreeSet<Step>,
    /// Whether the folder is still this run's to write into.
    pub owner: Arc<dyn Owner>,
}

/// What a finished run came to; also the content of `DONE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// `arm/budget/seed-N`.
    pub run: String,
    /// Steps taken.
    pub steps: Step,
    /// Last validation loss in nats per token.
    pub loss_nats_per_token: f64,
    /// What it has cost.
    pub costs: Costs,
    /// Why the strategy ended the run, if it did.
    pub stopped: Option<String>,
    /// Steps whose update was not made, since their loss or gradient was not finite. It is charged with them all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_steps: Vec<Step>,
    /// Shadows that have failed, and how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_shadows: Vec<String>,
    /// Most memory that the process held, in bytes, other runs in it included.
    pub peak_memory_bytes: Option<u64>,
    /// Most device memory held, in bytes.
    pub device_memory_peak_bytes: Option<u64>,
    /// What it took over from another run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedPrefix>,
}

/// Trains one run to its end, going on from its newest checkpoint if it has one.
///
/// # Errors
/// Whatever ends the run before its time. Where the state of the coming step is still whole (a plugin's
/// fault, an interruption) it is saved first; where the folder is somebody else's by now, nothing is written any more.
pub fn run(parts: Parts<'_>) -> Result<RunSummary, TrainError> {
    let mut run = Run::start(parts)?;
    let mut outcome = run.train_until_done();
    // Whatever ended it: what was saved before that is to be whole.
    if let Err(error) = run.writer.wait() {
        outcome = outcome.and(Err(error));
    }
    if let Err(error) = &outcome {
        let reason = error.to_string();
        (run.parts.report)(RunEvent::RunStopped { run: run.name.clone(), reason });
    }
    outcome
}

impl Run<'_> {
    fn train_until_done(&mut self) -> Result<RunSummary, TrainError> {
        while self.state.stopped.is_none() && step_fits(self.parts.config, &self.state.costs, &self.step_cost)
        {
            if self.parts.owner.has_lost() {
                return Err(self.taken_over());
            }
            self.writer.check()?;
            if self.evaluation_is_due() {
                self.evaluate()?;
            }
            // Whatever is not answered is due again when the run goes on.
            self.ask_suites(&self.suites_due())?;
            if self.fork_is_due() {
                self.save_for_others()?;
            }
            self.leave_prefix()?;
            if self.parts.interrupt.load(Ordering::Relaxed) {
                self.save_unless_ahead()?;
                return Err(TrainError::Interrupted { step: self.state.step });
            }
            if self.checkpoint_is_due() {
                self.save_meanwhile()?;
            }
            if !self.state.decided {
                self.decide()?;
                continue; // What was decided may have changed what the step costs.
            }
            self.step()?;
        }
        self.finish()
    }

    /// The model as it is now.
    fn shape(&self) -> ModelShape {
        self.state.course.shape(&self.parts.config.model)
    }

    fn finish(&mut self) -> Result<RunSummary, TrainError> {
        self.read_outcomes(Wait::ForAll)?;
        let already = self.state.evaluations.last().is_some_and(|last| last.step == self.state.step.0);
        if !already {
            self.evaluate()?;
        }
        if self.ask_suites(&self.suites_at_end())? == Answered::NotYet {
            self.save_unless_ahead()?;
            return Err(TrainError::Interrupted { step: self.state.step });
        }
        self.end_phase()?;
        self.save(None)?;
        let summary = RunSummary {
            run: self.name.clone(),
            steps: self.state.step,
            loss_nats_per_token: self
                .state
                .evaluations
                .last()
                .map_or(f64::NAN, |last| last.loss_nats_per_token),
            costs: self.state.costs.clone(),
            stopped: self.state.stopped.clone(),
            skipped_steps: self.state.skipped.clone(),
            dropped_shadows: self.shadows.dropped(),
            peak_memory_bytes: peak_memory_bytes(),
            device_memory_peak_bytes: self.parts.engine.info().device_memory_peak_bytes,
            shared: self.state.shared.clone(),
        };
        self.check_owner()?;
        write_json(&self.parts.folder.done_file(), &summary)?;
        (self.parts.report)(RunEvent::RunFinished {
            run: self.name.clone(),
            steps: summary.steps.0,
            tokens: summary.costs.tokens.0,
            loss_nats_per_token: summary.loss_nats_per_token,
            wall_seconds: summary.costs.wall.training_seconds,
        });
        Ok(summary)
    }
}

/// A run under way.
struct Run<'a> {
    parts: Parts<'a>,
    name: String,
    rules: Rules,
    /// What the strategy wants to have measured.
    measure: Option<Measure>,
    state: RunState,
    step_cost: StepCost,
    step_key: StepKey,
    /// The other run that it is still a copy of.
    ahead: Option<Ahead>,
    blocks_view: Vec<plugin_host::api::Block>,
    shadows: Shadows,
    logs: Logs,
    batches: ReadAhead,
    validation: Vec<TokenBatch>,
    /// Batches that a model is looked at with before and after an edit.
    looks: Vec<TokenBatch>,
    resumed: bool,
    /// While the strategy is being asked: how things stood before that.
    before_asking: Option<BeforeAsking>,
    /// Steps whose losses have not been read yet, oldest first.
    unread: VecDeque<StepRecord>,
    speedometer: Speedometer,
    energy: Option<EnergyCounter>,
    writer: Writer,
}

/// What the plugins saved, by file name.
type SavedPlugins = BTreeMap<String, plugin_host::api::Saved>;

/// What a checkpoint holds that is written while the strategy is being asked: going on from there asks again.
struct BeforeAsking {
    plugins: SavedPlugins,
    decisions_length: u64,
    shadows_length: u64,
    untold: Untold,
    spent_flops: SpentFlops,
}
