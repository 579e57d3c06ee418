//! `plugins.lock`: which bytes each plugin of a study has. A locked study runs with these and no others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sapwood_plugin::Kind;
use serde::{Deserialize, Serialize};

use crate::{PluginError, Provenance};

/// The plugins of a study, as they were when it was locked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// In the order of kind and id.
    #[serde(rename = "plugin", default)]
    plugins: Vec<Locked>,
    #[serde(skip)]
    file: PathBuf,
}

/// One plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locked {
    kind: Kind,
    id: String,
    version: String,
    sha256: String,
}

const AGAIN: &str = "get the library that was locked, or run `sapwood plugin lock` again to take this one";

impl Lock {
    /// Of these plugins, for that file.
    pub fn of(plugins: impl IntoIterator<Item = Provenance>, file: &Path) -> Lock {
        let by_name: BTreeMap<(u32, String), Locked> = plugins
            .into_iter()
            .map(|Provenance { kind, id, version, sha256 }| {
                ((kind.number(), id.clone()), Locked { kind, id, version, sha256 })
            })
            .collect();
        Lock { plugins: by_name.into_values().collect(), file: file.to_path_buf() }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It is not there, or is not what [`Lock::text`] writes.
    pub fn read(file: &Path) -> Result<Lock, PluginError> {
        let unreadable = |what: String, hint: &str| PluginError::Lock {
            file: file.to_path_buf(),
            message: what,
            hint: hint.into(),
        };
        let text = std::fs::read_to_string(file).map_err(|error| {
            unreadable(format!("cannot be read: {error}"), "run `sapwood plugin lock` first")
        })?;
        let lock: Lock = toml::from_str(&text).map_err(|error| {
            unreadable(format!("is no lock: {}", error.message()), "run `sapwood plugin lock` again")
        })?;
        Ok(Lock { file: file.to_path_buf(), ..lock })
    }

    /// The file's content.
    ///
    /// # Errors
    /// None that this type can bring about.
    pub fn text(&self) -> Result<String, toml::ser::Error> {
        const HEAD: &str = "# Which plugins this study runs with. Written by `sapwood plugin lock`; `--locked` refuses all others.\n\n";
        toml::to_string(self).map(|text| format!("{HEAD}{text}"))
    }

    /// Refuses a plugin that the lock does not name, or names with other bytes.
    ///
    /// # Errors
    /// That.
    pub fn check(&self, plugin: &Provenance, path: &Path) -> Result<(), PluginError> {
        let locked = self.plugins.iter().find(|locked| locked.kind == plugin.kind && locked.id == plugin.id);
        let reason = match locked {
            Some(locked) if locked.sha256 == plugin.sha256 => return Ok(()),
            Some(Locked { version, sha256, .. }) => format!(
                "is not the one that {} names for the {} `{}`: it has sha256 {}…, version {}; locked is {}…, version {version}",
                self.file.display(),
                plugin.kind,
                plugin.id,
                short(&plugin.sha256),
                plugin.version,
                short(sha256),
            ),
            None => format!(
                "offers the {} `{}`, which {} does not name",
                plugin.kind,
                plugin.id,
                self.file.display()
            ),
        };
        Err(PluginError::Refused { path: path.to_path_buf(), reason, hint: AGAIN.into() })
    }
}

fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}
