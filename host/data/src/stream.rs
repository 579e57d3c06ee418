//! Token ids of several files, one after the other, as one long list that is read by position. How the
//! list is cut into sequences is decided elsewhere.

use std::path::Path;
use std::sync::Arc;

use crate::DataError;
use crate::file::DataFile;
use crate::npy::NpyArray;

/// One long list of token ids.
#[derive(Debug)]
pub(crate) struct TokenStream {
    pieces: Vec<Piece>,
    tokens: u64,
    vocabulary: usize,
}

/// A stretch of a file.
#[derive(Debug)]
struct Piece {
    file: Arc<DataFile>,
    encoding: Encoding,
    /// Where the file's tokens begin.
    tokens_at_byte: u64,
    /// The first of the file's tokens that belongs to the stream.
    first_token: u64,
    /// How many belong to it.
    tokens: u64,
    /// Where they stand in the stream.
    starts_at: u64,
}

#[derive(Clone, Copy, Debug)]
enum Encoding {
    Byte,
    LittleEndian16,
}

impl TokenStream {
    /// An empty list, for a model with so many ids.
    pub(crate) fn new(vocabulary: usize) -> TokenStream {
        TokenStream { pieces: Vec::new(), tokens: 0, vocabulary }
    }

    /// Adds `tokens` bytes of a file, from byte `first` on.
    pub(crate) fn push_bytes(&mut self, file: Arc<DataFile>, first: u64, tokens: u64) {
        self.push(Piece {
            file,
            encoding: Encoding::Byte,
            tokens_at_byte: 0,
            first_token: first,
            tokens,
            starts_at: self.tokens,
        });
    }

    /// Adds all ids of an array.
    pub(crate) fn push_array(&mut self, file: Arc<DataFile>, array: &NpyArray) {
        self.push(Piece {
            file,
            encoding: Encoding::LittleEndian16,
            tokens_at_byte: array.first_byte,
            first_token: 0,
            tokens: array.numbers(),
            starts_at: self.tokens,
        });
    }

    fn push(&mut self, piece: Piece) {
        self.tokens += piece.tokens;
        self.pieces.push(piece);
    }

    /// Length of the list.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Its files, in words.
    pub(crate) fn place(&self) -> String {
        let name = |path: &Path| path.display().to_string();
        match &self.pieces[..] {
            [] => "no file".into(),
            [only] => name(&only.file.path),
            [first, .., last] => {
                format!(
                    "{} files, {} to {}",
                    self.pieces.len(),
                    name(&first.file.path),
                    name(&last.file.path)
                )
            }
        }
    }

    /// Appends the ids `start..start + count` to `ids`; the caller knows that they exist.
    pub(crate) fn read(&self, start: u64, count: usize, ids: &mut Vec<u32>) -> Result<(), DataError> {
        let mut start = start;
        let mut left = count as u64;
        let first = self.pieces.partition_point(|piece| piece.starts_at + piece.tokens <= start);
        for piece in &self.pieces[first..] {
            if left == 0 {
                break;
            }
            let within = start - piece.starts_at;
            let here = left.min(piece.tokens - within);
            piece.read(within, here as usize, self.vocabulary, ids)?;
            start += here;
            left -= here;
        }
        assert_eq!(left, 0, "windows are cut within the stream");
        Ok(())
    }
}

impl Piece {
    fn read(
        &self,
        within: u64,
        count: usize,
        vocabulary: usize,
        ids: &mut Vec<u32>,
    ) -> Result<(), DataError> {
        let token = self.first_token + within;
        let already = ids.len();
        match self.encoding {
            Encoding::Byte => {
                let mut bytes = vec![0; count];
                self.file.read_at(self.tokens_at_byte + token, &mut bytes)?;
                ids.extend(bytes.iter().map(|&byte| u32::from(byte)));
            }
            Encoding::LittleEndian16 => {
                let mut bytes = vec![0; 2 * count];
                self.file.read_at(self.tokens_at_byte + 2 * token, &mut bytes)?;
                let pairs = bytes.chunks_exact(2);
                ids.extend(pairs.map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]]))));
            }
        }
        // Checked as it is read: a pass over all shards before the first step would take minutes.
        match ids[already..].iter().position(|&id| id as usize >= vocabulary) {
            None => Ok(()),
            Some(outside) => Err(DataError::OutsideVocabulary {
                path: self.file.path.clone(),
                position: token + outside as u64,
                id: ids[already + outside],
                vocabulary,
            }),
        }
    }
}
