//! How far a study is, from its files alone: nothing is locked, so that whoever works on it is not disturbed.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, SystemTime};

use plugin_host::bounded;
use serde::{Deserialize, Serialize};
use trainer::folder::RunFolder;
use trainer::folder::records::{EvaluationRecord, StepRecord};
use trainer::storage::{LARGEST_LOG_BYTES, read_json};
use trainer::{RunConfig, RunSummary};

use crate::StudyError;
use crate::evidence::results::study_of;
use crate::planning::comparisons::runs_by_arm;
use crate::running::claim::{Holder, holder};
use crate::running::execute::Failure;

/// Somebody is at work on a study whose logs have grown within this time.
const FRESH: Duration = Duration::from_secs(60);
/// What is read of the end of a log: more than its longest line.
const TAIL_BYTES: u64 = 16_384;

/// How far a study is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StudyProgress {
    /// Its name.
    pub study: String,
    /// The arm that all others are compared with.
    pub baseline: String,
    /// Every run that it plans.
    pub runs: Vec<RunProgress>,
    /// Whether a log has grown within the last minute.
    pub is_at_work: bool,
    /// Seconds that are left at the pace so far; `None` where nothing has begun, or all is done.
    pub seconds_left: Option<f64>,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunProgress {
    /// Its arm.
    pub arm: String,
    /// Its budget.
    pub budget: String,
    /// Its seed.
    pub seed: u64,
    /// What has become of it.
    pub state: RunState,
    /// Steps taken.
    pub steps: u64,
    /// Share of its budget that is spent, 0 to 1.
    pub share: f64,
    /// The newest loss: of its end where it has finished, else of its last step.
    pub loss_nats_per_token: Option<f64>,
    /// Training seconds at the last evaluation.
    pub wall_seconds: f64,
    /// Blocks now, and its phase.
    pub depth: usize,
    /// Its phase's label.
    pub phase: String,
    /// Who works on it, as far as its files tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// Evaluations: steps taken, and the loss.
    pub curve: Vec<(u64, f64)>,
}

/// What has become of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// It has come to its end.
    Finished,
    /// Its loss was no number any more.
    Diverged,
    /// It ended with another error.
    Failed(String),
    /// It has begun.
    Begun,
    /// It has not.
    NotBegun,
}

impl StudyProgress {
    /// Runs in such a state.
    pub fn count(&self, is: impl Fn(&RunState) -> bool) -> usize {
        self.runs.iter().filter(|run| is(&run.state)).count()
    }

    /// Mean share of all runs, 0 to 1.
    pub fn share(&self) -> f64 {
        self.runs.iter().map(|run| run.share).sum::<f64>() / self.runs.len().max(1) as f64
    }
}

/// Looks at a study's folder.
///
/// # Errors
/// A folder that is no study's, or a file that cannot be read.
pub fn progress(folder: &Path) -> Result<StudyProgress, StudyError> {
    let file = study_of(folder)?;
    let (mut runs, mut is_at_work) = (Vec::new(), false);
    let budgets_of =
        |(arm, budgets): (String, Vec<String>)| budgets.into_iter().map(move |budget| (arm.clone(), budget));
    for (arm, budget) in runs_by_arm(&file).into_iter().flat_map(budgets_of) {
        for &seed in &file.study.seeds {
            let run =
                RunFolder::at(folder.join("runs").join(&arm).join(&budget).join(format!("seed-{seed}")));
            is_at_work |= !run.is_done() && is_fresh(&run.metrics_file());
            runs.push(of_run(&run, &arm, &budget, seed)?);
        }
    }
    let seconds_left = seconds_left(&runs);
    Ok(StudyProgress {
        study: file.study.name,
        baseline: file.study.baseline,
        runs,
        is_at_work,
        seconds_left,
    })
}

fn of_run(run: &RunFolder, arm: &str, budget: &str, seed: u64) -> Result<RunProgress, StudyError> {
    let mut told = RunProgress {
        arm: arm.to_owned(),
        budget: budget.to_owned(),
        seed,
        state: RunState::NotBegun,
        steps: 0,
        share: 0.0,
        loss_nats_per_token: None,
        wall_seconds: 0.0,
        depth: 0,
        phase: String::new(),
        holder: if run.is_done() { None } else { holder(run) },
        curve: Vec::new(),
    };
    if !run.run_file().is_file() {
        return Ok(told);
    }
    told.state = RunState::Begun;
    let evaluations = evaluations(&run.evaluations_file());
    told.wall_seconds = evaluations.last().map_or(0.0, |last| last.wall_seconds);
    told.curve = evaluations.iter().map(|at| (at.step.0, at.loss_nats_per_token)).collect();
    if let Some(last) = last_step(&run.metrics_file()) {
        let Bound { config } = read_json(&run.run_file())?;
        told.share = share(&config, &last).min(1.0);
        told.steps = last.step.0 + 1;
        told.loss_nats_per_token = Some(last.loss_nats_per_token);
        (told.depth, told.phase) = (last.depth, last.phase);
    }
    if run.is_done() {
        let summary: RunSummary = read_json(&run.done_file())?;
        told.state = RunState::Finished;
        (told.share, told.loss_nats_per_token) = (1.0, Some(summary.loss_nats_per_token));
    } else if run.failed_file().is_file() {
        let Failure { reason, diverged, .. } = read_json(&run.failed_file())?;
        told.state = if diverged { RunState::Diverged } else { RunState::Failed(reason) };
    }
    Ok(told)
}

/// What of `run.json` is looked at.
#[derive(Deserialize)]
struct Bound {
    config: RunConfig,
}

fn share(config: &RunConfig, last: &StepRecord) -> f64 {
    match config.budget.flops {
        Some(budget) => last.flops.as_f64() / budget.as_f64().max(1.0),
        None => (last.step.0 + 1) as f64 / config.budget.reference_steps.max(1) as f64,
    }
}

/// All that can be read now: a line that is just being written is left for the next look, as is a log that is not there yet.
fn evaluations(path: &Path) -> Vec<EvaluationRecord> {
    let text = bounded::read_text(path, LARGEST_LOG_BYTES).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The newest whole line; one that is being written is left for the next look.
fn last_step(path: &Path) -> Option<StepRecord> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
    let whole = &tail[..tail.iter().rposition(|&byte| byte == b'\n')?];
    whole.rsplit(|&byte| byte == b'\n').find_map(|line| serde_json::from_slice(line).ok())
}

fn is_fresh(path: &Path) -> bool {
    let changed = std::fs::metadata(path).and_then(|facts| facts.modified());
    changed.is_ok_and(|changed| SystemTime::now().duration_since(changed).is_ok_and(|age| age < FRESH))
}

/// What runs that are not over still need, each at the mean pace of those that have begun, as many side by side as are under way.
fn seconds_left(runs: &[RunProgress]) -> Option<f64> {
    let paced = runs.iter().filter(|run| run.share > 0.0 && run.wall_seconds > 0.0);
    let whole: Vec<f64> = paced.map(|run| run.wall_seconds / run.share).collect();
    let open = || runs.iter().filter(|run| matches!(run.state, RunState::Begun | RunState::NotBegun));
    let left: f64 = open().map(|run| 1.0 - run.share).sum();
    if whole.is_empty() || left <= 0.0 {
        return None;
    }
    let mean = whole.iter().sum::<f64>() / whole.len() as f64;
    let side_by_side = open().filter(|run| run.state == RunState::Begun).count().max(1);
    Some(left * mean / side_by_side as f64)
}
