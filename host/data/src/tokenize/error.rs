//! What can be wrong where texts become ids.

use std::io;
use std::path::PathBuf;

use crate::texts::TextError;
use crate::tokenizer::TokenizerError;
use crate::{DataError, texts::BadText};

/// What can be wrong where texts become ids.
#[derive(Debug, thiserror::Error)]
pub enum TokenizeError {
    /// Of an input.
    #[error(transparent)]
    Input(#[from] TextError),
    /// Of the tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Of the folder, where it is read.
    #[error(transparent)]
    Folder(#[from] DataError),
    /// A document that cannot be read.
    #[error("{place} of {} {reason}", path.display())]
    Document {
        /// The input.
        path: PathBuf,
        /// Where in it.
        place: String,
        /// Why.
        reason: String,
    },
    /// A share that is none.
    #[error("the share of validation is {fraction}, but has to be at least 0 and less than 1")]
    Fraction {
        /// What it is.
        fraction: f64,
    },
    /// A shard of nothing.
    #[error("a shard cannot have {tokens} tokens")]
    ShardSize {
        /// What was asked for.
        tokens: u64,
    },
    /// A separator that the tokenizer does not have.
    #[error("the tokenizer {tokenizer} has no token `{separator}`")]
    NoSeparator {
        /// The tokenizer.
        tokenizer: String,
        /// What was asked for.
        separator: String,
    },
    /// The folder was made, or begun, of something else.
    #[error("{} holds tokens that were made otherwise: {difference}", folder.display())]
    MadeOtherwise {
        /// The folder.
        folder: PathBuf,
        /// In what.
        difference: String,
    },
    /// The folder is somebody else's.
    #[error("{} holds other files, such as {example}", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
        /// One of them.
        example: String,
    },
    /// Somebody is at work there.
    #[error("{} is being made by another process", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// No document for training, or none for validation.
    #[error("{training} documents are for training and {validation} for validation")]
    EmptyPart {
        /// Documents.
        training: u64,
        /// Documents.
        validation: u64,
    },
    /// Another unit has failed: what failed there is told, not this.
    #[error("another input has failed")]
    Stopped,
    /// The system refuses to write.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl TokenizeError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            TokenizeError::Input(error) => error.hint(),
            TokenizeError::Tokenizer(error) => error.hint(),
            TokenizeError::Folder(error) => error.hint(),
            TokenizeError::Document { .. } => {
                "mend it, or leave such documents out and have them counted: `--skip-bad`".into()
            }
            TokenizeError::Fraction { .. } => "0.01 keeps one document in a hundred for validation".into(),
            TokenizeError::ShardSize { .. } => "choose 1 or more".into(),
            TokenizeError::NoSeparator { .. } => "name one of its tokens, an id below its vocabulary, or `none`".into(),
            TokenizeError::MadeOtherwise { .. } => "name another folder in `--out`, or remove this one".into(),
            TokenizeError::NotEmpty { .. } => "name a new or an empty folder in `--out`".into(),
            TokenizeError::Busy { .. } => "wait for it, or name another folder in `--out`".into(),
            TokenizeError::EmptyPart { .. } => {
                "which of them a document goes to is decided by its hash: change the share (`--validation`), or cut \
                 plain texts into more documents (`--documents paragraphs`), into another `--out`"
                    .into()
            }
            TokenizeError::Stopped => String::new(),
            TokenizeError::Write { .. } => "see to the disk, then run it again: it goes on".into(),
        }
    }

    /// Of a document of that input.
    pub(super) fn of_document(path: &std::path::Path, bad: BadText) -> TokenizeError {
        TokenizeError::Document { path: path.into(), place: bad.place, reason: bad.reason }
    }
}
