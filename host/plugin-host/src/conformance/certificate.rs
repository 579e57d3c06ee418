//! What an examination came to, bound to the library's bytes.

use sapwood_plugin::{Descriptor, LibraryFacts};
use serde::{Deserialize, Serialize};

/// What the examination of a library came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Version of this format.
    pub format: u32,
    /// Hash of the library's bytes: the certificate is about no other.
    pub sha256: String,
    /// What the library says about itself.
    pub facts: LibraryFacts,
    /// Version of the host that asked.
    pub examined_by: String,
    /// Whether every plugin passed.
    pub passed: bool,
    /// Its plugins, those that were examined.
    pub plugins: Vec<Examined>,
}

/// What the examination of one plugin came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Examined {
    /// The plugin.
    pub plugin: Descriptor,
    /// The configuration that it was examined with.
    pub config: serde_json::Value,
    /// Whether no question failed.
    pub passed: bool,
    /// Every question with its reply, in order.
    pub replies: Vec<Reply>,
}

/// The reply to one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The question.
    pub question: String,
    /// What it came to.
    pub outcome: Outcome,
    /// Why it failed or was not applicable, or what was measured; may be empty.
    pub said: String,
    /// How long it took.
    pub milliseconds: u64,
}

/// What a question came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Not as it should be.
    Failed,
    /// There was nothing to ask about.
    NotApplicable,
}

impl Examined {
    /// The questions that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Reply> {
        self.replies.iter().filter(|reply| reply.outcome == Outcome::Failed)
    }
}
