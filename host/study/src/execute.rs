//! Runs what is missing of a study, several runs side by side; one run's failure does not end the others.
//!
//! ```text
//! STUDY/study.toml   frozen copy of the file     STUDY/lock   held while a process works on the study
//!       runs/ARM/BUDGET/seed-N/                  what the trainer writes
//! ```

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use plugin_host::api::{RunEvent, SessionFacts};
use plugin_host::{ReporterEnd, Reporters};
use serde::{Deserialize, Serialize};
use trainer::folder::{RunFolder, create_folder, write_json, write_whole};
use trainer::{ErrorClass, Parts, Prefix, RunConfig, RunFile, RunSummary, TrainError};

use crate::StudyError;
use crate::lab::Lab;
use crate::prefixes::Sharing;
use crate::queue::Queue;

/// How a study is run.
pub struct Execution<'a> {
    /// Where its results go.
    pub folder: &'a Path,
    /// Runs side by side at most.
    pub jobs: usize,
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

/// What became of a study's runs.
#[derive(Debug)]
pub struct Executed {
    /// Runs that were finished before.
    pub already_done: usize,
    /// Runs finished now.
    pub done: Vec<RunSummary>,
    /// Runs that failed, with the error.
    pub failed: Vec<(String, TrainError)>,
    /// Runs that were saved and stopped, or never begun, since somebody interrupted.
    pub interrupted: usize,
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
    let _held = hold(how.folder)?;
    let missing = missing(lab, runs, how.folder)?;
    if let Some(run) = missing.first() {
        // A device that is not there is one error, not one a run.
        lab.engine(run)?;
    }
    freeze_file(lab, how.folder)?;
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
        for _ in 0..how.jobs {
            scope.spawn(|| {
                while let Some(run) = queue.next(how) {
                    let outcome = run_one(lab, &run, how, &report);
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
        reporters: reporters.finish(),
    };
    for (run, outcome) in outcomes.into_inner().unwrap_or_else(PoisonError::into_inner) {
        match outcome {
            Ok(summary) => executed.done.push(summary),
            Err(error) if error.class() == ErrorClass::Interrupted => executed.interrupted += 1,
            Err(error) => executed.failed.push((run, error)),
        }
    }
    Ok(executed)
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
            RunFile::new(run, &engine, &strategy, &initializers, &initial, &data).claim(&folder)?;
        }
        if !folder.is_done() {
            missing.push(run.clone());
        }
    }
    Ok(missing)
}

fn freeze_file(lab: &Lab<'_>, study: &Path) -> Result<(), StudyError> {
    let text = toml::to_string_pretty(&lab.file)
        .map_err(|error| TrainError::Internal(format!("the study's file cannot be written down: {error}")))?;
    let copy =
        format!("# The study as it was run, overrides included; study.original.toml is the file.\n\n{text}");
    write_whole(&study.join("study.toml"), copy.as_bytes())?;
    Ok(write_whole(&study.join("study.original.toml"), lab.source().text().as_bytes())?)
}

/// One run in a thread pool of its own, its panics contained.
fn run_one(
    lab: &Lab<'_>,
    run: &RunConfig,
    how: &Execution<'_>,
    report: &(dyn Fn(RunEvent) + Sync),
) -> Result<RunSummary, TrainError> {
    let folder = run_folder(how.folder, run);
    let failed: PathBuf = folder.failed_file();
    let _ = std::fs::remove_file(&failed);
    let work = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(lab.file.study.threads_per_run).build();
        let pool = pool.map_err(|error| TrainError::Internal(format!("no threads to run on: {error}")))?;
        pool.install(|| train(lab, run, how, report))
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
        if error.class() != ErrorClass::Interrupted {
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

/// Trains a run: as a copy of another one to begin with where that is planned, and by itself where it was none after all.
fn train(
    lab: &Lab<'_>,
    run: &RunConfig,
    how: &Execution<'_>,
    report: &(dyn Fn(RunEvent) + Sync),
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
    let trained = train_from(prefix, lab, run, how, report).or_else(|error| match error {
        TrainError::OtherPrefix { .. } => {
            tracing::info!(run = run.name(), "{error}; it is trained from its own start");
            train_from(None, lab, run, how, report)
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
    report: &(dyn Fn(RunEvent) + Sync),
) -> Result<RunSummary, TrainError> {
    trainer::run(Parts {
        config: run,
        engine: lab.engine(run)?,
        strategy: lab.strategy(run)?,
        initializers: lab.initializers(run)?,
        shadows: lab.shadows(run)?,
        initial: lab.initial_model(run)?,
        corpus: lab.corpus()?,
        folder: &run_folder(how.folder, run),
        report,
        interrupt: how.interrupt,
        alone: how.jobs == 1,
        prefix,
        forks: how.sharing.forks(how.folder, &run.name()),
    })
}
