//! Texts out of files: plain, JSON lines and Parquet, compressed or not. Large files are cut into units that can be
//! read side by side, always into the same ones. What becomes of the texts is decided elsewhere.

mod error;
mod inputs;
mod json_lines;
mod parquet;
mod plain;
mod reading;

use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

pub use error::TextError;
pub use inputs::Kind;
pub(crate) use inputs::{Input, Unit, inputs, units};

/// A text, or one that cannot be read.
pub(crate) type Found<'a> = Result<&'a str, BadText>;

/// Why a text cannot be read; others of its file can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadText {
    /// Such as "line 7".
    pub(crate) place: String,
    /// Reads on after the place.
    pub(crate) reason: String,
}

/// What of a file is a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The key of JSON lines, and the column of Parquet, that holds the text.
    pub field: String,
    /// How plain texts are cut into documents.
    pub documents: Cut,
}

/// How a plain text is cut into documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// A file is one.
    Files,
    /// Each line that is not blank, its end left out.
    Lines,
    /// What stands between blank lines.
    Paragraphs,
}

/// Larger texts are refused: one is held in memory whole.
pub(crate) const LARGEST_TEXT_BYTES: u64 = 1 << 30;

/// Gives every text of a unit to `each`, in order. `bytes_read` counts bytes of the file.
pub(crate) fn read<E: From<TextError>>(
    input: &Input,
    unit: &Unit,
    rules: &Rules,
    bytes_read: &AtomicU64,
    each: &mut dyn FnMut(Found<'_>) -> Result<(), E>,
) -> Result<(), E> {
    match input.kind {
        Kind::Text => plain::read(input, rules.documents, bytes_read, each),
        Kind::JsonLines => json_lines::read(input, unit, &rules.field, bytes_read, each),
        Kind::Parquet => parquet::read(input, unit, &rules.field, bytes_read, each),
    }
}
