//! Token files that end in `.bin`: llm.c's and modded-nanogpt's, which begin with 256 int32 (magic, version, count
//! of tokens), and nanoGPT's, which are nothing but ids. The latter cannot be told from any other file, so they are
//! read as such only where the configuration says so.

use crate::DataError;
use crate::file::DataFile;
use crate::npy;
use crate::stream::{Ids, Width};

/// llm.c's header.
const HEADER_BYTES: u64 = 256 * 4;
/// Magic and version of its files, and how wide their ids are: GPT-2's, and from its LLaMA 3 branch.
const KNOWN: [(u32, u32, Width); 2] = [(20_240_520, 1, Width::Two), (20_240_801, 7, Width::Four)];

/// What is wrong with a `.bin` file. Reads on after the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinFault {
    /// Neither numpy's nor llm.c's, and nobody said that it is raw.
    #[error("begins neither as an .npy file nor as llm.c's .bin")]
    Unknown,
    /// llm.c's, of a version that it did not have when this was written.
    #[error("is llm.c's .bin of version {version}, where {known} is known")]
    Version {
        /// Its version.
        version: u32,
        /// The one that is read.
        known: u32,
    },
    /// The list ends before or after the file does.
    #[error("has {bytes} bytes, but its header, with {tokens} tokens of {width} bytes, makes it {expected}")]
    Length {
        /// Tokens by the header.
        tokens: u32,
        /// Bytes of an id.
        width: u64,
        /// Its bytes.
        bytes: u64,
        /// Bytes by its header.
        expected: u64,
    },
    /// A header and nothing else.
    #[error("holds no token")]
    NoTokens,
    /// Said to be raw, but it has a header.
    #[error("begins with the header of {0}, though `data.format` says that it has none")]
    HasHeader(&'static str),
    /// Half an id at the end.
    #[error("has {bytes} bytes, which is no whole number of ids of {width} bytes")]
    HalfAnId {
        /// Its bytes.
        bytes: u64,
        /// Bytes of an id.
        width: u64,
    },
}

impl BinFault {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            BinFault::Unknown => {
                "if it is ids and nothing else, as nanoGPT writes them: `format = \"raw-uint16\"` in `[data]`"
                    .into()
            }
            BinFault::Version { known, .. } => format!("write it again with version {known}"),
            BinFault::Length { .. } | BinFault::HalfAnId { .. } => {
                "it was cut off or added to; write or copy it again".into()
            }
            BinFault::NoTokens => "was it written to the end? write it again".into(),
            BinFault::HasHeader(_) => "leave `data.format` out: the file says what it is".into(),
        }
    }
}

/// The ids of llm.c's files.
pub(super) fn with_header(file: &DataFile) -> Result<Ids, DataError> {
    let fault = |fault| DataError::Bin { path: file.path.clone(), fault };
    let [magic, version, tokens] = first_words(file)?.ok_or_else(|| fault(BinFault::Unknown))?;
    let (_, known, width) =
        KNOWN.into_iter().find(|&(known, ..)| known == magic).ok_or_else(|| fault(BinFault::Unknown))?;
    if version != known {
        return Err(fault(BinFault::Version { version, known }));
    }
    let expected = HEADER_BYTES + u64::from(tokens) * width.bytes();
    if expected != file.bytes {
        return Err(fault(BinFault::Length { tokens, width: width.bytes(), bytes: file.bytes, expected }));
    }
    if tokens == 0 {
        return Err(fault(BinFault::NoTokens));
    }
    Ok(Ids { width, first_byte: HEADER_BYTES, tokens: tokens.into() })
}

/// The ids of a file that is nothing else.
pub(super) fn raw(file: &DataFile, width: Width) -> Result<Ids, DataError> {
    let fault = |fault| DataError::Bin { path: file.path.clone(), fault };
    if begins_with(file, npy::MAGIC)? {
        return Err(fault(BinFault::HasHeader("an .npy file")));
    }
    if first_words(file)?.is_some_and(|[magic, ..]| KNOWN.iter().any(|&(known, ..)| known == magic)) {
        return Err(fault(BinFault::HasHeader("llm.c's .bin")));
    }
    if !file.bytes.is_multiple_of(width.bytes()) {
        return Err(fault(BinFault::HalfAnId { bytes: file.bytes, width: width.bytes() }));
    }
    Ok(Ids { width, first_byte: 0, tokens: file.bytes / width.bytes() })
}

pub(super) fn begins_with(file: &DataFile, magic: &[u8]) -> Result<bool, DataError> {
    let mut start = vec![0; magic.len().min(file.bytes as usize)];
    file.read_at(0, &mut start)?;
    Ok(start == magic)
}

/// The first three words of a file that is long enough for llm.c's header.
fn first_words(file: &DataFile) -> Result<Option<[u32; 3]>, DataError> {
    if file.bytes < HEADER_BYTES {
        return Ok(None);
    }
    let mut start = [0; 12];
    file.read_at(0, &mut start)?;
    let (words, _) = start.as_chunks();
    Ok(Some([0, 1, 2].map(|word| u32::from_le_bytes(words[word]))))
}
