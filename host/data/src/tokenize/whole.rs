//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::TokenizeError;

/// Writes a file under a temporary name, and names it when it is on the disk.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), TokenizeError> {
    let partial = partial(path);
    let written = || -> io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(content)?;
        file.sync_all()
    };
    written().map_err(|source| TokenizeError::Write { path: path.into(), source })?;
    name(path)
}

/// The name of a file as long as it is written.
pub(super) fn partial(path: &Path) -> PathBuf {
    path.with_added_extension("partial")
}

/// Gives a file its name, for good. Its content is on the disk already.
pub(super) fn name(path: &Path) -> Result<(), TokenizeError> {
    let named = || -> io::Result<()> {
        fs::rename(partial(path), path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    named().map_err(|source| TokenizeError::Write { path: path.into(), source })
}
