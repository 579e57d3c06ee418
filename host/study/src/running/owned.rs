//! A run by its one owner: claimed, trained, let go; or left to whoever has it, or waited for. Not here: how a claim
//! comes about (`claim`), and how a run is trained (`execute`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use plugin_host::api::RunEvent;
use trainer::folder::RunFolder;
use trainer::{RunConfig, RunSummary, TrainError};

use crate::lab::Lab;
use crate::running::claim::{Claim, Holder, PACE, Taken, holder};
use crate::running::execute::{Execution, Scope, run_folder, run_one};

/// From one look at somebody else's claim to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What became of a run.
pub(crate) enum Outcome {
    /// It was brought to its end here.
    Finished(Box<RunSummary>),
    /// Somebody else had finished it when it was claimed.
    FinishedElsewhere,
    /// Somebody else works on it.
    Elsewhere(Holder),
    /// Somebody interrupted while it was waited for.
    Interrupted,
    /// It ended with an error, or was interrupted.
    Failed(TrainError),
}

/// Runs it, if it is nobody else's.
pub(crate) fn run(
    lab: &Lab<'_>,
    run: &RunConfig,
    how: &Execution<'_>,
    lane: usize,
    report: &(dyn Fn(RunEvent) + Sync),
) -> Outcome {
    let folder = run_folder(how.folder, run);
    while !folder.is_done() {
        let claim = match Claim::take(&folder, PACE) {
            Ok(Taken::Ours(claim)) => Arc::new(claim),
            Ok(Taken::Theirs(holder)) if how.scope == Scope::Study => return Outcome::Elsewhere(holder),
            Ok(Taken::Theirs(holder)) => match wait(run, how, &folder, &holder) {
                Waited::Gone => continue,
                Waited::Interrupted => return Outcome::Interrupted,
            },
            Err(error) => return Outcome::Failed(error),
        };
        if folder.is_done() {
            return Outcome::FinishedElsewhere;
        }
        match run_one(lab, run, how, lane, &claim, report) {
            Ok(summary) => return Outcome::Finished(Box::new(summary)),
            Err(TrainError::TakenOver { .. }) => match (how.scope, holder(&folder)) {
                // It is theirs to finish, and ours to see that they do.
                (Scope::TheseRuns, _) => drop(claim),
                (Scope::Study, Some(holder)) => return Outcome::Elsewhere(holder),
                (Scope::Study, None) => drop(claim),
            },
            Err(error) => return Outcome::Failed(error),
        }
    }
    Outcome::FinishedElsewhere
}

/// How a wait ended.
enum Waited {
    /// The run is finished, or perhaps free.
    Gone,
    Interrupted,
}

/// Waits until it may be worth while to ask for the run again.
fn wait(run: &RunConfig, how: &Execution<'_>, folder: &RunFolder, theirs: &Holder) -> Waited {
    tracing::info!(run = run.name(), "waits: {theirs} works on it");
    let begun = Instant::now();
    loop {
        if how.interrupt.load(Ordering::Relaxed) {
            return Waited::Interrupted;
        }
        std::thread::sleep(LOOK_AGAIN);
        if folder.is_done() || holder(folder).as_ref() != Some(theirs) {
            tracing::info!(run = run.name(), "has waited {:.1} s", begun.elapsed().as_secs_f64());
            return Waited::Gone;
        }
    }
}
