//! A run's folder: what stands where in it. How files get into it: `storage.rs`.
//!
//! ```text
//! run.json  metrics.jsonl  evals.jsonl  [suites.jsonl]  decisions.jsonl  [shadows.jsonl]  checkpoints/STEP[-NAME]/
//! forks/STEP/  DONE | FAILED
//! ```

pub(crate) mod binding;
pub(crate) mod owner;
pub mod records;

use std::fs;
use std::path::{Path, PathBuf};

use engine::Step;

use crate::storage::read_json;
use crate::{RunFile, TrainError};

/// A run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// That folder; nothing is created yet.
    pub fn at(path: impl Into<PathBuf>) -> RunFolder {
        RunFolder { path: path.into() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved configuration and what the result is bound to.
    pub fn run_file(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// One line a step.
    pub fn metrics_file(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// One line an evaluation.
    pub fn evaluations_file(&self) -> PathBuf {
        self.path.join("evals.jsonl")
    }

    /// One line for each time that a suite was put to the model; not there where the run has none.
    pub fn suites_file(&self) -> PathBuf {
        self.path.join("suites.jsonl")
    }

    /// One line a decision.
    pub fn decisions_file(&self) -> PathBuf {
        self.path.join("decisions.jsonl")
    }

    /// One line for whatever a shadow strategy would have done; not there where none rides along.
    pub fn shadows_file(&self) -> PathBuf {
        self.path.join("shadows.jsonl")
    }

    /// Checkpoints, one folder each.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Checkpoints that other runs begin from, one folder each.
    pub fn forks(&self) -> PathBuf {
        self.path.join("forks")
    }

    /// The checkpoint before that step that other runs begin from.
    pub fn fork(&self, step: Step) -> PathBuf {
        self.forks().join(format!("{:08}", step.0))
    }

    /// Written last, by a run that is finished.
    pub fn done_file(&self) -> PathBuf {
        self.path.join("DONE")
    }

    /// Written by a run that failed, with the reason.
    pub fn failed_file(&self) -> PathBuf {
        self.path.join("FAILED")
    }

    /// What a run is made of and bound to.
    ///
    /// # Errors
    /// A folder that holds no run, or a file that cannot be read.
    pub fn bound_run(&self) -> Result<RunFile, TrainError> {
        if !self.run_file().is_file() {
            return Err(TrainError::NoRun { folder: self.path.clone() });
        }
        read_json(&self.run_file())
    }

    /// Whether the run is finished.
    pub fn is_done(&self) -> bool {
        self.done_file().is_file()
    }
}

/// The runs that a folder holds: itself, or those of a study, in order of their names.
pub fn runs_below(folder: &Path) -> Vec<RunFolder> {
    let itself = RunFolder::at(folder);
    if itself.run_file().is_file() {
        return vec![itself];
    }
    let entries = |folder: PathBuf| {
        let mut found: Vec<PathBuf> =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        found.sort();
        found
    };
    let seeds = entries(folder.join("runs")).into_iter().flat_map(entries).flat_map(entries);
    seeds.map(RunFolder::at).filter(|run| run.run_file().is_file()).collect()
}
