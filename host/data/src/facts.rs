//! What a corpus is, for the record: sizes, files and hashes. Nothing here is needed to read it.

use std::fmt;
use std::path::PathBuf;

use engine::Tokens;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::file::DataFile;
use crate::shards::ShardFile;
use crate::tokenizer::TokenizerIdentity;

const READ_AT_ONCE: usize = 1 << 20;

/// What a corpus is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorpusFacts {
    /// Token ids in the training part.
    pub train_tokens: Tokens,
    /// Token ids in the validation part.
    pub validation_tokens: Tokens,
    /// Targets that one epoch trains on: less than `train_tokens` by what no window fits into. Of a mixture, those
    /// until the first part is used up; of recorded batches, all there are.
    pub epoch_tokens: Tokens,
    /// Hash of all content: SHA-256 of one line `SPLIT FILE_SHA256\n` a file, in order. Where the files
    /// stand, and what they are called, does not change it.
    pub sha256: String,
    /// Bytes of text behind a token, to convert nats per token; `None` where the data does not say.
    pub bytes_per_token: Option<f64>,
    /// What made the ids; `None` where the data does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerIdentity>,
    /// The files, those for training first.
    pub files: Vec<FileFacts>,
}

/// What a file of a corpus is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Where it stands.
    pub path: PathBuf,
    /// What it is for.
    pub split: Split,
    /// Its size.
    pub bytes: u64,
    /// Hash of its bytes, as `sha256sum` prints it.
    pub sha256: String,
}

/// What a part of the data is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Training.
    Training,
    /// Validation.
    Validation,
    /// A file whose beginning is for training and whose end is for validation.
    Both,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Training => "training",
            Split::Validation => "validation",
            Split::Both => "both",
        })
    }
}

/// Reads all files to the end.
pub(crate) fn hash_files(files: &[(Split, ShardFile)]) -> Result<(String, Vec<FileFacts>), DataError> {
    let mut all = Sha256::new();
    let mut facts = Vec::new();
    for (split, shard) in files {
        let file = &shard.file;
        let sha256 = hash_file(file)?;
        shard.check_hash(&sha256)?;
        all.update(format!("{split} {sha256}\n"));
        facts.push(FileFacts { path: file.path.clone(), split: *split, bytes: file.bytes, sha256 });
    }
    Ok((format!("{:x}", all.finalize()), facts))
}

pub(crate) fn hash_file(file: &DataFile) -> Result<String, DataError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_AT_ONCE];
    let mut at = 0;
    while at < file.bytes {
        let here = (file.bytes - at).min(READ_AT_ONCE as u64) as usize;
        file.read_at(at, &mut buffer[..here])?;
        hash.update(&buffer[..here]);
        at += here as u64;
    }
    Ok(format!("{:x}", hash.finalize()))
}
