//! The header of a `.npy` file: which array it holds and where that begins. Only what numpy writes for
//! an array of uint16 or uint32 is taken; reading the array is the stream's.
//!
//! Format: `\x93NUMPY`, version (2 bytes), length of the text (2 bytes, from version 2.0 on 4), the text,
//! a Python dict: `{'descr': '<u2', 'fortran_order': False, 'shape': (40, 4, 65), }`.

use crate::DataError;
use crate::file::DataFile;
use crate::stream::{Ids, Width};

/// The limit that numpy itself sets; no allocation depends on what a header claims beyond it.
const LONGEST_HEADER: u64 = 10_000;
pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// What is wrong with an `.npy` file. Reads on after the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NpyFault {
    /// It begins otherwise.
    #[error("is not an .npy file: it does not begin with \\x93NUMPY")]
    Magic,
    /// A version of the format that numpy does not write.
    #[error("is an .npy file of version {0}, which this program does not read")]
    Version(u8),
    /// The header ends early, is too long, or is not a dict as numpy writes it.
    #[error("has an .npy header that cannot be read: {0}")]
    Header(String),
    /// Another type of number.
    #[error("holds numbers of type {0}, neither little-endian uint16 ('<u2') nor uint32 ('<u4')")]
    Dtype(String),
    /// Another number of dimensions.
    #[error("holds an array of shape {shape:?}, not {wanted}")]
    Rank {
        /// Its shape.
        shape: Vec<u64>,
        /// What was wanted, in words.
        wanted: &'static str,
    },
    /// Column-major.
    #[error("holds its array in Fortran order")]
    FortranOrder,
    /// A dimension is zero.
    #[error("holds an empty array, of shape {0:?}")]
    NoNumbers(Vec<u64>),
    /// The array ends before or after the file does.
    #[error("has {bytes} bytes, but its header, with shape {shape:?}, makes it {expected}")]
    Length {
        /// Its shape.
        shape: Vec<u64>,
        /// Its bytes.
        bytes: u64,
        /// Bytes by its header.
        expected: u128,
    },
}

impl NpyFault {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            NpyFault::Magic => "write it with `numpy.save`, or name another file".into(),
            NpyFault::Version(_) | NpyFault::Header(_) => "write it again with `numpy.save`".into(),
            NpyFault::Dtype(_) => {
                "convert it: `numpy.save(path, tokens.astype('<u2'))`, or '<u4' where ids exceed 65535".into()
            }
            NpyFault::Rank { wanted, .. } => format!("write {wanted}"),
            NpyFault::FortranOrder => {
                "convert it: `numpy.save(path, numpy.ascontiguousarray(tokens))`".into()
            }
            NpyFault::NoNumbers(_) => "was it written to the end? write it again".into(),
            NpyFault::Length { .. } => "it was cut off or added to; write or copy it again".into(),
        }
    }
}

/// An array in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NpyArray {
    pub(crate) shape: Vec<u64>,
    pub(crate) first_byte: u64,
    pub(crate) width: Width,
}

impl NpyArray {
    /// All that is in it, as a list.
    pub(crate) fn ids(&self) -> Ids {
        let tokens = self.shape.iter().product();
        Ids { width: self.width, first_byte: self.first_byte, tokens }
    }

    /// Checks the header against the file. `wanted` says what rank `rank` means to the reader.
    pub(crate) fn find(file: &DataFile, rank: usize, wanted: &'static str) -> Result<NpyArray, DataError> {
        let fault = |fault| DataError::Npy { path: file.path.clone(), fault };
        let (text, first_byte) = read_header(file)?;
        let (shape, width) = check_header(&text, rank, wanted).map_err(fault)?;
        // u128: a header may claim any shape, and is believed only if the file is as long as it says.
        let numbers = shape.iter().try_fold(1_u128, |product, &n| product.checked_mul(n.into()));
        let expected = numbers
            .and_then(|numbers| numbers.checked_mul(width.bytes().into())?.checked_add(first_byte.into()))
            .unwrap_or(u128::MAX);
        if expected != u128::from(file.bytes) {
            return Err(fault(NpyFault::Length { shape, bytes: file.bytes, expected }));
        }
        Ok(NpyArray { shape, first_byte, width })
    }
}

