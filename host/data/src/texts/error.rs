//! What can be wrong with a file of texts as a whole.

use std::io;
use std::path::PathBuf;

use crate::DataError;

/// What can be wrong with a file of texts.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// It is not there, is empty, or cannot be read.
    #[error(transparent)]
    File(#[from] DataError),
    /// Its name does not say what it is.
    #[error("{} is of no known kind", path.display())]
    UnknownKind {
        /// The file.
        path: PathBuf,
    },
    /// A folder without a file whose name says that it is one of texts.
    #[error("{} holds no text", folder.display())]
    NoTexts {
        /// The folder.
        folder: PathBuf,
    },
    /// It ends early or is not what its name says.
    #[error("{} cannot be read: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What its reader says.
        reason: String,
    },
    /// There is no such column, or it holds no texts.
    #[error("{} has no column of texts `{field}`; it has {there}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        field: String,
        /// The columns, in words.
        there: String,
    },
    /// A text that is larger than memory should be taken for.
    #[error("{} has a text of more than {limit} bytes at {place}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Where.
        place: String,
        /// The limit.
        limit: u64,
    },
}

impl TextError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            TextError::File(error) => error.hint(),
            TextError::UnknownKind { .. } => {
                "say what it is: `--as text`, `jsonl` or `parquet`; names that end in .txt, .jsonl or .parquet, \
                 with .gz or .zst behind the former two, need no word"
                    .into()
            }
            TextError::NoTexts { .. } => {
                "name the files, or say what those in the folder are: `--as text`, `jsonl` or `parquet`".into()
            }
            TextError::Damaged { .. } => "was it copied to the end? copy it again".into(),
            TextError::NoColumn { .. } => "name the column that holds the text: `--field NAME`".into(),
            TextError::TooLarge { .. } => {
                "cut it into smaller documents, such as by `--documents paragraphs`".into()
            }
        }
    }

    /// An error of reading that file: it is damaged, or the system refuses.
    pub(crate) fn of_reading(path: &std::path::Path, source: io::Error) -> TextError {
        match source.kind() {
            // What decompressors say of their own, and of an end that comes early.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::Other => TextError::Damaged { path: path.into(), reason: source.to_string() },
            _ => DataError::Unreadable { path: path.into(), source }.into(),
        }
    }
}
