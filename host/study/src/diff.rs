//! Two runs compared, of one study or of two: what they are made of, where their logs part, what they came to. Whatever a
//! clock says is told, and never a difference. What is printed of it stands in `host/sapwood/src/commands/diff.rs`, how a reader goes on from
//! there in `docs/studies.md`, and whether a run differs from itself when it is stopped in `resumption.rs`.
//!
//! | part | what is read | compared |
//! | --- | --- | --- |
//! | configuration, bound to, made by | `run.json` ([`RunFile`](trainer::RunFile)) | `diff/made_of.rs`, key by key: a new key is compared by itself |
//! | steps, evaluations, suites, decisions | the logs ([`trainer::records`]) | `diff/logs.rs`, by the parts that it lists: a record's new field is one, as a test sees to |
//! | checkpoints | of the newest that both have weights, moments, AdamW's step counters | `diff/tensors.rs`, bit by bit |
//! | ends | `DONE` ([`RunSummary`]) | not compared |

mod logs;
mod made_of;
mod tensors;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use trainer::RunSummary;
use trainer::folder::RunFolder;
use trainer::storage::read_json;

use crate::StudyError;
pub use logs::{DecisionsDiff, FirstDifference, LogDiff};
pub use tensors::{CheckpointsDiff, OtherTensor};

/// Two runs compared, the first as the old one.
#[derive(Clone, Debug, Serialize)]
pub struct RunDiff {
    /// Their names.
    pub runs: [String; 2],
    /// Keys of the configuration that differ.
    pub config: Vec<Changed>,
    /// What else they are bound to that differs: plugins, data, engine, initial model.
    pub bound_to: Vec<Changed>,
    /// Where and by what they were made. What is computed is the same; another processor or device may add up in another
    /// order, and so may another build.
    pub made_by: Vec<Changed>,
    /// Their steps.
    pub steps: LogDiff,
    /// Their evaluations.
    pub evaluations: LogDiff,
    /// What suites came to; `None` where neither was put to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suites: Option<LogDiff>,
    /// Their decisions.
    pub decisions: DecisionsDiff,
    /// What they came to; `None` of a run that is not finished.
    pub ends: [Option<RunSummary>; 2],
    /// The newest checkpoints that can be compared.
    pub checkpoints: CheckpointsDiff,
    /// Whether steps, evaluations, decisions and tensors are the same, whatever the runs are made of.
    pub same_results: bool,
}

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    /// Where it stands, such as `schedule.rate`.
    pub key: String,
    /// What it was; `None` where there was none.
    pub old: Option<Value>,
    /// What it is.
    pub new: Option<Value>,
}

/// Compares two runs' folders.
///
/// # Errors
/// A folder that holds no run, or a file that cannot be read.
pub fn diff(old: &Path, new: &Path) -> Result<RunDiff, StudyError> {
    let folders = [old, new].map(RunFolder::at);
    let [old, new] = &folders;
    let (old_file, new_file) = (old.bound_run()?, new.bound_run()?);
    let (steps, evaluations) = (logs::steps(&folders)?, logs::evaluations(&folders)?);
    let suites = logs::suites(&folders)?;
    let (decisions, checkpoints) = (logs::decisions(&folders)?, tensors::newest(&folders)?);
    // Suites are no part of training: runs may be the same though only one of them was asked.
    let same_logs = steps.is_same() && evaluations.is_same() && decisions.is_same();
    Ok(RunDiff {
        runs: [old_file.config.name(), new_file.config.name()],
        config: made_of::config(&old_file, &new_file)?,
        bound_to: made_of::bound_to(&old_file, &new_file)?,
        made_by: made_of::made_by(&old_file, &new_file)?,
        same_results: same_logs && checkpoints.is_same(),
        ends: [end(old)?, end(new)?],
        steps,
        evaluations,
        suites,
        decisions,
        checkpoints,
    })
}

fn end(run: &RunFolder) -> Result<Option<RunSummary>, StudyError> {
    Ok(if run.is_done() { Some(read_json(&run.done_file())?) } else { None })
}
