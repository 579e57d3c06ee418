//! Copies of libraries under the hash of their bytes, in a folder of the user's own: what is loaded is what was
//! looked at, and replacing the original under a running host changes nothing. Not here: loading.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{PluginError, trust};

/// A library as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    /// Where the copy is.
    pub(crate) path: PathBuf,
    /// The hash of its bytes.
    pub(crate) sha256: String,
}

/// Copies a library, unless a copy is there.
///
/// # Errors
/// The library cannot be read, or there is no folder that the user alone can write to.
pub(crate) fn copy(library: &Path) -> Result<Copy, PluginError> {
    let bytes = std::fs::read(library).map_err(|error| PluginError::Refused {
        path: library.to_path_buf(),
        reason: format!("cannot be read: {error}"),
        hint: "check the path and its permissions".into(),
    })?;
    let sha256 = hash(&bytes);
    let failed = |error: io::Error| PluginError::Host {
        message: format!("no copy of {} could be made: {error}", library.display()),
    };
    let folder = folder().map_err(failed)?;
    let path = folder.join(format!("{sha256}.{}", std::env::consts::DLL_EXTENSION));
    // A copy that is not what its name says was cut short by a full disk, or worse.
    let there = std::fs::read(&path).is_ok_and(|there| there == bytes) && trust::check_place(&path).is_ok();
    if !there {
        write(&folder, &path, &bytes).map_err(failed)?;
    }
    Ok(Copy { path, sha256 })
}

/// Under a temporary name first, so that two hosts that copy at once do not meet half a file.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// The user's cache, or where that cannot be written to, a folder of the user's among the temporary ones.
fn folder() -> io::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let in_cache = cache.map(|cache| cache.join("sapwood/plugins")).filter(|folder| private(folder).is_ok());
    match in_cache {
        Some(folder) => Ok(folder),
        None => {
            let folder = std::env::temp_dir().join(format!("sapwood-plugins-{}", user()));
            private(&folder)?;
            Ok(folder)
        }
    }
}

/// Makes the folder if need be; it has to be one that the user alone writes to.
fn private(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    // Any file of it stands for the folder; a link in its place would lead elsewhere.
    if std::fs::symlink_metadata(folder)?.is_symlink() {
        return Err(io::Error::other(format!("{} is a link", folder.display())));
    }
    trust::check_place(&folder.join("library")).map_err(|refusal| io::Error::other(refusal.reason))?;
    tempfile::tempfile_in(folder).map(drop)
}

#[cfg(unix)]
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn user() -> u32 {
    0
}

/// SHA-256 in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_bytes_that_were_read_and_is_made_again_where_it_has_others() {
        let folder = tempfile::tempdir().expect("room");
        let library = folder.path().join("a.so");
        std::fs::write(&library, b"one").expect("room");
        let first = copy(&library).expect("it can be read");
        std::fs::write(&library, b"two").expect("room");
        assert_eq!(std::fs::read(&first.path).expect("it is there"), b"one", "the original was replaced");
        std::fs::write(&first.path, b"on").expect("room");
        std::fs::write(&library, b"one").expect("room");
        assert_eq!(copy(&library).expect("it can be read"), first);
        assert_eq!(std::fs::read(&first.path).expect("it is there"), b"one");
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = copy(Path::new("/nowhere/lib.so")).expect_err("it is not there").to_string();
        assert!(error.starts_with("the library /nowhere/lib.so cannot be read: "), "{error}");
    }
}
