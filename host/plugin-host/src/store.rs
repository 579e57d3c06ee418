//! Private copies of libraries, named by their content: what is loaded is what was hashed, and a file that is
//! replaced or overwritten during a run disturbs nobody.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::bounded::{self, LARGEST_LIBRARY_BYTES};
use crate::{PluginError, trust};

/// A library as it was when it was first needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Hash of its bytes.
    pub(crate) sha256: String,
    /// The private copy.
    pub(crate) copy: PathBuf,
}

/// Copies a library, unless there is a copy of the same bytes.
///
/// # Errors
/// A file that cannot be read, or no room for a copy.
pub(crate) fn keep(path: &Path) -> Result<Kept, PluginError> {
    let bytes = bounded::read(path, LARGEST_LIBRARY_BYTES).map_err(|error| PluginError::Refused {
        path: path.to_path_buf(),
        reason: format!("cannot be read: {error}"),
        hint: "check the path and its permissions".into(),
    })?;
    let sha256 = sha256_of(&bytes);
    let folder = folder();
    let copy = folder.join(format!("{sha256}{}", std::env::consts::DLL_SUFFIX));
    let cannot = |error: io::Error| PluginError::Host {
        message: format!(
            "a private copy of {} cannot be made in {}: {error}",
            path.display(),
            folder.display()
        ),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(cannot)?;
    let is_there = bounded::read(&copy, LARGEST_LIBRARY_BYTES).is_ok_and(|present| present == bytes);
    if !is_there {
        write(&folder, &copy, &bytes).map_err(cannot)?;
    }
    trust::check(&copy).map_err(|refusal| PluginError::Refused {
        path: copy.clone(),
        reason: refusal.reason,
        hint: refusal.hint,
    })?;
    Ok(Kept { sha256, copy })
}

/// Under a temporary name first, so that a copy is there whole or not at all.
fn write(folder: &Path, copy: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = tempfile::Builder::new().prefix(".copy-").tempfile_in(folder)?.into_temp_path();
    // The temporary file's own mode is 0600; libraries are mapped as code.
    fs::remove_file(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o500).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    temporary.persist(copy).map_err(|error| error.error)
}

/// A hash in hexadecimal digits.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `XDG_CACHE_HOME`, else as its specification has it, else a folder of this user's below the temporary one.
fn folder() -> PathBuf {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    match cache {
        Some(cache) => cache.join("sapwood/plugins"),
        None => std::env::temp_dir().join(format!("sapwood-{}/plugins", rustix::process::getuid().as_raw())),
    }
}
