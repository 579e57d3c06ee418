//! What ends a run before its time, each with its class (which decides the exit code) and what to do.

use std::path::PathBuf;

use data::DataError;
use engine::{EngineError, Step};
use plugin_host::PluginError;

use crate::ConfigError;

/// What ends a run before its time.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A key whose value makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data cannot be read, or are too few.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A plugin cannot be loaded, or failed.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The engine cannot, or its device failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A loss or a gradient is no longer a number.
    #[error("the {what} at step {step} is {value}{}", after_skipped(*skipped))]
    NotFinite {
        /// What is no number: `loss`, `gradient norm` …
        what: &'static str,
        /// The step.
        step: Step,
        /// What it is instead.
        value: f64,
        /// Steps that were skipped before it, for the same reason.
        skipped: usize,
    },
    /// A file cannot be written or read.
    #[error("cannot {action} {}: {source}", path.display())]
    Storage {
        /// What was tried: `write`, `read` …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of the run's folder does not hold what it should.
    #[error("{} {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint of another version of sapwood's.
    #[error("{} has format version {found}, which this sapwood does not read (it reads {} to {})", path.display(), known.0, known.1)]
    OtherFormat {
        /// Its `state.json`.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The oldest and the newest that are read.
        known: (u32, u32),
    },
    /// A suite of questions that cannot be asked.
    #[error("{reason}")]
    Suite {
        /// The key at fault, such as `path`.
        key: String,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// What somebody else has written, or is to get, is no model that is known here.
    #[error("{} {reason}", path.display())]
    Unfit {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A folder without `run.json`.
    #[error("{} holds no run: there is no run.json in it", folder.display())]
    NoRun {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder holds a run of another configuration.
    #[error("{} holds a run of another configuration: {difference}", folder.display())]
    OtherRun {
        /// The run's folder.
        folder: PathBuf,
        /// The first key that differs.
        difference: String,
    },
    /// The folder holds a run that was made with another build of a plugin.
    #[error(
        "{} was made with another build of the plugin `{id}`: sha256 {made_with}, now {present}",
        folder.display()
    )]
    OtherPlugin {
        /// The run's folder.
        folder: PathBuf,
        /// The plugin.
        id: String,
        /// The first digits of its library's hash then.
        made_with: String,
        /// The first digits now.
        present: String,
    },
    /// Asked to stop; the run is saved.
    #[error("interrupted before step {step}; the run is saved")]
    Interrupted {
        /// The coming step.
        step: Step,
    },
    /// Begun as a copy of another run, it would have come to something else; it has to be trained from its own start.
    #[error("before step {step} it is not what {run} was: {reason}")]
    OtherPrefix {
        /// The run that it was begun as a copy of.
        run: String,
        /// The coming step.
        step: Step,
        /// What differs, or is missing.
        reason: String,
    },
    /// Another process has the run's folder by now; nothing was written since.
    #[error("stopped before step {step}: another process has taken the run over")]
    TakenOver {
        /// The coming step.
        step: Step,
    },
    /// The host broke its own promise.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Classes of errors, one exit code each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The configuration.
    Config,
    /// The data.
    Data,
    /// A plugin that is not loaded.
    PluginRefused,
    /// A plugin that failed while running.
    PluginFault,
    /// Numbers that went wrong.
    Numeric,
    /// Disk, memory or device.
    Resource,
    /// Asked to stop.
    Interrupted,
    /// Ours.
    Internal,
}

impl TrainError {
    /// Its class.
    pub fn class(&self) -> ErrorClass {
        match self {
            TrainError::Config(_)
            | TrainError::NoRun { .. }
            | TrainError::OtherRun { .. }
            | TrainError::OtherPlugin { .. }
            | TrainError::OtherFormat { .. } => ErrorClass::Config,
            TrainError::Plugin(
                PluginError::BadConfig { .. } | PluginError::Lock { .. } | PluginError::Signature { .. },
            ) => ErrorClass::Config,
            TrainError::Data(_) | TrainError::Suite { .. } | TrainError::Unfit { .. } => ErrorClass::Data,
            TrainError::Plugin(PluginError::Fault { .. }) => ErrorClass::PluginFault,
            TrainError::Plugin(PluginError::Host { .. }) => ErrorClass::Resource,
            TrainError::Plugin(_) => ErrorClass::PluginRefused,
            TrainError::Engine(EngineError::BadBatch(_)) => ErrorClass::Data,
            TrainError::Engine(EngineError::Unsupported { .. }) => ErrorClass::Config,
            TrainError::Engine(EngineError::NoSuchTensor(_) | EngineError::WrongSize { .. }) => {
                ErrorClass::Internal
            }
            TrainError::Engine(_)
            | TrainError::Storage { .. }
            | TrainError::Damaged { .. }
            | TrainError::TakenOver { .. } => ErrorClass::Resource,
            TrainError::NotFinite { .. } => ErrorClass::Numeric,
            TrainError::Interrupted { .. } => ErrorClass::Interrupted,
            TrainError::OtherPrefix { .. } | TrainError::Internal(_) => ErrorClass::Internal,
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            TrainError::Config(error) => error.hint.clone(),
            TrainError::Data(error) => error.hint(),
            TrainError::Plugin(error) => error.hint(),
            TrainError::Engine(error) => engine_hint(error).into(),
            // Only a step can be skipped, not an edit nor an evaluation.
            TrainError::NotFinite { what: "loss" | "gradient norm", skipped: 0, .. } => {
                "lower `schedule.rate`, lengthen the warm-up, clip the gradient, or let the run skip some such steps \
                 (`training.on_non_finite`); the checkpoint before it is intact"
                    .into()
            }
            TrainError::NotFinite { .. } => {
                "lower `schedule.rate`, lengthen the warm-up, or clip the gradient; the checkpoint before it is intact"
                    .into()
            }
            TrainError::Storage { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "free some space and run the same command again; it goes on from the last checkpoint".into()
            }
            TrainError::Storage { .. } => "check the path and its permissions, then run the same command again".into(),
            TrainError::Suite { hint, .. } | TrainError::Unfit { hint, .. } => hint.clone(),
            TrainError::Damaged { .. } => "restore the file, or delete the run's folder to start it over".into(),
            TrainError::OtherFormat { found, known, .. } if *found > known.1 => {
                "use the sapwood that saved it, or a later one; nothing was changed".into()
            }
            TrainError::OtherFormat { .. } => {
                "use the sapwood that saved it (`made_by` in the run's run.json), or delete the run's folder to start it over"
                    .into()
            }
            TrainError::NoRun { .. } => {
                "name a run's folder, STUDY/runs/ARM/BUDGET/seed-N, such as runs/quickstart/runs/stack/compute/seed-1"
                    .into()
            }
            TrainError::OtherRun { .. } => "choose another `--out`, or delete the folder".into(),
            TrainError::OtherPlugin { .. } => {
                "bring that build back (built in the same way, the same source gives the same bits), choose \
                 another `--out`, or delete the folder"
                    .into()
            }
            TrainError::TakenOver { .. } => {
                "it goes on there; this process gave no sign of life for too long, as one does that was suspended"
                    .into()
            }
            TrainError::Interrupted { .. } => "run the same command again to go on".into(),
            TrainError::OtherPrefix { .. } => "run it without a prefix of another run: `--no-sharing`".into(),
            TrainError::Internal(_) => "this is a mistake of sapwood; please report it with the log".into(),
        }
    }
}

fn after_skipped(steps: usize) -> String {
    match steps {
        0 => String::new(),
        1 => ", after one step was skipped for that".into(),
        more => format!(", after {more} steps were skipped for that"),
    }
}

fn engine_hint(error: &EngineError) -> &'static str {
    match error {
        EngineError::DeviceUnavailable { .. } => {
            "use `--device cpu`, or make the device available; `sapwood doctor` tells"
        }
        EngineError::Unsupported { .. } => {
            "choose another engine or device, or a model and a precision that this one implements"
        }
        EngineError::OutOfMemory { .. } => "lower `training.micro_batch_sequences`, or use a smaller model",
        EngineError::BadBatch(_) => "check the data against `model.vocabulary` and `model.context`",
        _ => "run the same command again; it goes on from the last checkpoint",
    }
}
