//! Checkpoints: everything that a run needs to go on as if nothing had happened, in one folder.
//!
//! ```text
//! checkpoints/STEP[-NAME]/weights.safetensors   Hugging Face names, by position
//!                         moments.safetensors   the same names, `.first_moment` and `.second_moment`
//!                         plugins/*.bin         what `save` gave
//!                         state.json            all else, and the hashes of the files above; written last
//! ```
//!
//! The folder is written under a temporary name and renamed, so that it is there whole or not at all.

mod format;
mod state;
mod state_file;
mod tensors;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use engine::{ModelShape, Snapshot, TensorId};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::storage::hash_of_file;
use crate::storage::tensor_file::{Pending, read_tensors, write_tensors};
use crate::storage::{create_folder, failing, sync_folder_of, write_json, write_whole};

pub use state::{LogLengths, RunState, Untold};
pub(crate) use state_file::saved_entries;
pub use tensors::Tensors;

use format::read_state;
use state_file::{StateFile, plugin_file};
use tensors::{Values, load_tensors, names};

const WEIGHTS_FILE: &str = "weights.safetensors";
const MOMENTS_FILE: &str = "moments.safetensors";
/// What a checkpoint's name ends in while it is written.
const TEMPORARY: &str = ".tmp";

/// Writes a checkpoint; answers its folder. `may_count` is asked when all is written, before it gets its name.
///
/// # Errors
/// What the system, the engine or `may_count` says; nothing half-written stays under the checkpoint's name.
pub fn save(
    checkpoints: &Path,
    name: &str,
    shape: &ModelShape,
    state: &RunState,
    tensors: Tensors<'_>,
    may_count: impl FnOnce() -> Result<(), TrainError>,
) -> Result<PathBuf, TrainError> {
    let temporary = checkpoints.join(format!("{name}{TEMPORARY}"));
    let folder = checkpoints.join(name);
    remove_if_there(&temporary)?;
    let written = write_files(&temporary, shape, state, tensors).and_then(|()| {
        may_count()?;
        remove_if_there(&folder)?;
        fs::rename(&temporary, &folder).map_err(failing("write", &folder))?;
        sync_folder_of(&folder)
    });
    written.inspect_err(|_| {
        // What is half written is of use to nobody, least of all on a full disk.
        let _ = fs::remove_dir_all(&temporary);
    })?;
    Ok(folder)
}

/// Removes what a process has left half written that was killed.
///
/// # Errors
/// What the system says.
pub(crate) fn remove_half_written(checkpoints: &Path) -> Result<(), TrainError> {
    let entries = fs::read_dir(checkpoints).map_err(failing("read", checkpoints))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let is_temporary = |path: &PathBuf| path.to_string_lossy().ends_with(TEMPORARY) && path.is_dir();
    paths.try_for_each(|path| if is_temporary(&path) { remove_if_there(&path) } else { Ok(()) })
}

fn remove_if_there(folder: &Path) -> Result<(), TrainError> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(failing("remove", folder)) } else { Ok(()) }
}

fn write_files(
    folder: &Path,
    shape: &ModelShape,
    state: &RunState,
    from: Tensors<'_>,
) -> Result<(), TrainError> {
    create_folder(&folder.join("plugins"))?;
    let (layers, shape) = (from.layers(), &state.course.shape(shape));
    let tensors: Vec<TensorId> = shape.tensors(&layers).into_iter().map(|(tensor, _)| tensor).collect();
    let (mut weights, mut moments) = (Vec::new(), Vec::new());
    for ((name, shape), &tensor) in names(shape, &layers).into_iter().zip(&tensors) {
        let pending = |name: String, values| Pending {
            name,
            shape: shape.clone(),
            read: Box::new(move || from.read(tensor, values)),
        };
        moments.push(pending(format!("{name}.first_moment"), Values::FirstMoment));
        moments.push(pending(format!("{name}.second_moment"), Values::SecondMoment));
        weights.push(pending(name.clone(), Values::Weights));
    }
    let mut sha256 = BTreeMap::new();
    for (name, tensors) in [(WEIGHTS_FILE, weights), (MOMENTS_FILE, moments)] {
        sha256.insert(name.to_owned(), write_tensors(&folder.join(name), &tensors, None)?);
    }
    for (name, saved) in &state.plugins {
        let name = plugin_file(name);
        write_whole(&folder.join(&name), &saved.bytes)?;
        sha256.insert(name, format!("{:x}", Sha256::digest(&saved.bytes)));
    }
    let updates = tensors.iter().map(|&tensor| Ok(from.updates(tensor)?));
    let updates = updates.collect::<Result<Vec<u64>, TrainError>>()?;
    write_json(&folder.join("state.json"), &StateFile::new(state, updates, sha256))
}

