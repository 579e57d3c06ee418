//! Token ids of several files, one after the other, as one long list that is read by position. How the
//! list is cut into sequences is decided elsewhere.

use std::path::Path;
use std::sync::Arc;

use crate::DataError;
use crate::file::DataFile;

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
    width: Width,
    /// Where the piece's tokens begin.
    first_byte: u64,
    /// The first of them by the count of the file, for who is told where something is wrong.
    first_token: u64,
    tokens: u64,
    /// Where they stand in the stream.
    starts_at: u64,
}

/// How an id is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// One byte.
    Byte,
    /// Two, the lower first.
    Two,
    /// Four, the lowest first.
    Four,
}

impl Width {
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Width::Byte => 1,
            Width::Two => 2,
            Width::Four => 4,
        }
    }
}

/// A list of ids within a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) width: Width,
    pub(crate) first_byte: u64,
    pub(crate) tokens: u64,
}

impl TokenStream {
    /// An empty list, for a model with so many ids.
    pub(crate) fn new(vocabulary: usize) -> TokenStream {
        TokenStream { pieces: Vec::new(), tokens: 0, vocabulary }
    }

    /// Adds `tokens` bytes of a file, from byte `first` on.
    pub(crate) fn push_bytes(&mut self, file: Arc<DataFile>, first: u64, tokens: u64) {
        self.push(file, Ids { width: Width::Byte, first_byte: first, tokens }, first);
    }

    /// Adds a file's list of ids.
    pub(crate) fn push_ids(&mut self, file: Arc<DataFile>, ids: Ids) {
        self.push(file, ids, 0);
    }

    fn push(&mut self, file: Arc<DataFile>, ids: Ids, first_token: u64) {
        let Ids { width, first_byte, tokens } = ids;
        self.pieces.push(Piece { file, width, first_byte, first_token, tokens, starts_at: self.tokens });
        self.tokens += tokens;
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
        let already = ids.len();
        let mut bytes = vec![0; count * self.width.bytes() as usize];
        self.file.read_at(self.first_byte + self.width.bytes() * within, &mut bytes)?;
        match self.width {
            Width::Byte => ids.extend(bytes.iter().map(|&byte| u32::from(byte))),
            Width::Two => {
                let (pairs, _) = bytes.as_chunks();
                ids.extend(pairs.iter().map(|&pair| u32::from(u16::from_le_bytes(pair))));
            }
            Width::Four => {
                let (quadruples, _) = bytes.as_chunks();
                ids.extend(quadruples.iter().map(|&quadruple| u32::from_le_bytes(quadruple)));
            }
        }
        // Checked as it is read: a pass over all shards before the first step would take minutes.
        match ids[already..].iter().position(|&id| id as usize >= vocabulary) {
            None => Ok(()),
            Some(outside) => Err(DataError::OutsideVocabulary {
                path: self.file.path.clone(),
                position: self.first_token + within + outside as u64,
                id: ids[already + outside],
                vocabulary,
            }),
        }
    }
}
