//! Where a run stands, tensors aside.

use std::collections::BTreeMap;

use engine::Step;
use plugin_host::api::{Evaluation, LossPoint, Measured, Saved};
use serde::{Deserialize, Serialize};

use crate::costs::Costs;
use crate::course::Course;
use crate::growth::audit::PhaseStart;
use crate::run::SharedPrefix;
use crate::trail::Trail;

/// Where a run stands, tensors aside.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState {
    /// The coming step.
    pub step: Step,
    /// Whether the strategy has been asked about the coming step already.
    pub decided: bool,
    /// Why the strategy has ended the run, if it has.
    pub stopped: Option<String>,
    /// What has been decided.
    pub course: Course,
    /// What it has cost.
    pub costs: Costs,
    /// The running phase's start, for its audit.
    pub phase_start: Option<PhaseStart>,
    /// Recent training losses, oldest first.
    pub losses: Vec<LossPoint>,
    /// Recent evaluations, oldest first.
    pub evaluations: Vec<Evaluation>,
    /// The step before which each suite was put to the model last.
    pub suites_asked: BTreeMap<String, Step>,
    /// What is still to be told to the strategy.
    pub untold: Untold,
    /// Chained hash of the batches so far.
    pub batches_sha256: String,
    /// Chained hash of all that the tensors have come from.
    pub(crate) trail: Trail,
    /// Steps whose update was not made, since their loss or gradient was not finite.
    pub skipped: Vec<Step>,
    /// What it took over from another run.
    pub shared: Option<SharedPrefix>,
    /// Lengths of the logs.
    pub logs: LogLengths,
    /// What the plugins saved, by file name.
    pub plugins: BTreeMap<String, Saved>,
}

/// What has happened, and is still to be told to the strategy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Untold {
    /// Whether the newest evaluation is.
    pub evaluation: bool,
    /// What was measured, oldest first.
    pub measured: Vec<Measured>,
}

/// Lengths of a run's logs, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLengths {
    /// Of `metrics.jsonl`.
    pub metrics: u64,
    /// Of `evals.jsonl`.
    pub evaluations: u64,
    /// Of `suites.jsonl`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suites: u64,
    /// Of `decisions.jsonl`.
    pub decisions: u64,
    /// Of `shadows.jsonl`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shadows: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
