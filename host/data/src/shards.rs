//! Which files a list of shards names, and their ids as one stream: `.npy`, llm.c's `.bin`, raw ids, and folders with
//! a manifest. Each kind's header is read below; making shards is not done here.

pub(crate) mod bin;
pub(crate) mod manifest;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Format;
use crate::file::{DataFile, Kind, kind_of, wrong_kind};
use crate::npy::{self, NpyArray};
use crate::stream::{Ids, TokenStream, Width};
use crate::tokenizer::TokenizerIdentity;
use crate::{DataError, Split};
use manifest::{Manifest, ShardFacts};

const WANTED: &str = "a one-dimensional list of tokens";

/// The shards of one part of the data.
#[derive(Debug)]
pub(crate) struct Shards {
    pub(crate) stream: TokenStream,
    pub(crate) files: Vec<ShardFile>,
    /// What made the ids, where a manifest tells.
    pub(crate) tokenizer: Option<TokenizerIdentity>,
    /// Bytes of text behind all ids, where manifests tell of all of them.
    pub(crate) text_bytes: Option<u64>,
}

/// An opened shard.
#[derive(Clone, Debug)]
pub(crate) struct ShardFile {
    pub(crate) file: Arc<DataFile>,
    /// What it has to hash to, where a manifest tells.
    pub(crate) sha256: Option<String>,
}

impl ShardFile {
    /// Refuses content that hashes to something else than the manifest says.
    pub(crate) fn check_hash(&self, found: &str) -> Result<(), DataError> {
        match &self.sha256 {
            Some(wanted) if wanted != found => Err(DataError::NotOfTheManifest {
                path: self.file.path.clone(),
                reason: format!("has the sha256 {found}, but its manifest says {wanted}"),
            }),
            _ => Ok(()),
        }
    }
}

/// Opens every shard that the list names, in its order.
pub(crate) fn open_shards(
    split: Split,
    listed: &[PathBuf],
    format: Option<Format>,
    base: &Path,
    vocabulary: usize,
) -> Result<Shards, DataError> {
    let mut shards = Shards {
        stream: TokenStream::new(vocabulary),
        files: Vec::new(),
        tokenizer: None,
        text_bytes: Some(0),
    };
    for path in listed.iter().map(|path| base.join(path)) {
        match kind_of(&path)? {
            Kind::File => shards.push_unknown(path, format)?,
            Kind::Folder => match Manifest::of(&path)? {
                Some(manifest) => shards.push_manifest(&path, &manifest, split, vocabulary)?,
                None => {
                    for path in shards_in(&path, split)? {
                        shards.push_unknown(path, format)?;
                    }
                }
            },
            Kind::Other => return Err(wrong_kind(&path, Kind::Other, "a shard or a folder of shards")),
        }
    }
    Ok(shards)
}

/// Refuses a shard that is trained on and validated on, by whatever name.
pub(crate) fn check_apart<'a>(
    train: impl Iterator<Item = &'a ShardFile>,
    validation: impl Iterator<Item = &'a ShardFile>,
) -> Result<(), DataError> {
    let real_path = |shard: &ShardFile| {
        let path = &shard.file.path;
        fs::canonicalize(path).map_err(|source| DataError::Unreadable { path: path.clone(), source })
    };
    let trained = train.map(real_path).collect::<Result<BTreeSet<_>, _>>()?;
    for shard in validation {
        if trained.contains(&real_path(shard)?) {
            return Err(DataError::TrainedAndValidated { path: shard.file.path.clone() });
        }
    }
    Ok(())
}

/// The ids of a file, which says itself what it is, or is what `format` says.
pub(crate) fn ids_of(file: &DataFile, format: Option<Format>) -> Result<Ids, DataError> {
    match format {
        Some(Format::RawUint16) => bin::raw(file, Width::Two),
        Some(Format::RawUint32) => bin::raw(file, Width::Four),
        None if bin::begins_with(file, npy::MAGIC)? || has_extension(&file.path, "npy") => {
            Ok(NpyArray::find(file, 1, WANTED)?.ids())
        }
        None => bin::with_header(file),
    }
}

