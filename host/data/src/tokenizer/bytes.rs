//! Every byte is a token; its value is the id.

use sha2::{Digest, Sha256};

use super::{Encoder, Tokenizer, TokenizerError, TokenizerIdentity, json};

/// No vocabulary but the byte's value.
pub(super) struct Bytes {
    identity: TokenizerIdentity,
}

impl Bytes {
    pub(super) fn new() -> Bytes {
        let every_byte: Vec<u8> = (0..=u8::MAX).collect();
        let sha256 = format!("{:x}", Sha256::digest(every_byte));
        Bytes { identity: TokenizerIdentity { name: "bytes".into(), sha256, vocabulary: 256 } }
    }
}

impl Tokenizer for Bytes {
    fn identity(&self) -> &TokenizerIdentity {
        &self.identity
    }

    fn separator(&self) -> Option<u32> {
        None
    }

    fn id_of(&self, token: &str) -> Option<u32> {
        match token.as_bytes() {
            [only] => Some(u32::from(*only)),
            _ => None,
        }
    }

    fn encoder(&self) -> Box<dyn Encoder + '_> {
        Box::new(ByteEncoder)
    }

    fn file(&self) -> Vec<u8> {
        json::of_bytes().to_string().into_bytes()
    }

    fn decode(&self, ids: &[u32]) -> Option<Vec<u8>> {
        ids.iter().map(|&id| u8::try_from(id).ok()).collect()
    }
}

struct ByteEncoder;

impl Encoder for ByteEncoder {
    fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        ids.extend(text.bytes().map(u32::from));
        Ok(())
    }
}
