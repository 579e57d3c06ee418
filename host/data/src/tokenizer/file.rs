//! Any `tokenizer.json`, by the crate `tokenizers`. What the file says about special tokens in text, about cutting
//! off and about filling up is set aside: ids of the whole text, and of nothing else.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Encoder, Tokenizer, TokenizerError, TokenizerIdentity};
use crate::contained::contained;
use crate::file::read_whole;

/// The largest that are in use, with a quarter of a million pieces, take some thirty MB.
const LARGEST_BYTES: u64 = 256 << 20;

/// The usual names of what stands between documents.
const SEPARATORS: [&str; 3] = ["<|endoftext|>", "<|end_of_text|>", "</s>"];

/// Of a piece of Unigram, of an added token, and of what a normalizer looks for or puts in; SentencePiece's pieces have 16 characters unless asked
/// otherwise.
const LONGEST_TEXT_BYTES: usize = 1024;

/// Steps of a kind in a row; each may double the length of a text (bytes written as characters, again and again).
const MOST_STEPS: usize = 10;

pub(super) struct FromFile {
    path: PathBuf,
    content: Vec<u8>,
    inner: tokenizers::Tokenizer,
    identity: TokenizerIdentity,
}

impl FromFile {
    pub(super) fn read(path: &Path) -> Result<FromFile, TokenizerError> {
        let not_one = |reason: String| TokenizerError::NotOne { path: path.into(), reason };
        let bytes = read_whole(path, LARGEST_BYTES)
            .map_err(|source| TokenizerError::Unreadable { path: path.into(), source })?;
        check_lengths(&bytes).map_err(not_one)?;
        let mut inner = asked(|| tokenizers::Tokenizer::from_bytes(&bytes)).map_err(not_one)?;
        inner.with_truncation(None).map_err(|error| not_one(error.to_string()))?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(true);
        // Ids may have gaps, so they are not counted.
        let largest = inner.get_vocab(true).into_values().max();
        let vocabulary = largest
            .and_then(|largest| largest.checked_add(1))
            .ok_or_else(|| not_one("its vocabulary is empty or too large".into()))?;
        let identity = TokenizerIdentity {
            name: path.display().to_string(),
            sha256: format!("{:x}", Sha256::digest(&bytes)),
            vocabulary,
        };
        Ok(FromFile { path: path.into(), content: bytes, inner, identity })
    }
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
        asked(|| self.inner.decode(ids, false)).ok().map(String::into_bytes)
    }
}

struct FileEncoder<'a>(&'a FromFile);

impl Encoder for FileEncoder<'_> {
    fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let FromFile { path, inner, .. } = self.0;
        let encoding = asked(|| inner.encode_fast(text, false))
            .map_err(|reason| TokenizerError::Text { path: path.clone(), reason })?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

/// What `tokenizers` answers, or what it says against it. On files that are JSON but no tokenizer of its own making it
/// panics here and there (0.22: decoders of odd keys, merges of pieces without a prefix); every file is read into
/// structures of its own, and nothing of a call that has panicked is kept.
fn asked<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    contained(call)?.map_err(|error| error.to_string())
}

/// Refuses texts that are longer than any tokenizer has them and that `tokenizers` does not bear. Pieces of Unigram are put
/// into a tree that is as deep as they are long, and taking that apart overflows the stack, which nothing can contain;
/// what a normalizer puts into a text, and an added token, costs the square of its length (0.22).
fn check_lengths(file: &[u8]) -> Result<(), String> {
    // What is no JSON at all is told by its reader.
    let Ok(file) = serde_json::from_slice::<Value>(file) else { return Ok(()) };
    let pieces = file.pointer("/model/vocab").and_then(Value::as_array).into_iter().flatten();
    let pieces = pieces.filter_map(|piece| Some(piece.get(0)?.as_str()?.len()));
    let others = ["added_tokens", "normalizer"].map(|name| file.get(name).map_or(0, longest_text));
    let longest = pieces.chain(others).max().unwrap_or(0);
    let lists = ["/normalizer/normalizers", "/pre_tokenizer/pretokenizers", "/decoder/decoders"];
    let steps =
        lists.iter().filter_map(|list| Some(file.pointer(list)?.as_array()?.len())).max().unwrap_or(0);
    if steps > MOST_STEPS {
        return Err(format!("it has {steps} steps in a row, the limit is {MOST_STEPS}"));
    }
    if longest > LONGEST_TEXT_BYTES {
        return Err(format!("it has a text of {longest} bytes, the limit is {LONGEST_TEXT_BYTES}"));
    }
    Ok(())
}

/// Of all texts in a value, but for a table that is one.
fn longest_text(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(longest_text).max().unwrap_or(0),
        Value::Object(fields) => {
            let texts = fields.iter().filter(|(name, _)| *name != "precompiled_charsmap");
            texts.map(|(_, value)| longest_text(value)).max().unwrap_or(0)
        }
        _ => 0,
    }
}