/// The header of a list of so many ids: 128 bytes, as numpy writes it, whatever the count.
pub(crate) fn header(width: Width, tokens: u64) -> Vec<u8> {
    let descr = match width {
        Width::Byte => "|u1",
        Width::Two => "<u2",
        Width::Four => "<u4",
    };
    let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({tokens},), }}");
    let mut bytes = [MAGIC, &[1, 0], &118_u16.to_le_bytes()].concat();
    bytes.extend(format!("{dict:<117}\n").into_bytes());
    bytes
}

/// The dict, and where the array begins.
fn read_header(file: &DataFile) -> Result<(String, u64), DataError> {
    let fault = |fault| DataError::Npy { path: file.path.clone(), fault };
    let cut_off = || fault(NpyFault::Header("the file ends within it".into()));
    let mut start = [0; 12];
    let there = file.bytes.min(12) as usize;
    file.read_at(0, &mut start[..there])?;
    if !start[..there].starts_with(MAGIC) {
        return Err(fault(NpyFault::Magic));
    }
    if there < 12 {
        return Err(cut_off());
    }
    let (text_at, length) = match start[6] {
        1 => (10_u64, u64::from(u16::from_le_bytes([start[8], start[9]]))),
        2 | 3 => (12, u64::from(u32::from_le_bytes([start[8], start[9], start[10], start[11]]))),
        version => return Err(fault(NpyFault::Version(version))),
    };
    if length > LONGEST_HEADER {
        return Err(fault(NpyFault::Header(format!(
            "it claims {length} bytes, the limit is {LONGEST_HEADER}"
        ))));
    }
    if text_at + length > file.bytes {
        return Err(cut_off());
    }
    let mut text = vec![0; length as usize];
    file.read_at(text_at, &mut text)?;
    let text = String::from_utf8(text).map_err(|_| fault(NpyFault::Header("it is not text".into())))?;
    Ok((text, text_at + length))
}

fn check_header(text: &str, rank: usize, wanted: &'static str) -> Result<(Vec<u64>, Width), NpyFault> {
    let width = match word(value_of(text, "descr")?) {
        "'<u2'" | "\"<u2\"" => Width::Two,
        "'<u4'" | "\"<u4\"" => Width::Four,
        other => return Err(NpyFault::Dtype(other.into())),
    };
    let shape = read_shape(value_of(text, "shape")?)?;
    if shape.len() != rank {
        return Err(NpyFault::Rank { shape, wanted });
    }
    match word(value_of(text, "fortran_order")?) {
        "False" => {}
        // With one dimension the two orders are the same.
        "True" if rank == 1 => {}
        "True" => return Err(NpyFault::FortranOrder),
        other => return Err(NpyFault::Header(format!("`fortran_order` is {other}"))),
    }
    if shape.contains(&0) {
        return Err(NpyFault::NoNumbers(shape));
    }
    Ok((shape, width))
}

/// What follows `'key':` in the dict.
fn value_of<'a>(text: &'a str, key: &str) -> Result<&'a str, NpyFault> {
    ['\'', '"']
        .iter()
        .find_map(|quote| text.split_once(&format!("{quote}{key}{quote}")))
        .and_then(|(_, after)| after.trim_start().strip_prefix(':'))
        .map(str::trim_start)
        .ok_or_else(|| NpyFault::Header(format!("`{key}` is missing")))
}

/// A value that is one word, up to the next comma or the end of the dict.
fn word(text: &str) -> &str {
    text.split([',', '}']).next().unwrap_or(text).trim()
}

