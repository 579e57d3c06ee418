//! The logs that a run writes, each cut back to where its checkpoint was.

use crate::TrainError;
use crate::checkpoint::LogLengths;
use crate::folder::RunFolder;
use crate::storage::{JsonLines, sync_folder_of};

/// The logs of a run.
pub(super) struct Logs {
    pub(super) metrics: JsonLines,
    pub(super) evaluations: JsonLines,
    /// `None` where the run has none.
    pub(super) suites: Option<JsonLines>,
    pub(super) decisions: JsonLines,
    /// `None` where nothing rides along, or ever did.
    pub(super) shadows: Option<JsonLines>,
}

impl Logs {
    pub(super) fn open(
        folder: &RunFolder,
        lengths: LogLengths,
        suites: bool,
        shadows: bool,
    ) -> Result<Logs, TrainError> {
        let path = folder.shadows_file();
        let shadows = (shadows || path.exists()).then(|| JsonLines::open(&path, lengths.shadows));
        let logs = Logs {
            suites: suites.then(|| JsonLines::open(&folder.suites_file(), lengths.suites)).transpose()?,
            shadows: shadows.transpose()?,
            metrics: JsonLines::open(&folder.metrics_file(), lengths.metrics)?,
            evaluations: JsonLines::open(&folder.evaluations_file(), lengths.evaluations)?,
            decisions: JsonLines::open(&folder.decisions_file(), lengths.decisions)?,
        };
        // A checkpoint that survives a loss of power is of no use without them.
        sync_folder_of(&folder.metrics_file())?;
        Ok(logs)
    }

    pub(super) fn lengths(&self) -> LogLengths {
        let length = |log: &Option<JsonLines>| log.as_ref().map_or(0, JsonLines::length);
        LogLengths {
            metrics: self.metrics.length(),
            evaluations: self.evaluations.length(),
            suites: length(&self.suites),
            decisions: self.decisions.length(),
            shadows: length(&self.shadows),
        }
    }

    /// What forces all lines so far to the disk, on any thread.
    pub(super) fn syncing(
        &self,
    ) -> Result<impl FnOnce() -> Result<(), TrainError> + Send + use<>, TrainError> {
        let all = [&self.metrics, &self.evaluations, &self.decisions].into_iter();
        let all = all.chain(&self.suites).chain(&self.shadows);
        let all = all.map(JsonLines::syncing).collect::<Result<Vec<_>, _>>()?;
        Ok(move || all.into_iter().try_for_each(|sync| sync()))
    }
}
