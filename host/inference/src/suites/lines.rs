//! The lines of a suite's file, all or some of them, and texts in it that may be given as token ids instead.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Reader;
use crate::InferenceError;

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
    pub(super) fn ids(&self, before: &str, reader: &Reader<'_>) -> Result<(Vec<u32>, Option<usize>), String> {
        match self {
            Said::Text(text) => Ok((reader.encode(&format!("{before}{text}"))?, Some(text.len()))),
            Said::Ids(ids) => Ok((reader.checked(ids.clone())?, None)),
        }
    }
}

impl Reader<'_> {
    /// The ids of a text.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        self.checked(self.tokenizer.encode(text)?)
    }

    fn checked(&self, ids: Vec<u32>) -> Result<Vec<u32>, String> {
        match ids.iter().find(|&&id| id as usize >= self.vocabulary) {
            None => Ok(ids),
            Some(id) => {
                Err(format!("has token {id}, which is outside the model's vocabulary of {}", self.vocabulary))
            }
        }
    }
}

/// Every line that is not empty, or so many of them at even distances from the first on, by its number from 1.
///
/// # Errors
/// A file that cannot be read or holds too few lines, or the first line that is not what it should be.
pub(super) fn read<T: DeserializeOwned>(
    path: &Path,
    items: Option<usize>,
) -> Result<Vec<(usize, T)>, InferenceError> {
    let fault = |reason: String| InferenceError::File { path: path.to_path_buf(), reason };
    let facts = fs::metadata(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
    if !facts.is_file() {
        return Err(fault("is no file".into()));
    }
    let bytes = facts.len();
    if bytes > LARGEST_BYTES {
        return Err(fault(format!("has {bytes} bytes, more than any suite")));
    }
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(LARGEST_BYTES).read_to_string(&mut text));
    read.map_err(|error| fault(format!("cannot be read: {error}")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let lines = lines.map(|(number, line)| {
        let item = serde_json::from_str(line)
            .map_err(|error| wrong(path, number + 1, format!("is no item: {error}")))?;
        Ok((number + 1, item))
    });
    // All are read, whichever are asked: a file that is damaged further down is damaged.
    let all = lines.collect::<Result<Vec<_>, InferenceError>>()?;
    match (all.len(), items) {
        (0, _) => Err(fault("holds no item".into())),
        (there, Some(wanted)) if wanted > there => {
            Err(InferenceError::TooFewItems { path: path.to_path_buf(), there, wanted })
        }
        (there, Some(wanted)) => {
            let mut all = all;
            let mut chosen = (0..wanted).map(|number| number * there / wanted).peekable();
            let mut place = 0;
            all.retain(|_| {
                let is_chosen = chosen.next_if_eq(&place).is_some();
                place += 1;
                is_chosen
            });
            Ok(all)
        }
        (_, None) => Ok(all),
    }
}

pub(super) fn wrong(path: &Path, line: usize, reason: String) -> InferenceError {
    InferenceError::Suite { path: path.to_path_buf(), line, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_items_are_spread_over_the_whole_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("suite.jsonl");
        // An empty line is no item, and counts as a line.
        let text: String =
            (0..10).map(|item| format!("{item}\n{}", if item == 4 { "\n" } else { "" })).collect();
        fs::write(&path, text).expect("room");
        let numbers = |items| {
            let read: Vec<(usize, u64)> = read(&path, items).expect("good lines");
            read
        };
        assert_eq!(numbers(None).len(), 10);
        assert_eq!(numbers(Some(10)), numbers(None));
        assert_eq!(numbers(Some(3)), [(1, 0), (4, 3), (8, 6)]);
        assert_eq!(numbers(Some(1)), [(1, 0)]);
        let too_many = read::<u64>(&path, Some(11)).expect_err("there are ten");
        assert!(too_many.to_string().ends_with("holds 10 items, of which 11 are to be asked"), "{too_many}");
    }
}
