//! Runs what is missing of a study, several runs side by side; one run's failure does not end the others.
//!
//! ```text
//! STUDY/study.toml   frozen copy of the file     STUDY/lock   held while a process works on the study
//!       runs/ARM/BUDGET/seed-N/                  what the trainer writes, and CLAIM while somebody works on it
//! ```

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use engine::Engine;
use plugin_host::api::{RunEvent, SessionFacts};
use plugin_host::{ReporterEnd, Reporters};
use serde::{Deserialize, Serialize};
use trainer::folder::RunFolder;
use trainer::storage::{create_folder, write_json};
use trainer::{ErrorClass, Owner, Parts, Prefix, RunConfig, RunFile, RunSummary, TrainError};

use crate::StudyError;
use crate::lab::{BuildEngine, Lab};
use crate::planning::prefixes::Sharing;
use crate::running::as_run;
use crate::running::claim::{Claim, Holder, holder};
use crate::running::owned::{self, Outcome};
use crate::running::queue::Queue;

/// How a study is run.
pub struct Execution<'a> {
    /// Where its results go.
    pub folder: &'a Path,
    /// Runs side by side at most.
    pub jobs: usize,
    /// Where each of those computes, in order; where this ends, the lab's own engine does.
    pub engines: &'a [BuildEngine<'a>],
    /// How much of the study is this process's business.
    pub scope: Scope,
    /// Set when all runs are to save and stop.
    pub interrupt: &'a AtomicBool,
    /// Whether standard error is a terminal, for the reporters.
    pub terminal: bool,
    /// Which runs begin as copies of others.
    pub sharing: &'a Sharing,
}

impl Execution<'_> {
    /// Removes what was saved for copies that have begun by now.
    fn tidy(&self, run: &RunConfig) {
        let name = run.name();
        self.sharing.tidy(self.folder, &name);
        if let Some((model, _)) = self.sharing.begins_as(&name) {
            self.sharing.tidy(self.folder, model);
        }
    }
}

/// How much of a study is a process's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of it. A second process on this machine is kept off, and a run that another machine works on is left to it.
    Study,
    /// These runs alone, beside others who may work on the rest: whoever has one is waited for, until it has finished it
    /// or is gone.
    TheseRuns,
}

/// What became of a study's runs.
#[derive(Debug)]
pub struct Executed {
    /// Runs that were finished before, or by somebody else meanwhile.
    pub already_done: usize,
    /// Runs finished now.
    pub done: Vec<RunSummary>,
    /// Runs that failed, with the error.
    pub failed: Vec<(String, TrainError)>,
    /// Runs that were saved and stopped, or never begun, since somebody interrupted.
    pub interrupted: usize,
    /// Runs that somebody else works on.
    pub elsewhere: Vec<(String, Holder)>,
    /// How the reporters fared.
    pub reporters: Vec<ReporterEnd>,
}

/// The content of `FAILED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub reason: String,
    /// What to do.
    pub hint: String,
    /// Whether the loss was no number any more: a result, not an accident.
    pub diverged: bool,
}

/// A run's folder in a study.
pub fn run_folder(study: &Path, run: &RunConfig) -> RunFolder {
    RunFolder::at(study.join("runs").join(run.name()))
}

