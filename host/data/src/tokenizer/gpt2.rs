//! GPT-2's byte-pair encoding, with the vocabulary that `tiktoken-rs` carries. The crate `bpe` finds the pairs, in
//! time that grows with a word's length and no faster; in front of it stands a memory of short words.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bpe::byte_pair_encoding::BytePairEncoding;
use sha2::{Digest, Sha256};

use super::split::Splitter;
use super::{Encoder, Tokenizer, TokenizerError, TokenizerIdentity, json};

const END_OF_TEXT: u32 = 50_256;
const END_OF_TEXT_NAME: &str = "<|endoftext|>";

pub(super) struct Gpt2 {
    pairs: BytePairEncoding,
    splitter: Splitter,
    identity: TokenizerIdentity,
}

impl Gpt2 {
    pub(super) fn new() -> Gpt2 {
        let carried = tiktoken_rs::r50k_base().expect("the vocabulary is a part of the binary");
        let bytes_of = |id| carried.decode_bytes(&[id]).expect("ids below 50256 have bytes");
        let tokens: Vec<Vec<u8>> = (0..END_OF_TEXT).map(bytes_of).collect();
        let mut hash = Sha256::new();
        for (rank, token) in tokens.iter().enumerate() {
            hash.update(format!("{} {rank}\n", STANDARD.encode(token)));
        }
        let sha256 = format!("{:x}", hash.finalize());
        Gpt2 {
            pairs: BytePairEncoding::from_dictionary(tokens, None),
            splitter: Splitter::new(),
            identity: TokenizerIdentity { name: "gpt2".into(), sha256, vocabulary: END_OF_TEXT + 1 },
        }
    }
}

impl Tokenizer for Gpt2 {
    fn identity(&self) -> &TokenizerIdentity {
        &self.identity
    }

    fn separator(&self) -> Option<u32> {
        Some(END_OF_TEXT)
    }

    fn id_of(&self, token: &str) -> Option<u32> {
        if token == END_OF_TEXT_NAME {
            return Some(END_OF_TEXT);
        }
        let mut ids = self.pairs.encode_via_backtracking(token.as_bytes());
        ids.pop().filter(|_| ids.is_empty())
    }

    fn encoder(&self) -> Box<dyn Encoder + '_> {
        Box::new(WordEncoder { gpt2: self, known: vec![Known::NONE; 1 << SLOTS_LOG2].into_boxed_slice() })
    }

    fn file(&self) -> Vec<u8> {
        let tokens: Vec<Vec<u8>> = (0..END_OF_TEXT).map(|id| self.pairs.token_bytes(id).to_vec()).collect();
        json::of_byte_pairs(&tokens, END_OF_TEXT_NAME).to_string().into_bytes()
    }

    fn decode(&self, ids: &[u32]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(4 * ids.len());
        for &id in ids {
            match id {
                0..END_OF_TEXT => bytes.extend_from_slice(self.pairs.token_bytes(id)),
                END_OF_TEXT => bytes.extend_from_slice(END_OF_TEXT_NAME.as_bytes()),
                _ => return None,
            }
        }
        Some(bytes)
    }
}

/// One thread's encoder.
struct WordEncoder<'a> {
    gpt2: &'a Gpt2,
    /// By a word's hash; who comes later stays.
    known: Box<[Known]>,
}

/// 2 MiB: what a core has for itself.
const SLOTS_LOG2: u32 = 16;
const LONGEST_KNOWN: usize = 15;
const MOST_IDS: usize = 7;

/// A word of up to 15 bytes and its ids: 32 bytes.
#[derive(Clone, Copy)]
struct Known {
    word: u128,
    ids: [u16; MOST_IDS],
    count: u8,
}

impl Known {
    /// No word is 0: the highest byte is its length.
    const NONE: Known = Known { word: 0, ids: [0; MOST_IDS], count: 0 };
}

impl Encoder for WordEncoder<'_> {
    fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        ids.reserve(text.len() / 4);
        let mut start = 0;
        while start < text.len() {
            let end = self.gpt2.splitter.word_end(text, start);
            if end - start <= LONGEST_KNOWN {
                self.encode_short(text.as_bytes(), start, end, ids);
            } else {
                ids.extend(self.gpt2.pairs.encode_via_backtracking(&text.as_bytes()[start..end]));
            }
            start = end;
        }
        Ok(())
    }
}

impl WordEncoder<'_> {
    #[inline]
    fn encode_short(&mut self, text: &[u8], start: usize, end: usize, ids: &mut Vec<u32>) {
        let word = packed(text, start, end);
        let slot = &mut self.known[slot_of(word)];
        if slot.word == word {
            ids.extend(slot.ids[..slot.count as usize].iter().map(|&id| u32::from(id)));
            return;
        }
        let found = self.gpt2.pairs.encode_via_backtracking(&text[start..end]);
        if found.len() <= MOST_IDS {
            *slot = Known { word, ids: [0; MOST_IDS], count: found.len() as u8 };
            slot.ids.iter_mut().zip(&found).for_each(|(kept, &id)| *kept = id as u16);
        }
        ids.extend(found);
    }
}

/// A word's bytes, and its length in the highest one.
#[inline]
fn packed(text: &[u8], start: usize, end: usize) -> u128 {
    let length = end - start;
    let word = match text.get(start..start + 16).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => u128::from_le_bytes(*bytes) & (u128::MAX >> (128 - 8 * length)),
        None => {
            let mut bytes = [0; 16];
            bytes[..length].copy_from_slice(&text[start..end]);
            u128::from_le_bytes(bytes)
        }
    };
    word | (length as u128) << 120
}

#[inline]
fn slot_of(word: u128) -> usize {
    let (low, high) = (word as u64, (word >> 64) as u64);
    let mixed = (low ^ high.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> (64 - SLOTS_LOG2)) as usize
}
