//! How files get onto the disk and back: whole or not at all, and never more of them than memory is meant to hold. Logs that
//! grow by lines: `storage/json_lines.rs`; tensors: `storage/tensor_file.rs`.

mod json_lines;
pub(crate) mod tensor_file;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use plugin_host::bounded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::TrainError;

pub use json_lines::{JsonLines, read_json_lines, read_whole_lines};

/// What a study, a run or a checkpoint says of itself in one piece.
pub const LARGEST_JSON_BYTES: u64 = 64 << 20;
/// A log, or what a plugin has saved: months of steps fit.
pub const LARGEST_LOG_BYTES: u64 = 8 << 30;

/// Creates a folder and all above it.
///
/// # Errors
/// What the system says.
pub fn create_folder(path: &Path) -> Result<(), TrainError> {
    fs::create_dir_all(path).map_err(failing("create", path))
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
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failing("write", folder))
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
        fs::remove_dir_all(&temporary).map_err(failing("remove", &temporary))?;
    }
    create_folder(&temporary)?;
    let written =
        write(&temporary).and_then(|()| fs::rename(&temporary, path).map_err(failing("write", path)));
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
    let bytes = bounded::read(path, LARGEST_JSON_BYTES).map_err(failing("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| TrainError::Damaged {
        path: path.to_path_buf(),
        reason: format!("cannot be read: {error}"),
    })
}

/// What the system has refused to do with that file.
pub(crate) fn failing(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> TrainError {
    move |source| TrainError::Storage { action, path: path.to_path_buf(), source }
}

/// The SHA-256 of a file, read in pieces.
///
/// # Errors
/// What the system says.
pub(crate) fn hash_of_file(path: &Path) -> Result<String, TrainError> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(failing("read", path))?;
    std::io::copy(&mut file, &mut hash).map_err(failing("read", path))?;
    Ok(format!("{:x}", hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