/// Runs what is missing.
///
/// # Errors
/// The folder holds another study, is worked on by another process, or cannot be written. A run's error
/// is no error here: it is listed.
pub fn execute(lab: &Lab<'_>, runs: &[RunConfig], how: &Execution<'_>) -> Result<Executed, StudyError> {
    lab.check_data()?;
    create_folder(how.folder)?;
    let _held = if how.scope == Scope::Study { Some(hold(how.folder)?) } else { None };
    let missing = missing(lab, runs, how.folder)?;
    if let Some(run) = missing.first() {
        // A device that is not there is one error, not one a run.
        for lane in 0..how.jobs {
            engine_of(lab, run, how, lane)?;
        }
    }
    as_run::keep(lab, how.folder, how.scope)?;
    let session = SessionFacts {
        study: lab.file.study.name.clone(),
        folder: how.folder.to_path_buf(),
        runs: missing.len(),
        terminal: how.terminal,
    };
    let reporters = Reporters::start(lab.reporters()?, &session);
    let already_done = runs.len() - missing.len();
    let queue = Queue::new(missing);
    let outcomes = Mutex::new(Vec::new());
    let report = |event: RunEvent| reporters.send(event);
    std::thread::scope(|scope| {
        for lane in 0..how.jobs {
            let (queue, outcomes, report) = (&queue, &outcomes, &report);
            scope.spawn(move || {
                while let Some(run) = queue.next(how) {
                    let outcome = owned::run(lab, &run, how, lane, report);
                    queue.done(&run);
                    how.tidy(&run);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((run.name(), outcome));
                }
            });
        }
    });
    let never_begun = queue.never_begun();
    let mut executed = Executed {
        already_done,
        done: Vec::new(),
        failed: Vec::new(),
        interrupted: never_begun,
        elsewhere: Vec::new(),
        reporters: reporters.finish(),
    };
    for (run, outcome) in outcomes.into_inner().unwrap_or_else(PoisonError::into_inner) {
        match outcome {
            Outcome::Finished(summary) => executed.done.push(*summary),
            Outcome::FinishedElsewhere => executed.already_done += 1,
            Outcome::Elsewhere(holder) => executed.elsewhere.push((run, holder)),
            Outcome::Interrupted => executed.interrupted += 1,
            Outcome::Failed(error) if error.class() == ErrorClass::Interrupted => executed.interrupted += 1,
            Outcome::Failed(error) => executed.failed.push((run, error)),
        }
    }
    Ok(executed)
}

/// What is left of a study to be given to others.
pub struct Missing {
    /// Runs that nobody works on.
    pub free: Vec<RunConfig>,
    /// Runs that somebody works on.
    pub at_work: Vec<(String, Holder)>,
    /// A second process on this machine is kept off until this is dropped.
    _held: File,
}

/// Freezes a study's file, and tells what is missing, without running it.
///
/// # Errors
/// The folder is worked on by another process, or cannot be written.
pub fn missing_runs(lab: &Lab<'_>, runs: Vec<RunConfig>, folder: &Path) -> Result<Missing, StudyError> {
    lab.check_data()?;
    create_folder(folder)?;
    let held = hold(folder)?;
    as_run::keep(lab, folder, Scope::Study)?;
    let mut missing = Missing { free: Vec::new(), at_work: Vec::new(), _held: held };
    for run in runs {
        let place = run_folder(folder, &run);
        match holder(&place) {
            _ if place.is_done() => {}
            Some(holder) => missing.at_work.push((run.name(), holder)),
            None => missing.free.push(run),
        }
    }
    Ok(missing)
}

/// Keeps a second process off the folder; the system lets go when this one ends, however it ends.
fn hold(folder: &Path) -> Result<File, StudyError> {
    let path = folder.join("lock");
    let storage = |source| TrainError::Storage { action: "write", path: path.clone(), source };
    let file = File::create(&path).map_err(storage)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StudyError::InUse { folder: folder.to_path_buf() }),
        Err(std::fs::TryLockError::Error(error)) => Err(storage(error).into()),
    }
}

/// The runs that are not finished. What is there must be of the same configuration, finished or not.
fn missing(lab: &Lab<'_>, runs: &[RunConfig], study: &Path) -> Result<Vec<RunConfig>, StudyError> {
    let mut missing = Vec::new();
    for run in runs {
        let folder = run_folder(study, run);
        if folder.run_file().exists() {
            let (strategy, initializers) = (lab.strategy(run)?, lab.initializers(run)?);
            let engine = lab.engine(run)?.info();
            let data = lab.corpus()?.describe().map_err(TrainError::from)?;
            let initial = lab.initial_model(run)?;
            RunFile::new(run, &engine, &strategy, &initializers, &initial, &data, lab.suites()?)
                .bind(&folder)?;
        }
        if !folder.is_done() {
            missing.push(run.clone());
        }
    }
    Ok(missing)
}

