//! A late owner, such as a machine that was suspended, may still write a line before it notices. Its open files are
//! cut off from the run's when that is taken over: each is copied, and the copy gets the name.

use std::fs;
use std::io;
use std::path::Path;

/// Copies every file of the folder itself, claims aside. Checkpoints are written whole, and after a look at the claim.
pub(super) fn off(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("CLAIM") || !entry.file_type()?.is_file() {
            continue;
        }
        let copy = folder.join(format!("CLAIM.copy-of-{name}"));
        let copied = fs::copy(entry.path(), &copy).and_then(|_| fs::rename(&copy, entry.path()));
        copied.inspect_err(|_| {
            let _ = fs::remove_file(&copy);
        })?;
    }
    Ok(())
}
