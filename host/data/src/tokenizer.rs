//! What turns text into token ids and back: the trait, and the choice by name. How each one does it stands below;
//! what becomes of the ids does not stand here.
//!
//! No special token is ever read out of text: `<|endoftext|>` in a document is thirteen characters. What marks the
//! border of two documents is the [`separator`](Tokenizer::separator), and only who writes shards puts it there.

mod bytes;
mod file;
mod gpt2;
mod json;
mod split;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Text to ids and back. Threads share it; each takes an [`Encoder`] of its own.
pub trait Tokenizer: Send + Sync {
    /// What it is, for the record.
    fn identity(&self) -> &TokenizerIdentity;

    /// The id between documents that is usual for it, if any is.
    fn separator(&self) -> Option<u32>;

    /// The id of a token by its text, special ones among them.
    fn id_of(&self, token: &str) -> Option<u32>;

    /// What encodes, with a memory of its own for words that it has seen.
    fn encoder(&self) -> Box<dyn Encoder + '_>;

    /// It as a `tokenizer.json`, which `tokenizers` and `transformers` load.
    fn file(&self) -> Vec<u8>;

    /// The bytes that ids stand for; they need not be whole characters. `None` where an id stands for nothing.
    fn decode(&self, ids: &[u32]) -> Option<Vec<u8>>;
}

/// Encodes one text after another.
pub trait Encoder {
    /// Appends the ids of a text to `ids`.
    ///
    /// # Errors
    /// What a tokenizer from a file has to say about a text; the others take every text.
    fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError>;
}

/// Which tokenizer made some ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerIdentity {
    /// `bytes`, `gpt2`, or the path of a `tokenizer.json`.
    pub name: String,
    /// SHA-256 of its vocabulary: of `gpt2` the file of ranks as tiktoken pins it, of a `tokenizer.json` the file.
    pub sha256: String,
    /// Ids are below it.
    pub vocabulary: u32,
}

impl TokenizerIdentity {
    /// Of `bytes`.
    pub fn of_bytes() -> TokenizerIdentity {
        bytes::Bytes::new().identity().clone()
    }
}

/// What can be wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// Neither a name that is known nor a `tokenizer.json`.
    #[error("there is no tokenizer `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// A file that cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that is no tokenizer, or one of a kind that is not known.
    #[error("{} is no tokenizer: {reason}", path.display())]
    NotOne {
        /// The file.
        path: PathBuf,
        /// What its reader says.
        reason: String,
    },
    /// A text that a tokenizer from a file does not take.
    #[error("{} does not take a text: {reason}", path.display())]
    Text {
        /// The tokenizer's file.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
}

impl TokenizerError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            TokenizerError::Unknown { .. } => {
                "choose `gpt2`, `bytes`, or the path of a tokenizer.json (a name that ends in .json)".into()
            }
            TokenizerError::Unreadable { .. } => "check the path and its permissions".into(),
            TokenizerError::NotOne { .. } => {
                "take the tokenizer.json that `tokenizers` or `transformers` saves".into()
            }
            TokenizerError::Text { .. } => {
                "does its model lack an unknown token? mend the tokenizer.json".into()
            }
        }
    }
}

/// The tokenizer of that name: `bytes`, `gpt2`, or a file whose name ends in `.json`.
///
/// # Errors
/// Another name, or a file that is no tokenizer.
pub fn tokenizer(name: &str) -> Result<Box<dyn Tokenizer>, TokenizerError> {
    match name {
        "bytes" => Ok(Box::new(bytes::Bytes::new())),
        "gpt2" => Ok(Box::new(gpt2::Gpt2::new())),
        path if path.ends_with(".json") => Ok(Box::new(file::FromFile::read(Path::new(path))?)),
        _ => Err(TokenizerError::Unknown { name: name.into() }),
    }
}
