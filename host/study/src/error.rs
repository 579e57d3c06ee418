//! What can be wrong with a study as a whole.

use std::path::PathBuf;

use trainer::{ErrorClass, TrainError};

use crate::source::SourceError;

/// What can be wrong with a study as a whole.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// Its file.
    #[error(transparent)]
    File(#[from] SourceError),
    /// Something that an arm names in the file.
    #[error("{source}")]
    Located {
        /// What, where, what to do.
        source: SourceError,
        /// What kind of error it is.
        class: ErrorClass,
    },
    /// Something else of a run.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Another process works on the same folder.
    #[error("another process is working on {}", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The study's file has become another since its folder was begun, while others may work in there.
    #[error("{} holds another study than the file says now", folder.display())]
    Changed {
        /// The folder.
        folder: PathBuf,
    },
    /// Slurm, or one of its programs.
    #[error("{message}")]
    Slurm {
        /// What it says.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// A folder whose runs are not all done.
    #[error("{} is not finished: {runs} of its runs have no result", folder.display())]
    NotFinished {
        /// The folder.
        folder: PathBuf,
        /// How many are not done.
        runs: usize,
    },
    /// An arm of a sweep came to no number with any rate.
    #[error("the arm `{arm}` diverged with every rate of the sweep")]
    EveryRateDiverged {
        /// The arm.
        arm: String,
    },
    /// A folder without `study.toml`.
    #[error("{} holds no study: there is no study.toml in it", folder.display())]
    NoStudy {
        /// The folder.
        folder: PathBuf,
    },
}

impl StudyError {
    /// Its class.
    pub fn class(&self) -> ErrorClass {
        match self {
            StudyError::File(_)
            | StudyError::NoStudy { .. }
            | StudyError::Changed { .. }
            | StudyError::NotFinished { .. } => ErrorClass::Config,
            StudyError::Located { class, .. } => *class,
            StudyError::Train(error) => error.class(),
            StudyError::EveryRateDiverged { .. } => ErrorClass::Numeric,
            StudyError::InUse { .. } | StudyError::Slurm { .. } => ErrorClass::Resource,
        }
    }

    /// Where it is, if that is known.
    pub fn place(&self) -> Option<String> {
        match self {
            StudyError::File(source) | StudyError::Located { source, .. } => Some(source.place.to_string()),
            StudyError::Train(_)
            | StudyError::InUse { .. }
            | StudyError::EveryRateDiverged { .. }
            | StudyError::NoStudy { .. }
            | StudyError::Changed { .. }
            | StudyError::Slurm { .. }
            | StudyError::NotFinished { .. } => None,
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            StudyError::File(source) | StudyError::Located { source, .. } => source.hint.clone(),
            StudyError::Train(error) => error.hint(),
            StudyError::InUse { .. } => "wait for it, stop it, or choose another `--out`".into(),
            StudyError::Changed { .. } => {
                "run the whole study, or submit it, once more with the file as it is now".into()
            }
            StudyError::Slurm { hint, .. } => (*hint).into(),
            StudyError::NotFinished { .. } => "run `sapwood study` again: it goes on where it was".into(),
            StudyError::EveryRateDiverged { .. } => "add lower rates to `sweep.rates`".into(),
            StudyError::NoStudy { .. } => {
                "name a folder that `sapwood study` has written to, such as runs/quickstart".into()
            }
        }
    }
}