/// One run in a thread pool of its own, its panics contained.
pub(crate) fn run_one(
    lab: &Lab<'_>,
    run: &RunConfig,
    how: &Execution<'_>,
    lane: usize,
    owner: &Arc<Claim>,
    report: &(dyn Fn(RunEvent) + Sync),
) -> Result<RunSummary, TrainError> {
    let folder = run_folder(how.folder, run);
    let failed: PathBuf = folder.failed_file();
    let _ = std::fs::remove_file(&failed);
    let work = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(lab.file.study.threads_per_run).build();
        let pool = pool.map_err(|error| TrainError::Internal(format!("no threads to run on: {error}")))?;
        let hand = Hand { lane, owner: owner.clone(), report };
        pool.install(|| train(lab, run, how, hand))
    };
    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        let reason = format!("the run panicked: {text}");
        report(RunEvent::RunStopped { run: run.name(), reason: reason.clone() });
        Err(TrainError::Internal(reason))
    });
    if let Err(error) = &outcome {
        tracing::error!(run = run.name(), "{error}");
        // What becomes of a run that is somebody else's by now is not for us to say.
        if error.class() != ErrorClass::Interrupted && !owner.has_lost_now() {
            let diverged = error.class() == ErrorClass::Numeric;
            let failure = Failure { reason: error.to_string(), hint: error.hint(), diverged };
            // On a full disk not even this can be said; the error itself goes up.
            if let Err(second) = write_json(&failed, &failure) {
                tracing::warn!(run = run.name(), "{second}");
            }
        }
    }
    outcome
}

/// An engine where runs of that lane compute.
fn engine_of(
    lab: &Lab<'_>,
    run: &RunConfig,
    how: &Execution<'_>,
    lane: usize,
) -> Result<Box<dyn Engine>, TrainError> {
    match how.engines.get(lane) {
        Some(build) => Ok(build(&run.model, run.training.precision)?),
        None => lab.engine(run),
    }
}

/// By whom a run is trained: on which lane's engine, for which owner, and who is told.
#[derive(Clone)]
pub(crate) struct Hand<'a> {
    pub(crate) lane: usize,
    pub(crate) owner: Arc<dyn Owner>,
    pub(crate) report: &'a (dyn Fn(RunEvent) + Sync),
}

/// Trains a run: as a copy of another one to begin with where that is planned, and by itself where it was none after all.
fn train(
    lab: &Lab<'_>,
    run: &RunConfig,
    how: &Execution<'_>,
    hand: Hand<'_>,
) -> Result<RunSummary, TrainError> {
    let prefix = how.sharing.prefix(how.folder, &run.name());
    match &prefix {
        Some(prefix) => {
            tracing::info!(
                run = run.name(),
                "starts as a copy of {} until step {}",
                prefix.run,
                prefix.until
            );
        }
        None => tracing::info!(run = run.name(), "starts"),
    }
    let trained = train_from(prefix, lab, run, how, hand.clone()).or_else(|error| match error {
        TrainError::OtherPrefix { .. } => {
            tracing::info!(run = run.name(), "{error}; it is trained from its own start");
            train_from(None, lab, run, how, hand)
        }
        error => Err(error),
    });
    let summary = trained?;
    tracing::info!(run = run.name(), loss = summary.loss_nats_per_token, "is finished");
    Ok(summary)
}

pub(crate) fn train_from(
    prefix: Option<Prefix>,
    lab: &Lab<'_>,
    run: &RunConfig,
    how: &Execution<'_>,
    Hand { lane, owner, report }: Hand<'_>,
) -> Result<RunSummary, TrainError> {
    trainer::run(Parts {
        config: run,
        engine: engine_of(lab, run, how, lane)?,
        strategy: lab.strategy(run)?,
        initializers: lab.initializers(run)?,
        shadows: lab.shadows(run)?,
        initial: lab.initial_model(run)?,
        corpus: lab.corpus()?,
        suites: lab.suites()?,
        folder: &run_folder(how.folder, run),
        report,
        interrupt: how.interrupt,
        owner,
        // Others' tasks may be on the same machine.
        alone: how.jobs == 1 && how.scope == Scope::Study,
        prefix,
        forks: how.sharing.forks(how.folder, &run.name()),
    })
}
