//! Errors as a user sees them: what, where, what to do; and their exit codes.

use std::fmt::Display;
use std::process::ExitCode;

use inference::InferenceError;
use plugin_host::PluginError;
use study::StudyError;
use trainer::{ErrorClass, TrainError};

use crate::output::note_line;

/// An error on its way to standard error.
#[derive(Debug)]
pub(crate) struct Failed {
    message: String,
    place: Option<String>,
    hint: String,
    code: u8,
}

/// Runs failed for several reasons.
pub(crate) const SEVERAL: u8 = 9;
/// Numbers differ from the reference.
pub(crate) const OUT_OF_TOLERANCE: u8 = 10;
/// Two runs came to different results, or a strategy decides differently.
pub(crate) const NOT_THE_SAME: u8 = OUT_OF_TOLERANCE;
/// Somebody asked to stop.
pub(crate) const INTERRUPTED: u8 = 130;

impl Failed {
    /// An error of that class.
    pub(crate) fn new(class: ErrorClass, message: impl Display, hint: impl Display) -> Failed {
        Failed { message: message.to_string(), place: None, hint: hint.to_string(), code: code_of(class) }
    }

    /// Writes it to standard error.
    pub(crate) fn print(&self) -> ExitCode {
        note_line!("error: {}", self.message);
        if let Some(place) = &self.place {
            note_line!("  --> {place}");
        }
        if !self.hint.is_empty() {
            note_line!("hint: {}", self.hint);
        }
        ExitCode::from(self.code)
    }
}

/// The exit code of a class, as the help documents it.
pub(crate) fn code_of(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::Internal => 1,
        ErrorClass::Config => 3,
        ErrorClass::Data => 4,
        ErrorClass::PluginRefused => 5,
        ErrorClass::PluginFault => 6,
        ErrorClass::Numeric => 7,
        ErrorClass::Resource => 8,
        ErrorClass::Interrupted => INTERRUPTED,
    }
}

impl From<StudyError> for Failed {
    fn from(error: StudyError) -> Failed {
        Failed {
            message: error.to_string(),
            place: error.place(),
            hint: error.hint(),
            code: code_of(error.class()),
        }
    }
}

impl From<TrainError> for Failed {
    fn from(error: TrainError) -> Failed {
        StudyError::from(error).into()
    }
}

impl From<PluginError> for Failed {
    fn from(error: PluginError) -> Failed {
        TrainError::from(error).into()
    }
}

impl From<study::SourceError> for Failed {
    fn from(error: study::SourceError) -> Failed {
        StudyError::from(error).into()
    }
}

impl From<InferenceError> for Failed {
    fn from(error: InferenceError) -> Failed {
        let class = match &error {
            InferenceError::Engine(_) => ErrorClass::Resource,
            _ => ErrorClass::Data,
        };
        Failed::new(class, &error, error.hint())
    }
}
