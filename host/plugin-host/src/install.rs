//! A library's way into a folder of plugins: looked at, copied beside its place, looked at again, renamed. None of its
//! code runs. Not here: where that folder is (`search`), and copies that are loaded (`store`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sapwood_plugin::host::{Refusal, check_facts, read_facts};
use sapwood_plugin::{Descriptor, LibraryFacts};

use crate::bounded::{self, LARGEST_LIBRARY_BYTES};
use crate::registry::refused;
use crate::store::sha256_of;
use crate::{PluginError, Registry, SearchPath, trust};

/// A library that was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Where it is now.
    pub path: PathBuf,
    /// The hash of its bytes.
    pub sha256: String,
    /// Its facts.
    pub facts: LibraryFacts,
    /// What was there before under that name.
    pub replaced: Option<Replaced>,
}

/// What an installed library took the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The hash of its bytes.
    pub sha256: String,
    /// Its plugins; empty where it was none that this host takes.
    pub plugins: Vec<Descriptor>,
}

/// Copies a library into a folder of plugins, under its own name, whole or not at all.
///
/// # Errors
/// A library that this host refuses, one that offers what another file of the folder offers already, or a folder that
/// cannot be written to or that others can write to.
pub fn install(library: &Path, folder: &Path) -> Result<Installed, PluginError> {
    let registry = Registry::scan(SearchPath(vec![folder.to_path_buf()]));
    let facts = registry.facts_of(library)?;
    let name = library
        .file_name()
        .ok_or_else(|| PluginError::Host { message: format!("{} is no file's name", library.display()) })?;
    let name = Path::new(name).with_extension(std::env::consts::DLL_EXTENSION);
    let path = folder.join(name);
    check_alone(&registry, &facts, &path)?;

    let failed = |error: io::Error| PluginError::Host {
        message: format!("{} cannot be installed into {}: {error}", library.display(), folder.display()),
    };
    let bytes = bounded::read(library, LARGEST_LIBRARY_BYTES).map_err(failed)?;
    let replaced = what_is_at(&path);
    fs::create_dir_all(folder).map_err(failed)?;
    trust::check_folder(folder).map_err(|refusal| refused(&path, &refusal))?;
    let temporary = written_beside(folder, &bytes).map_err(failed)?;
    // Between the two looks the file may have been built anew: what is installed is what was looked at.
    let copied = read_facts(temporary.path()).and_then(|facts| check_facts(&facts).map(|()| facts));
    if copied.as_ref() != Ok(&facts) {
        let reason = "has changed while it was installed".to_owned();
        return Err(refused(library, &Refusal { reason, hint: "run the same command again".into() }));
    }
    temporary.persist(&path).map_err(|error| failed(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(Installed { path, sha256: sha256_of(&bytes), facts, replaced })
}

/// Two files of one folder that offer the same plugin could neither be used.
fn check_alone(registry: &Registry, facts: &LibraryFacts, path: &Path) -> Result<(), PluginError> {
    for plugin in &facts.plugins {
        let others = registry.libraries().filter(|found| found.path != path);
        let other = others.into_iter().find(|found| found.offers(plugin.kind, &plugin.id));
        if let Some(other) = other {
            return Err(PluginError::Ambiguous {
                kind: plugin.kind,
                id: plugin.id.clone(),
                first: other.path.clone(),
                second: path.to_path_buf(),
            });
        }
    }
    Ok(())
}

fn what_is_at(path: &Path) -> Option<Replaced> {
    let sha256 = sha256_of(&bounded::read(path, LARGEST_LIBRARY_BYTES).ok()?);
    let plugins = read_facts(path).map(|facts| facts.plugins).unwrap_or_default();
    Some(Replaced { sha256, plugins })
}

fn written_beside(folder: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut temporary = tempfile::Builder::new().prefix(".installing-").tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    // A temporary file is for its owner's eyes alone; a library is for whoever may look into the folder.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        temporary.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    temporary.as_file().sync_all()?;
    Ok(temporary)
}
