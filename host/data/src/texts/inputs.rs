//! Which files are read, what they are by their names, and how they are cut into units.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::{TextError, parquet};
use crate::DataError;
use crate::file::{DataFile, Kind as Found, kind_of, wrong_kind};

/// Bytes of a unit of uncompressed JSON lines.
const UNIT_BYTES: u64 = 64 << 20;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Plain text in UTF-8.
    Text,
    /// A JSON object a line.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstandard,
}

/// A file of texts, and how to know it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) kind: Kind,
    pub(crate) compression: Compression,
    /// When it was written last, in nanoseconds; 0 where the system does not tell.
    pub(crate) modified: u128,
}

/// What is read in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// All of a file.
    Whole,
    /// The lines that begin within these bytes.
    Lines { first_byte: u64, end_byte: u64 },
    /// A row group of Parquet, by its number.
    RowGroup(usize),
}

/// The files that are named, and of folders named all that are of a known kind, or of the kind `all_are`.
pub(crate) fn inputs(named: &[PathBuf], all_are: Option<Kind>) -> Result<Vec<Input>, TextError> {
    let mut inputs = Vec::new();
    for path in named {
        match kind_of(path)? {
            Found::File => {
                let (kind, compression) = kind_by_name(path, all_are)
                    .ok_or_else(|| TextError::UnknownKind { path: path.clone() })?;
                inputs.push(Input::of(path, kind, compression)?);
            }
            Found::Folder => {
                let before = inputs.len();
                push_folder(path, all_are, &mut inputs)?;
                if inputs.len() == before {
                    return Err(TextError::NoTexts { folder: path.clone() });
                }
            }
            Found::Other => return Err(wrong_kind(path, Found::Other, "a file or a folder").into()),
        }
    }
    Ok(inputs)
}

/// A folder's files and those of the folders in it, in order of their names.
fn push_folder(folder: &Path, all_are: Option<Kind>, inputs: &mut Vec<Input>) -> Result<(), TextError> {
    let unreadable = |source| DataError::Unreadable { path: folder.into(), source };
    let entries =
        fs::read_dir(folder).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut entries: Vec<_> = entries.into_iter().map(|entry| (entry.path(), entry.file_type())).collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (path, kind) in entries {
        // Links are not followed into folders: one may lead back to where it stands.
        if kind.map_err(unreadable)?.is_dir() {
            push_folder(&path, all_are, inputs)?;
        } else if let Some((kind, compression)) = kind_by_name(&path, all_are)
            && kind_of(&path)? == Found::File
        {
            inputs.push(Input::of(&path, kind, compression)?);
        }
    }
    Ok(())
}

fn kind_by_name(path: &Path, all_are: Option<Kind>) -> Option<(Kind, Compression)> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let (stem, compression) = match name.rsplit_once('.') {
        Some((stem, "gz")) => (stem, Compression::Gzip),
        Some((stem, "zst")) => (stem, Compression::Zstandard),
        _ => (&*name, Compression::None),
    };
    let kind = all_are.or_else(|| match stem.rsplit_once('.')?.1 {
        "txt" | "text" => Some(Kind::Text),
        "jsonl" | "ndjson" => Some(Kind::JsonLines),
        "parquet" => Some(Kind::Parquet),
        _ => None,
    })?;
    // Parquet compresses by itself, and is read by position.
    (kind != Kind::Parquet || compression == Compression::None).then_some((kind, compression))
}

impl Input {
    fn of(path: &Path, kind: Kind, compression: Compression) -> Result<Input, TextError> {
        let file = DataFile::open(path)?;
        let modified = fs::metadata(path).and_then(|facts| facts.modified()).ok();
        let since_epoch = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
        Ok(Input {
            path: path.into(),
            bytes: file.bytes,
            kind,
            compression,
            modified: since_epoch.map_or(0, |duration| duration.as_nanos()),
        })
    }
}

/// The units of a file, always the same ones.
pub(crate) fn units(input: &Input) -> Result<Vec<Unit>, TextError> {
    match (input.kind, input.compression) {
        (Kind::Parquet, _) => Ok((0..parquet::row_groups(&input.path)?).map(Unit::RowGroup).collect()),
        (Kind::JsonLines, Compression::None) => {
            let firsts = (0..input.bytes).step_by(UNIT_BYTES as usize);
            let unit = |first_byte: u64| Unit::Lines {
                first_byte,
                end_byte: (first_byte + UNIT_BYTES).min(input.bytes),
            };
            Ok(firsts.map(unit).collect())
        }
        _ => Ok(vec![Unit::Whole]),
    }
}
