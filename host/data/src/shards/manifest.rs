//! `tokens.json` of a folder that `sapwood data tokenize` made: which tokenizer, which shards, what they have to
//! hash to. Whoever made the folder may have been anybody: a manifest is believed about its own folder alone.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file::read_whole;
use crate::texts::Rules;
use crate::tokenizer::TokenizerIdentity;
use crate::{DataError, Split};

/// Its name in the folder.
pub const MANIFEST: &str = "tokens.json";
pub(crate) const FORMAT: &str = "sapwood-tokens";
pub(crate) const VERSION: u32 = 1;
/// A shard takes some 200 bytes of it.
pub(crate) const LARGEST_BYTES: u64 = 64 << 20;

/// What a folder of tokens is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `sapwood-tokens`.
    pub format: String,
    /// Of the format.
    pub version: u32,
    /// What made the ids.
    pub tokenizer: TokenizerIdentity,
    /// How texts became ids.
    pub recipe: Recipe,
    /// What was read, in order.
    pub inputs: Vec<InputFacts>,
    /// Documents that were left out since they could not be read.
    pub skipped_documents: u64,
    /// What is to be trained on.
    pub training: PartFacts,
    /// What is to be validated on.
    pub validation: PartFacts,
}

/// How texts became ids: all that the ids depend on, but the texts and the tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The id that stands before each document; `None` for nothing.
    pub separator: Option<u32>,
    /// The share of documents that went to validation, by a hash of their text.
    pub validation_fraction: f64,
    /// What of a file is a text.
    pub texts: Rules,
    /// Ids of a shard, but for the last.
    pub tokens_per_shard: u64,
    /// Whether documents that cannot be read were left out.
    pub skip_bad: bool,
}

/// A file that tokens were made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputFacts {
    /// As it was named.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// One part of the tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartFacts {
    /// Texts.
    pub documents: u64,
    /// Ids, separators among them.
    pub tokens: u64,
    /// Bytes of the texts.
    pub text_bytes: u64,
    /// The files, in order.
    pub shards: Vec<ShardFacts>,
}

/// A file of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardFacts {
    /// Its name in the folder.
    pub file: String,
    /// Ids in it.
    pub tokens: u64,
    /// Its size.
    pub bytes: u64,
    /// Hash of its bytes, as `sha256sum` prints it.
    pub sha256: String,
}

impl Manifest {
    /// The manifest of a folder, where it has one.
    ///
    /// # Errors
    /// One that is no manifest, is of another version, or names a file that is not in its folder.
    pub fn of(folder: &Path) -> Result<Option<Manifest>, DataError> {
        let path = folder.join(MANIFEST);
        let unreadable = |source| DataError::Unreadable { path: path.clone(), source };
        if !path.try_exists().map_err(unreadable)? {
            return Ok(None);
        }
        let refuse = |reason: String| DataError::Manifest { path: path.clone(), reason };
        let text = read_whole(&path, LARGEST_BYTES).map_err(unreadable)?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        manifest.check().map_err(refuse)?;
        Ok(Some(manifest))
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("is of the format `{}`, not `{FORMAT}`", self.format));
        }
        if self.version != VERSION {
            return Err(format!("is of version {}, where {VERSION} is known", self.version));
        }
        let shards = || self.training.shards.iter().chain(&self.validation.shards);
        if let Some(shard) = shards().find(|shard| !is_plain_name(&shard.file)) {
            return Err(format!("names `{}`, which is no file in its own folder", shard.file));
        }
        if shards().next().is_none() {
            return Err("names no shard".into());
        }
        for (name, part) in [("training", &self.training), ("validation", &self.validation)] {
            let sum = part.shards.iter().fold(0_u64, |sum, shard| sum.saturating_add(shard.tokens));
            if sum != part.tokens {
                return Err(format!("says {} tokens for {name}, but its shards have {sum}", part.tokens));
            }
        }
        Ok(())
    }

    /// That part's facts.
    pub fn part(&self, split: Split) -> &PartFacts {
        match split {
            Split::Training | Split::Both => &self.training,
            Split::Validation => &self.validation,
        }
    }
}

fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    // The comparison refuses `a/`, which has one component, too.
    matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        assert!(is_plain_name("train_00000.npy"));
        for outside in ["", ".", "..", "../a", "/etc/passwd", "a/b", "a/", "./a", "a/../b"] {
            assert!(!is_plain_name(outside), "{outside}");
        }
    }
}
