//! `plugins.lock`: which bytes each plugin of a study is, so that another machine, or next year, uses the same.

use std::io::Write;
use std::path::Path;

use sapwood_plugin::Kind;
use serde::{Deserialize, Serialize};

use crate::whole_file::write_whole;
use crate::{PluginError, Provenance, bounded};

/// Version of the file's format.
const FORMAT: u32 = 1;
/// Some hundred bytes a plugin.
const LARGEST_BYTES: u64 = 1 << 20;

/// The content of a `plugins.lock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginLock {
    /// Version of this format.
    pub format: u32,
    /// The plugins, each once, in order of kind and id.
    pub plugins: Vec<Provenance>,
}

impl PluginLock {
    /// Of these plugins.
    pub fn new(mut plugins: Vec<Provenance>) -> PluginLock {
        plugins.sort_by(|a, b| (a.kind, &a.id, &a.sha256).cmp(&(b.kind, &b.id, &b.sha256)));
        plugins.dedup();
        PluginLock { format: FORMAT, plugins }
    }

    /// Reads one.
    ///
    /// # Errors
    /// A file that is missing or no lock.
    pub fn read(path: &Path) -> Result<PluginLock, PluginError> {
        let hint = "`sapwood plugin lock STUDY.toml` writes one";
        let broken = |error: &dyn std::fmt::Display| PluginError::Lock {
            message: format!("{} cannot be read: {error}", path.display()),
            hint: hint.into(),
        };
        let text = bounded::read_text(path, LARGEST_BYTES).map_err(|error| broken(&error))?;
        let lock: PluginLock = serde_json::from_str(&text).map_err(|error| broken(&error))?;
        if lock.format != FORMAT {
            return Err(broken(&format!("it has format {}, this host reads {FORMAT}", lock.format)));
        }
        Ok(lock)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> Result<(), PluginError> {
        let written = serde_json::to_string_pretty(self).map_err(std::io::Error::other);
        let written = written.and_then(|text| write_whole(path, |file| writeln!(file, "{text}")));
        written.map_err(|error| PluginError::Host {
            message: format!("{} cannot be written: {error}", path.display()),
        })
    }

    /// Refuses a library that is not the one that is locked.
    ///
    /// # Errors
    /// Another library, or none of that id in the lock.
    pub(crate) fn check(&self, path: &Path, kind: Kind, id: &str, sha256: &str) -> Result<(), PluginError> {
        let locked: Vec<&str> = (self.plugins.iter())
            .filter(|plugin| plugin.kind == kind && plugin.id == id)
            .map(|plugin| plugin.sha256.as_str())
            .collect();
        if locked.contains(&sha256) {
            return Ok(());
        }
        let reason = match locked.first() {
            None => format!("offers the {kind} `{id}`, which is not in plugins.lock"),
            Some(locked) => {
                format!("is not the one of plugins.lock: its sha256 is {sha256}, locked is {locked}")
            }
        };
        let hint = "get the library that was locked, or lock this one with `sapwood plugin lock`".into();
        Err(PluginError::Refused { path: path.to_path_buf(), reason, hint })
    }
}
