//! What processes that ended badly have left: who was being called.

use std::fs::{self, File};
use std::path::PathBuf;

use super::Culprit;
use super::crumbs::{FILE_BYTES, HEADER_BYTES, MAGIC, in_calls};
use crate::bounded;

/// A process that ended while a plugin was in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Who was in a call, seldom more than one.
    pub culprits: Vec<Culprit>,
    /// Its command line.
    pub command: String,
    /// The folder that it was started in.
    pub folder: String,
    path: PathBuf,
}

/// Processes that ended while a plugin was in a call, and were not told of yet.
pub fn leftovers() -> Vec<Leftover> {
    let entries = fs::read_dir(super::folder()).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("calls-")));
    paths.sort();
    paths.into_iter().filter_map(read).collect()
}

fn read(path: PathBuf) -> Option<Leftover> {
    let file = File::open(&path).ok()?;
    // A process that lives holds the lock.
    file.try_lock_shared().ok()?;
    let bytes = bounded::read(&path, FILE_BYTES).ok()?;
    let culprits = in_calls(&bytes);
    let header = String::from_utf8_lossy(&bytes[..bytes.len().min(HEADER_BYTES)]).into_owned();
    let mut lines = header.lines();
    if lines.next() != Some(MAGIC) || culprits.is_empty() {
        // It ended without a plugin's doing.
        let _ = fs::remove_file(&path);
        return None;
    }
    let mut line = || lines.next().unwrap_or_default().to_owned();
    let (command, folder) = (line(), line());
    Some(Leftover { culprits, command, folder, path })
}

impl Leftover {
    /// It has been told of.
    pub fn forget(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let culprits: Vec<String> = self.culprits.iter().map(ToString::to_string).collect();
        write!(f, "`{}` in {} ended while {}", self.command, self.folder, culprits.join(", and "))
    }
}