/// Reads a checkpoint, every file checked against its hash.
///
/// # Errors
/// A file that is missing or damaged.
pub fn load(folder: &Path, shape: &ModelShape) -> Result<(RunState, Snapshot), TrainError> {
    let (file, course) = read_state(folder, shape)?;
    for (name, hash) in &file.sha256 {
        check_hash(&folder.join(name), hash)?;
    }
    let tensors = load_tensors(folder, &course.shape(shape), &course.layers(), &file.updates)?;
    Ok((file.state(course, folder)?, tensors))
}

/// A checkpoint's state and its weights by their Hugging Face names: what the model is, without what training it goes on with.
///
/// # Errors
/// A file that is missing or damaged.
pub(crate) fn load_model(
    folder: &Path,
    shape: &ModelShape,
) -> Result<(RunState, HashMap<String, Vec<f32>>), TrainError> {
    let (file, course) = read_state(folder, shape)?;
    for (name, hash) in file.sha256.iter().filter(|(name, _)| *name != MOMENTS_FILE) {
        check_hash(&folder.join(name), hash)?;
    }
    let weights = weights(folder)?;
    for (name, sizes) in names(&course.shape(shape), &course.layers()) {
        let len = sizes.iter().product::<usize>();
        if weights.get(&name).is_none_or(|values| values.len() != len) {
            let (path, reason) =
                (folder.join(WEIGHTS_FILE), format!("lacks `{name}`, or has another size of it"));
            return Err(TrainError::Damaged { path, reason });
        }
    }
    Ok((file.state(course, folder)?, weights))
}

/// The weights of a checkpoint alone, by their Hugging Face names.
///
/// # Errors
/// A file that is missing or damaged.
pub fn weights(folder: &Path) -> Result<HashMap<String, Vec<f32>>, TrainError> {
    read_tensors(&folder.join(WEIGHTS_FILE))
}

/// AdamW's moments of a checkpoint alone, by the weights' names with `.first_moment` and `.second_moment`.
///
/// # Errors
/// A file that is missing or damaged.
pub fn moments(folder: &Path) -> Result<HashMap<String, Vec<f32>>, TrainError> {
    read_tensors(&folder.join(MOMENTS_FILE))
}

fn check_hash(path: &Path, hash: &str) -> Result<(), TrainError> {
    if hash_of_file(path)? == *hash {
        return Ok(());
    }
    Err(TrainError::Damaged {
        path: path.to_path_buf(),
        reason: "is not what was written (its hash differs)".into(),
    })
}

/// The checkpoints of a run, newest first.
///
/// # Errors
/// What the system says; a folder that is not there has none.
pub fn list(checkpoints: &Path) -> Result<Vec<PathBuf>, TrainError> {
    if !checkpoints.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(checkpoints).map_err(failing("read", checkpoints))?;
    let mut found: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((step_of(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    found.sort();
    Ok(found.into_iter().rev().map(|(_, path)| path).collect())
}

/// Removes the oldest checkpoints but `keep`; named ones stay.
///
/// # Errors
/// What the system says.
pub fn prune(checkpoints: &Path, keep: usize) -> Result<(), TrainError> {
    let unnamed = list(checkpoints)?.into_iter().filter(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    });
    for old in unnamed.skip(keep) {
        fs::remove_dir_all(&old).map_err(failing("remove", &old))?;
    }
    Ok(())
}

/// Bytes that a checkpoint takes on disk.
///
/// # Errors
/// What the system says.
pub fn size_in_bytes(folder: &Path) -> Result<u64, TrainError> {
    let mut size = 0;
    for entry in fs::read_dir(folder).map_err(failing("read", folder))?.flatten() {
        let facts = entry.metadata().map_err(failing("read", &entry.path()))?;
        size += if facts.is_dir() { size_in_bytes(&entry.path())? } else { facts.len() };
    }
    Ok(size)
}

/// The step in `STEP` or `STEP-NAME`; `None` for what is half written.
fn step_of(name: &str) -> Option<u64> {
    if name.ends_with(TEMPORARY) {
        return None;
    }
    name.split('-').next()?.parse().ok()
}
