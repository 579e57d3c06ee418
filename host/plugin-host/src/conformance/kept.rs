//! Certificates of whole examinations, kept by the library's hash in the user's data folder, where runs find them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use sapwood_plugin::Kind;
use serde::{Deserialize, Serialize};

use super::{Certificate, Examined};
use crate::PluginError;
use crate::bounded;
use crate::search::user_data_folder;
use crate::whole_file::write_whole;

/// What an examination found.
const LARGEST_BYTES: u64 = 64 << 20;

/// What a run records of a plugin's certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Examination {
    /// Version of the host that asked.
    pub examined_by: String,
    /// The configuration that the plugin was examined with, which need not be the run's.
    pub config: serde_json::Value,
    /// How many questions it was asked.
    pub asked: usize,
    /// Those that it failed.
    pub failed: Vec<String>,
}

impl Examination {
    fn of(certificate: &Certificate, examined: &Examined) -> Examination {
        Examination {
            examined_by: certificate.examined_by.clone(),
            config: examined.config.clone(),
            asked: examined.replies.len(),
            failed: examined.failures().map(|reply| reply.question.clone()).collect(),
        }
    }
}

impl Certificate {
    /// Keeps it for runs of this user, in the place of an older one of the same library; answers where, or `None`
    /// where nothing says whose data folder to use.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep(&self) -> Result<Option<PathBuf>, PluginError> {
        let Some(folder) = folder() else { return Ok(None) };
        let path = file_in(&folder, &self.sha256);
        let write = || {
            fs::create_dir_all(&folder)?;
            let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
            write_whole(&path, |file| file.write_all(&text))
        };
        write().map_err(|error| PluginError::Host {
            message: format!("the certificate cannot be kept in {}: {error}", path.display()),
        })?;
        Ok(Some(path))
    }
}

/// What is known of the plugin of a library with that hash.
pub(crate) fn find(sha256: &str, kind: Kind, id: &str) -> Option<Examination> {
    find_in(&folder()?, sha256, kind, id)
}

fn find_in(folder: &Path, sha256: &str, kind: Kind, id: &str) -> Option<Examination> {
    let path = file_in(folder, sha256);
    let bytes = bounded::read(&path, LARGEST_BYTES).ok()?;
    let certificate = match serde_json::from_slice::<Certificate>(&bytes) {
        Ok(certificate) if certificate.sha256 == sha256 => certificate,
        Ok(_) => return passed_over(&path, "it is another library's"),
        Err(error) => return passed_over(&path, &error.to_string()),
    };
    let mut plugins = certificate.plugins.iter();
    let examined = plugins.find(|examined| examined.plugin.kind == kind && examined.plugin.id == id)?;
    Some(Examination::of(&certificate, examined))
}

fn passed_over(path: &Path, why: &str) -> Option<Examination> {
    tracing::warn!("the certificate {} is passed over: {why}", path.display());
    None
}

fn folder() -> Option<PathBuf> {
    user_data_folder().map(|data| data.join("sapwood/certificates"))
}

fn file_in(folder: &Path, sha256: &str) -> PathBuf {
    folder.join(format!("{sha256}.json"))
}
