//! Any `tokenizer.json`, by the crate `tokenizers`. What the file says about special tokens in text, about cutting
//! off and about filling up is set aside: ids of the whole text, and of nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Encoder, Tokenizer, TokenizerError, TokenizerIdentity};

/// The largest that are in use, with a quarter of a million pieces, take some thirty MB.
const LARGEST_BYTES: u64 = 256 << 20;

/// The usual names of what stands between documents.
const SEPARATORS: [&str; 3] = ["<|endoftext|>", "<|end_of_text|>", "</s>"];

pub(super) struct FromFile {
    path: PathBuf,
    content: Vec<u8>,
    inner: tokenizers::Tokenizer,
    identity: TokenizerIdentity,
}

impl FromFile {
    pub(super) fn read(path: &Path) -> Result<FromFile, TokenizerError> {
        let not_one = |error: tokenizers::Error| TokenizerError::NotOne {
            path: path.into(),
            reason: error.to_string(),
        };
        let bytes =
            bytes_of(path).map_err(|source| TokenizerError::Unreadable { path: path.into(), source })?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(not_one)?;
        inner.with_truncation(None).map_err(not_one)?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(true);
        // Ids may have gaps, so they are not counted.
        let largest = inner.get_vocab(true).into_values().max();
        let vocabulary =
            largest.and_then(|largest| largest.checked_add(1)).ok_or_else(|| TokenizerError::NotOne {
                path: path.into(),
                reason: "its vocabulary is empty or too large".into(),
            })?;
        let identity = TokenizerIdentity {
            name: path.display().to_string(),
            sha256: format!("{:x}", Sha256::digest(&bytes)),
            vocabulary,
        };
        Ok(FromFile { path: path.into(), content: bytes, inner, identity })
    }
}

/// All of the file, which is small enough to be parsed in memory.
fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_BYTES {
        let reason =
            format!("it has more than {LARGEST_BYTES} bytes, which is the most that is read of a tokenizer");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

impl Tokenizer for FromFile {
    fn identity(&self) -> &TokenizerIdentity {
        &self.identity
    }

    fn separator(&self) -> Option<u32> {
        SEPARATORS.iter().find_map(|name| self.inner.token_to_id(name))
    }

    fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    fn encoder(&self) -> Box<dyn Encoder + '_> {
        Box::new(FileEncoder(self))
    }

    fn file(&self) -> Vec<u8> {
        self.content.clone()
    }

    fn decode(&self, ids: &[u32]) -> Option<Vec<u8>> {
        if ids.iter().any(|&id| self.inner.id_to_token(id).is_none()) {
            return None;
        }
        self.inner.decode(ids, false).ok().map(String::into_bytes)
    }
}

struct FileEncoder<'a>(&'a FromFile);

impl Encoder for FileEncoder<'_> {
    fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let FromFile { path, inner, .. } = self.0;
        let encoding = inner
            .encode_fast(text, false)
            .map_err(|error| TokenizerError::Text { path: path.clone(), reason: error.to_string() })?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}
