//! A run's folder, and how files get into it: whole or not at all.
//!
//! ```text
//! run.json  metrics.jsonl  evals.jsonl  [suites.jsonl]  decisions.jsonl  [shadows.jsonl]  checkpoints/STEP[-NAME]/
//! forks/STEP/  DONE | FAILED
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use engine::Step;
use plugin_host::bounded;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{RunFile, TrainError};

/// What a study, a run or a checkpoint says of itself in one piece.
pub const LARGEST_JSON_BYTES: u64 = 64 << 20;
/// A log, or what a plugin has saved: months of steps fit.
pub const LARGEST_LOG_BYTES: u64 = 8 << 30;

/// A run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// That folder; nothing is created yet.
    pub fn at(path: impl Into<PathBuf>) -> RunFolder {
        RunFolder { path: path.into() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved configuration and what the result is bound to.
    pub fn run_file(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// One line a step.
    pub fn metrics_file(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// One line an evaluation.
    pub fn evaluations_file(&self) -> PathBuf {
        self.path.join("evals.jsonl")
    }

    /// One line for each time that a suite was put to the model; not there where the run has none.
    pub fn suites_file(&self) -> PathBuf {
        self.path.join("suites.jsonl")
    }

    /// One line a decision.
    pub fn decisions_file(&self) -> PathBuf {
        self.path.join("decisions.jsonl")
    }

    /// One line for whatever a shadow strategy would have done; not there where none rides along.
    pub fn shadows_file(&self) -> PathBuf {
        self.path.join("shadows.jsonl")
    }

    /// Checkpoints, one folder each.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Checkpoints that other runs begin from, one folder each.
    pub fn forks(&self) -> PathBuf {
        self.path.join("forks")
    }

    /// The checkpoint before that step that other runs begin from.
    pub fn fork(&self, step: Step) -> PathBuf {
        self.forks().join(format!("{:08}", step.0))
    }

    /// Written last, by a run that is finished.
    pub fn done_file(&self) -> PathBuf {
        self.path.join("DONE")
    }

    /// Written by a run that failed, with the reason.
    pub fn failed_file(&self) -> PathBuf {
        self.path.join("FAILED")
    }

    /// What a run is made of and bound to.
    ///
    /// # Errors
    /// A folder that holds no run, or a file that cannot be read.
    pub fn bound_run(&self) -> Result<RunFile, TrainError> {
        if !self.run_file().is_file() {
            return Err(TrainError::NoRun { folder: self.path.clone() });
        }
        read_json(&self.run_file())
    }

    /// Whether the run is finished.
    pub fn is_done(&self) -> bool {
        self.done_file().is_file()
    }
}

/// The runs that a folder holds: itself, or those of a study, in order of their names.
pub fn runs_below(folder: &Path) -> Vec<RunFolder> {
    let itself = RunFolder::at(folder);
    if itself.run_file().is_file() {
        return vec![itself];
    }
    let entries = |folder: PathBuf| {
        let mut found: Vec<PathBuf> =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        found.sort();
        found
    };
    let seeds = entries(folder.join("runs")).into_iter().flat_map(entries).flat_map(entries);
    seeds.map(RunFolder::at).filter(|run| run.run_file().is_file()).collect()
}

/// Creates a folder and all above it.
///
/// # Errors
/// What the system says.
pub fn create_folder(path: &Path) -> Result<(), TrainError> {
    fs::create_dir_all(path).map_err(storage("create", path))
}

/// Writes a file under a temporary name, forces it to the disk, and renames it.
///
/// # Errors
/// What the system says; the old file, if any, is then untouched.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let temporary = path.with_extension("tmp");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    renamed.map_err(|source| {
        // What is half written is of use to nobody, least of all on a full disk.
        let _ = fs::remove_file(&temporary);
        TrainError::Storage { action: "write", path: path.to_path_buf(), source }
    })?;
    sync_folder_of(path)
}

/// Forces a folder's entries to the disk, so that a rename survives a loss of power.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), TrainError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(storage("write", folder))
}

/// Writes a value as JSON for people, whole or not at all.
///
/// # Errors
/// What the system says.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| TrainError::Internal(format!("{} cannot be written: {error}", path.display())))?;
    text.push(b'\n');
    write_whole(path, &text)
}

/// Writes a folder under a temporary name and renames it, so that it is there whole or not at all. It must not be there yet.
///
/// # Errors
/// A folder that is there, what the system says, or what `write` says.
pub(crate) fn write_folder(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    if path.exists() {
        return Err(TrainError::Unfit {
            path: path.to_path_buf(),
            reason: "is there already".into(),
            hint: "choose another `--out`, or delete it".into(),
        });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!("{name}.tmp"));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(storage("remove", &temporary))?;
    }
    create_folder(&temporary)?;
    let written =
        write(&temporary).and_then(|()| fs::rename(&temporary, path).map_err(storage("write", path)));
    written.inspect_err(|_| {
        // What is half written is of use to nobody, least of all on a full disk.
        let _ = fs::remove_dir_all(&temporary);
    })?;
    sync_folder_of(path)
}

/// Reads a JSON file.
///
/// # Errors
/// A file that is missing or does not hold what it should.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, TrainError> {
    let bytes = bounded::read(path, LARGEST_JSON_BYTES).map_err(storage("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| TrainError::Damaged {
        path: path.to_path_buf(),
        reason: format!("cannot be read: {error}"),
    })
}

/// Reads every line of a log.
///
/// # Errors
/// A file that is missing or holds a line that cannot be read.
pub fn read_json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, TrainError> {
    let text = bounded::read_text(path, LARGEST_LOG_BYTES).map_err(storage("read", path))?;
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
    let text = bounded::read_text(path, LARGEST_LOG_BYTES).map_err(storage("read", path))?;
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
        let mut file = open.map_err(storage("write", path))?;
        let present = file.metadata().map_err(storage("read", path))?.len();
        if present < length {
            let reason = format!("has {present} bytes, but had {length} at the checkpoint");
            return Err(TrainError::Damaged { path: path.to_path_buf(), reason });
        }
        file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0))).map_err(storage("write", path))?;
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
        self.file.write_all(&line).map_err(storage("write", &self.path))?;
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
        let file = self.file.try_clone().map_err(storage("write", &self.path))?;
        let path = self.path.clone();
        Ok(move || file.sync_data().map_err(storage("write", &path)))
    }

    /// Forces all lines to the disk; answers how many bytes they are.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&mut self) -> Result<u64, TrainError> {
        self.file.sync_data().map_err(storage("write", &self.path))?;
        Ok(self.length)
    }
}

pub(crate) fn storage(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> TrainError {
    move |source| TrainError::Storage { action, path: path.to_path_buf(), source }
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

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        write_whole(&path, b"old").expect("room");
        // A folder under the temporary name makes the write fail.
        fs::create_dir(folder.path().join("file.tmp")).expect("room");
        assert!(matches!(write_whole(&path, b"new"), Err(TrainError::Storage { .. })));
        assert_eq!(fs::read(&path).expect("the old file"), b"old");
    }
}
