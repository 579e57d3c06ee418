//! What can go wrong with a plugin, each with its name and what to do.

use std::path::PathBuf;

use sapwood_plugin::Kind;

/// What can go wrong with a plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// Nobody offers it.
    #[error("there is no {kind} `{id}`")]
    NotFound {
        /// The kind that was asked for.
        kind: Kind,
        /// The id that was asked for.
        id: String,
        /// What to do.
        hint: String,
    },
    /// Two files of one folder offer it.
    #[error("the {kind} `{id}` is offered by both {} and {}", first.display(), second.display())]
    Ambiguous {
        /// The kind.
        kind: Kind,
        /// The id.
        id: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The file is none of ours, or does not fit this host.
    #[error("the library {} {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The plugin does not take its configuration.
    #[error("the {kind} `{id}` refuses its configuration: {message}")]
    BadConfig {
        /// The kind.
        kind: Kind,
        /// The id.
        id: String,
        /// The key at fault, below `config`; empty where none is named.
        field: String,
        /// What the plugin says.
        message: String,
    },
    /// The plugin failed, panicked, or asked for what cannot be.
    #[error("the {kind} `{id}` failed in `{call}`: {message}")]
    Fault {
        /// The kind.
        kind: Kind,
        /// The id.
        id: String,
        /// The call that was under way.
        call: String,
        /// What it says.
        message: String,
    },
    /// `plugins.lock` cannot be used.
    #[error("{message}")]
    Lock {
        /// What is wrong with it.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A key or a signature cannot be made or read.
    #[error("{message}")]
    Signature {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The host's own part in it fails: a process, a folder.
    #[error("{message}")]
    Host {
        /// What cannot be done.
        message: String,
    },
}

impl PluginError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            PluginError::NotFound { hint, .. }
            | PluginError::Refused { hint, .. }
            | PluginError::Lock { hint, .. }
            | PluginError::Signature { hint, .. } => hint.clone(),
            PluginError::Ambiguous { .. } => "remove one of them, or name one with `library = \"…\"`".into(),
            PluginError::Host { .. } => {
                "check the disk, the permissions and the limits of this machine".into()
            }
            PluginError::BadConfig { id, .. } => {
                format!("`sapwood plugin inspect {id}` prints what it takes")
            }
            PluginError::Fault { id, call, .. } => {
                // A checkpoint without the plugin's state would be none.
                let saved = if call == "save" {
                    "the last checkpoint is intact"
                } else {
                    "what was trained so far is saved"
                };
                format!("report this to the author of `{id}`, or use another plugin; {saved}")
            }
        }
    }
}
