//! Machine code that was compiled before, as files by what it was compiled from. A file is there whole or not at all,
//! and bears the hash of what it holds; a folder that cannot be used costs time, never a run.
//!
//! Not here: which folder.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Bytes of a hash.
const HASH: usize = 32;

/// A folder of compiled kernels.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// In that folder, which is made when something is first kept.
    pub fn at(folder: PathBuf) -> Cache {
        Cache { folder: Some(folder) }
    }

    /// What was made of these parts before, or is made now and kept.
    ///
    /// # Errors
    /// Those of making it.
    pub fn get<E>(&self, of: &[&str], make: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E> {
        let Some(folder) = &self.folder else { return make() };
        let file = folder.join(format!("{}.cubin", key(of)));
        if let Some(kept) = read(&file) {
            return Ok(kept);
        }
        let made = make()?;
        // A disk that is full or read-only is no reason not to compute.
        let _ = keep(folder, &file, &made);
        Ok(made)
    }
}

/// Parts cannot run into one another: each is preceded by its length.
fn key(of: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in of {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `None` where it is not there, or is not what was written.
fn read(file: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(file).ok()?;
    let (hash, held) = bytes.split_at_checked(HASH)?;
    (Sha256::digest(held)[..] == *hash).then(|| held.to_vec())
}

fn keep(folder: &Path, file: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut temporary = tempfile::Builder::new().prefix(".kernel-").tempfile_in(folder)?;
    temporary.write_all(&Sha256::digest(bytes))?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(cache: &Cache, of: &[&str], what: &str) -> (String, bool) {
        let mut anew = false;
        let make = || {
            anew = true;
            Ok::<_, ()>(what.into())
        };
        let bytes = cache.get(of, make).expect("making never fails here");
        (String::from_utf8(bytes).expect("text"), anew)
    }

    #[test]
    fn what_was_made_is_found_again_by_what_it_was_made_of() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::at(folder.path().join("kernels"));
        assert_eq!(made(&cache, &["a", "bc"], "first"), ("first".into(), true));
        assert_eq!(made(&cache, &["a", "bc"], "second"), ("first".into(), false));
        assert_eq!(made(&cache, &["ab", "c"], "third"), ("third".into(), true));
    }

    #[test]
    fn a_file_that_was_damaged_is_made_anew() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::at(folder.path().into());
        made(&cache, &["a"], "first");
        let file = folder.path().join(format!("{}.cubin", key(&["a"])));
        for damage in [&b"short"[..], &[7; 64]] {
            fs::write(&file, damage).expect("it can be written");
            assert_eq!(made(&cache, &["a"], "again"), ("again".into(), true));
            assert_eq!(made(&cache, &["a"], "more"), ("again".into(), false));
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_costs_nothing_but_time() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let cache = Cache::at(file.path().join("below a file"));
        assert_eq!(made(&cache, &["a"], "first"), ("first".into(), true));
        assert_eq!(made(&cache, &["a"], "second"), ("second".into(), true));
    }
}
