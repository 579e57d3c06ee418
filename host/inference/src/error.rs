//! What a model, a text or a suite may lack.

use std::path::PathBuf;

use engine::EngineError;

/// What a model, a text or a suite may lack.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// Tokens that the model cannot read.
    #[error("{reason}")]
    Tokens {
        /// What is wrong with them.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A suite's file.
    #[error("{}:{line} {reason}", path.display())]
    Suite {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A suite that cannot be opened, or that asks nothing.
    #[error("{} {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A suite of which more items are to be asked than it holds.
    #[error("{} holds {there} items, of which {wanted} are to be asked", path.display())]
    TooFewItems {
        /// The file.
        path: PathBuf,
        /// Items in it.
        there: usize,
        /// Items that were wanted.
        wanted: usize,
    },
    /// A tensor that is missing or of another size, or a device that failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl InferenceError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            InferenceError::Tokens { hint, .. } => hint.clone(),
            InferenceError::Suite { .. } => "docs/evaluations.md says what a line holds".into(),
            InferenceError::File { .. } => {
                "name a file with one JSON object a line; docs/evaluations.md says where suites come from"
                    .into()
            }
            InferenceError::TooFewItems { there, .. } => format!("ask for at most {there}"),
            InferenceError::Engine(_) => "check the folder that the model comes from".into(),
        }
    }
}