impl Shards {
    /// Adds a file of which nothing is known but what it says itself.
    fn push_unknown(&mut self, path: PathBuf, format: Option<Format>) -> Result<(), DataError> {
        let file = DataFile::open(&path)?;
        let ids = ids_of(&file, format)?;
        self.text_bytes = None;
        self.push(ShardFile { file, sha256: None }, ids);
        Ok(())
    }

    /// Adds that part of a folder that was made here.
    fn push_manifest(
        &mut self,
        folder: &Path,
        manifest: &Manifest,
        split: Split,
        vocabulary: usize,
    ) -> Result<(), DataError> {
        let path = || folder.join(manifest::MANIFEST);
        let tokenizer = &manifest.tokenizer;
        if tokenizer.vocabulary as usize > vocabulary {
            let (name, ids) = (tokenizer.name.clone(), tokenizer.vocabulary);
            return Err(DataError::TokenizerTooLarge { path: path(), name, ids, vocabulary });
        }
        if let Some(other) = self.tokenizer.replace(tokenizer.clone())
            && other.sha256 != tokenizer.sha256
        {
            let names = [other.name, tokenizer.name.clone()];
            return Err(DataError::TokenizersDiffer { place: path().display().to_string(), names });
        }
        let part = manifest.part(split);
        if part.shards.is_empty() {
            return Err(DataError::NoPart { path: path(), split });
        }
        for (file, ids) in open_part(folder, &part.shards)? {
            self.push(file, ids);
        }
        self.text_bytes = self.text_bytes.map(|bytes| bytes.saturating_add(part.text_bytes));
        Ok(())
    }

    fn push(&mut self, shard: ShardFile, ids: Ids) {
        self.stream.push_ids(shard.file.clone(), ids);
        self.files.push(shard);
    }
}

/// Shards of a folder, of the sizes that the manifest gives them.
pub(crate) fn open_part(folder: &Path, shards: &[ShardFacts]) -> Result<Vec<(ShardFile, Ids)>, DataError> {
    let mut opened = Vec::new();
    for facts in shards {
        let file = DataFile::open(&folder.join(&facts.file))?;
        let ids = ids_of(&file, None)?;
        if (ids.tokens, file.bytes) != (facts.tokens, facts.bytes) {
            return Err(DataError::NotOfTheManifest {
                path: file.path.clone(),
                reason: format!(
                    "holds {} tokens in {} bytes, but its manifest says {} in {}",
                    ids.tokens, file.bytes, facts.tokens, facts.bytes
                ),
            });
        }
        opened.push((ShardFile { file, sha256: Some(facts.sha256.clone()) }, ids));
    }
    Ok(opened)
}

/// The shards of that part in a folder without a manifest, in name order.
fn shards_in(folder: &Path, split: Split) -> Result<Vec<PathBuf>, DataError> {
    let (word, pattern) = match split {
        Split::Validation => ("val", "*val*.npy` or `*val*.bin"),
        Split::Training | Split::Both => ("train", "*train*.npy` or `*train*.bin"),
    };
    let unreadable = |source| DataError::Unreadable { path: folder.into(), source };
    let mut shards = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if (has_extension(&path, "npy") || has_extension(&path, "bin")) && stem(&path).contains(word) {
            shards.push(path);
        }
    }
    if shards.is_empty() {
        return Err(DataError::NoShards { folder: folder.into(), pattern });
    }
    // A folder lists its files in any order; a run must not depend on that.
    shards.sort_unstable();
    Ok(shards)
}

pub(crate) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension() == Some(OsStr::new(extension))
}

fn stem(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_stem().map(OsStr::to_string_lossy).unwrap_or_default()
}
