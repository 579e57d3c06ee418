//! Logs: one JSON object a line, added to as a run goes on.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use plugin_host::bounded;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{LARGEST_LOG_BYTES, failing};
use crate::TrainError;

/// A log that grows by lines and can be cut back to where a checkpoint was.
pub struct JsonLines {
    file: File,
    path: PathBuf,
    length: u64,
}

impl JsonLines {
    /// Opens a log and cuts it back to that many bytes.
    ///
    /// # Errors
    /// What the system says, or a log that is shorter than it was at the checkpoint.
    pub fn open(path: &Path, length: u64) -> Result<JsonLines, TrainError> {
        let open = OpenOptions::new().create(true).write(true).truncate(false).open(path);
        let mut file = open.map_err(failing("write", path))?;
        let present = file.metadata().map_err(failing("read", path))?.len();
        if present < length {
            let reason = format!("has {present} bytes, but had {length} at the checkpoint");
            return Err(TrainError::Damaged { path: path.to_path_buf(), reason });
        }
        file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failing("write", path))?;
        Ok(JsonLines { file, path: path.to_path_buf(), length })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&mut self, record: &impl Serialize) -> Result<(), TrainError> {
        let mut line = serde_json::to_vec(record).map_err(|error| {
            TrainError::Internal(format!("{} cannot be written: {error}", self.path.display()))
        })?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(failing("write", &self.path))?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Bytes of all lines so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What forces all lines so far to the disk, on any thread.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn syncing(
        &self,
    ) -> Result<impl FnOnce() -> Result<(), TrainError> + Send + use<>, TrainError> {
        let file = self.file.try_clone().map_err(failing("write", &self.path))?;
        let path = self.path.clone();
        Ok(move || file.sync_data().map_err(failing("write", &path)))
    }

    /// Forces all lines to the disk; answers how many bytes they are.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&mut self) -> Result<u64, TrainError> {
        self.file.sync_data().map_err(failing("write", &self.path))?;
        Ok(self.length)
    }
}

/// Reads every line of a log.
///
/// # Errors
/// A file that is missing or holds a line that cannot be read.
pub fn read_json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, TrainError> {
    let text = bounded::read_text(path, LARGEST_LOG_BYTES).map_err(failing("read", path))?;
    lines_of(path, &text)
}

/// Reads every line of a log that may be growing: a line that is being written at this moment is none yet, and neither
/// is a log that has not been begun.
///
/// # Errors
/// A whole line that cannot be read.
pub fn read_whole_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, TrainError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = bounded::read_text(path, LARGEST_LOG_BYTES).map_err(failing("read", path))?;
    let end = text.rfind('\n').map_or(0, |last| last + 1);
    lines_of(path, &text[..end])
}

fn lines_of<T: DeserializeOwned>(path: &Path, text: &str) -> Result<Vec<T>, TrainError> {
    let lines = text.lines().enumerate().map(|(number, line)| {
        serde_json::from_str(line).map_err(|error| TrainError::Damaged {
            path: path.to_path_buf(),
            reason: format!("line {} cannot be read: {error}", number + 1),
        })
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_cut_back_to_the_checkpoint() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("log.jsonl");
        let mut log = JsonLines::open(&path, 0).expect("a new log");
        log.add(&1).expect("room for a line");
        let length = log.sync().expect("a disk");
        log.add(&2).expect("room for a line");
        let mut log = JsonLines::open(&path, length).expect("the log as it was");
        log.add(&3).expect("room for a line");
        assert_eq!(read_json_lines::<i32>(&path).expect("two lines"), [1, 3]);
        assert!(matches!(JsonLines::open(&path, 1000), Err(TrainError::Damaged { .. })));
    }
}
