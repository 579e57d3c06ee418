//! A plugin in a process of its own, `isolation = "process"`: just another implementation of the authors' traits.
//!
//! ```text
//! host                                    child: `sapwood plugin-host`
//!   parent.rs   Request  ── its stdin ──►   child.rs   calls the loaded plugin
//!               Reply    ◄─ its stdout ──              every request of a strategy goes up and is answered
//!   tensors     written once ──► shared memory (memfd) ◄── mapped: read and filled in where they lie
//! ```
//!
//! What the plugin prints goes to standard error. A child that ends, hangs or answers rubbish is an error of the
//! call that was under way, and the process is never used again.

mod child;
mod message;
mod parent;
mod pipe;
mod tensors;

pub use child::serve;
pub(crate) use parent::{Isolated, IsolatedInitializer, IsolatedReporter, IsolatedStrategy};

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where a plugin runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// In this process.
    #[default]
    None,
    /// In a process of its own.
    Process,
}

impl Isolation {
    pub(crate) fn is_none(&self) -> bool {
        *self == Isolation::None
    }
}

/// The program that hosts an isolated plugin, and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildProgram {
    /// The binary.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl ChildProgram {
    /// This very binary, told to host a plugin.
    ///
    /// # Errors
    /// A binary that cannot be found any more.
    pub fn this_binary() -> std::io::Result<ChildProgram> {
        Ok(ChildProgram { program: std::env::current_exe()?, arguments: vec!["plugin-host".into()] })
    }
}

/// How long a call into a plugin may take, `SAPWOOD_PLUGIN_TIMEOUT_SECONDS` or 60 seconds.
pub fn call_limit() -> Duration {
    Duration::from_secs(number_from("SAPWOOD_PLUGIN_TIMEOUT_SECONDS").unwrap_or(60))
}

/// Memory of its own that an isolated plugin may hold, `SAPWOOD_PLUGIN_MEMORY_MIB` or 4 GiB. Tensors are the
/// host's and do not count.
pub(crate) fn memory_limit_bytes() -> u64 {
    number_from("SAPWOOD_PLUGIN_MEMORY_MIB").unwrap_or(4096).saturating_mul(1 << 20)
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.trim().parse().ok().filter(|&number: &u64| number > 0);
    if number.is_none() {
        tracing::warn!("{variable} is `{text}`, which is no whole number above 0, and is not heeded");
    }
    number
}
