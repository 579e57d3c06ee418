//! From text to token ids and back, as far as sampling and suites need it. Vocabularies are somebody else's; bytes are
//! the one that needs none.

/// From text to token ids and back.
pub trait Tokenizer: Sync {
    /// The ids of a text.
    ///
    /// # Errors
    /// Why the text has none.
    fn encode(&self, text: &str) -> Result<Vec<u32>, String>;

    /// The bytes that an id stands for; they need be no UTF-8 by themselves. None of an id that is not there.
    fn bytes_of(&self, id: u32) -> Vec<u8>;
}

/// A token is a byte, its id the byte's value.
#[derive(Clone, Copy, Debug)]
pub struct Bytes;

impl Tokenizer for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        Ok(text.bytes().map(u32::from).collect())
    }

    fn bytes_of(&self, id: u32) -> Vec<u8> {
        u8::try_from(id).into_iter().collect()
    }
}