fn read_shape(text: &str) -> Result<Vec<u64>, NpyFault> {
    let bad = || NpyFault::Header("`shape` is not a tuple of numbers".into());
    let (inside, _) = text.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or_else(bad)?;
    let numbers = inside.split(',').map(str::trim).filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().map_err(|_| bad())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &str = "a list of tokens";
    const GOOD: &str = "{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }";

    fn with_header(version: u8, header: &str, numbers: usize) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; 2 * numbers]);
        bytes
    }

    fn find(bytes: &[u8], rank: usize) -> Result<NpyArray, NpyFault> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("shard.npy");
        std::fs::write(&path, bytes).expect("room on the disk");
        let file = DataFile::open(&path).expect("a file with content");
        NpyArray::find(&file, rank, WANTED).map_err(|error| match error {
            DataError::Npy { path: named, fault } if named == path => fault,
            other => panic!("{other}"),
        })
    }

    fn refused(header: &str) -> NpyFault {
        find(&with_header(1, header, 3), 1).expect_err("must be refused")
    }

    #[test]
    fn all_versions_of_numpy_are_read() {
        let length = GOOD.len() as u64;
        for (version, first_byte) in [(1, 10 + length), (2, 12 + length), (3, 12 + length)] {
            let array = find(&with_header(version, GOOD, 3), 1).expect("numpy writes this");
            assert_eq!(array, NpyArray { shape: vec![3], first_byte, width: Width::Two });
        }
        assert_eq!(find(&with_header(9, GOOD, 3), 1), Err(NpyFault::Version(9)));
    }

    #[test]
    fn wide_numbers_are_read() {
        let wide = GOOD.replace("<u2", "<u4");
        let ids = find(&with_header(1, &wide, 6), 1).map(|array| array.ids());
        let first_byte = 10 + wide.len() as u64;
        assert_eq!(ids, Ok(Ids { width: Width::Four, first_byte, tokens: 3 }));
        let length =
            NpyFault::Length { shape: vec![3], bytes: first_byte + 6, expected: u128::from(first_byte) + 12 };
        assert_eq!(find(&with_header(1, &wide, 3), 1), Err(length));
    }

    #[test]
    fn what_is_no_npy_file_is_refused() {
        assert_eq!(find(b"PK\x03\x04 and so on", 1), Err(NpyFault::Magic));
        assert_eq!(find(b"x", 1), Err(NpyFault::Magic));
        let cut_off = || NpyFault::Header("the file ends within it".into());
        assert_eq!(find(&with_header(1, GOOD, 3)[..9], 1), Err(cut_off()));
        assert_eq!(find(&with_header(1, GOOD, 3)[..40], 1), Err(cut_off()));
    }

    #[test]
    fn a_header_that_claims_too_much_is_refused_before_it_is_read() {
        let mut bytes = with_header(2, GOOD, 3);
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let fault = find(&bytes, 1).expect_err("4 GiB of header");
        assert_eq!(fault, NpyFault::Header("it claims 4294967295 bytes, the limit is 10000".into()));
    }

    #[test]
    fn other_types_ranks_and_orders_are_refused() {
        assert_eq!(refused(&GOOD.replace("<u2", "<i4")), NpyFault::Dtype("'<i4'".into()));
        assert_eq!(refused(&GOOD.replace("<u2", ">u2")), NpyFault::Dtype("'>u2'".into()));
        let rank = |shape: &[u64]| NpyFault::Rank { shape: shape.into(), wanted: WANTED };
        assert_eq!(refused(&GOOD.replace("(3,)", "(3, 1)")), rank(&[3, 1]));
        assert_eq!(refused(&GOOD.replace("(3,)", "()")), rank(&[]));
        assert_eq!(refused(&GOOD.replace("(3,)", "(0,)")), NpyFault::NoNumbers(vec![0]));
        let column_major = GOOD.replace("False", "True").replace("(3,)", "(3, 1)");
        assert_eq!(find(&with_header(1, &column_major, 3), 2), Err(NpyFault::FortranOrder));
        assert_eq!(
            refused(&GOOD.replace("(3,)", "(-3,)")),
            NpyFault::Header("`shape` is not a tuple of numbers".into())
        );
        assert_eq!(refused(&GOOD.replace("shape", "form")), NpyFault::Header("`shape` is missing".into()));
    }

    #[test]
    fn the_file_has_to_be_as_long_as_its_header_says() {
        let bytes = with_header(1, GOOD, 3);
        let expected = bytes.len() as u128;
        let length = |bytes: usize| NpyFault::Length { shape: vec![3], bytes: bytes as u64, expected };
        assert_eq!(find(&bytes[..bytes.len() - 1], 1), Err(length(bytes.len() - 1)));
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(find(&longer, 1), Err(length(bytes.len() + 1)));
    }

    #[test]
    fn a_shape_that_overflows_is_refused() {
        let huge = GOOD.replace("(3,)", &format!("({0}, {0}, {0})", u64::MAX));
        let fault = find(&with_header(1, &huge, 3), 3).expect_err("more than any file");
        assert!(matches!(fault, NpyFault::Length { expected: u128::MAX, .. }), "{fault}");
    }
}
