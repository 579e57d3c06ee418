//! The lines of a suite's file, and texts in it that may be given as token ids instead.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{InferenceError, Tokenizer};

/// Largest suite that is read, 4 GiB.
const LARGEST_BYTES: u64 = 4 << 30;

/// A text, or the ids of one.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Said {
    /// To be encoded.
    Text(String),
    /// As they are.
    Ids(Vec<u32>),
}

impl Said {
    /// Its ids, and its bytes where it is a text; `before` is put before a text, and counts for no byte.
    pub(super) fn ids(
        &self,
        before: &str,
        tokenizer: &dyn Tokenizer,
    ) -> Result<(Vec<u32>, Option<usize>), String> {
        match self {
            Said::Text(text) => Ok((tokenizer.encode(&format!("{before}{text}"))?, Some(text.len()))),
            Said::Ids(ids) => Ok((ids.clone(), None)),
        }
    }
}

/// Every line that is not empty, by its number from 1.
///
/// # Errors
/// A file that cannot be read or holds no line, or the first line that is not what it should be.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<(usize, T)>, InferenceError> {
    let fault = |reason: String| InferenceError::File { path: path.to_path_buf(), reason };
    let bytes = fs::metadata(path).map_err(|error| fault(format!("cannot be read: {error}")))?.len();
    if bytes > LARGEST_BYTES {
        return Err(fault(format!("has {bytes} bytes, more than any suite")));
    }
    let text = fs::read_to_string(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let items = lines.map(|(number, line)| {
        let item = serde_json::from_str(line)
            .map_err(|error| wrong(path, number + 1, format!("is no item: {error}")))?;
        Ok((number + 1, item))
    });
    let items = items.collect::<Result<Vec<_>, InferenceError>>()?;
    if items.is_empty() { Err(fault("holds no item".into())) } else { Ok(items) }
}

pub(super) fn wrong(path: &Path, line: usize, reason: String) -> InferenceError {
    InferenceError::Suite { path: path.to_path_buf(), line, reason }
}
