//! Files of token ids looked at from outside a run: what they are, whether they are whole, and what stands at a
//! place. What a run reads of them is decided elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::config::Format;
use crate::facts::hash_file;
use crate::file::{DataFile, Kind, kind_of, wrong_kind};
use crate::shards::manifest::Manifest;
use crate::shards::{ShardFile, has_extension, ids_of, open_part};
use crate::stream::{Ids, TokenStream};
use crate::{DataError, Split};

/// Ids that are read at once.
const IDS_AT_ONCE: usize = 1 << 20;

/// Files of token ids: one, or those of a folder.
#[derive(Debug)]
pub struct TokenFiles {
    /// Of the folder, where it has one.
    pub manifest: Option<Manifest>,
    files: Vec<(Option<Split>, PathBuf, Opened)>,
}

/// A file that could be opened, or why not.
type Opened = Result<(ShardFile, Ids), DataError>;

/// What a file of token ids is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenFileFacts {
    /// The file.
    pub path: PathBuf,
    /// What it is for, where a manifest says so.
    pub split: Option<Split>,
    /// Ids in it.
    pub tokens: u64,
    /// Bytes of an id.
    pub bytes_per_id: u64,
    /// Its size.
    pub bytes: u64,
}

/// What came of reading a file to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The file.
    pub path: PathBuf,
    /// Ids in it; 0 where it cannot be opened.
    pub tokens: u64,
    /// The largest of them.
    pub largest_id: Option<u32>,
    /// What is wrong with it.
    pub damage: Option<String>,
}

/// A stretch of ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// The file.
    pub path: PathBuf,
    /// The first of them, counted from 0.
    pub first_token: u64,
    /// The ids.
    pub ids: Vec<u32>,
}

impl TokenFiles {
    /// A file, or all of a folder: those that its manifest names, or all whose names end in `.npy` or `.bin`.
    ///
    /// # Errors
    /// Nothing there, a manifest that is none, a folder without such a file. What is wrong with a single file is told
    /// where it is looked at.
    pub fn at(path: &Path, format: Option<Format>) -> Result<TokenFiles, DataError> {
        let opened = |path: &Path| {
            let file = DataFile::open(path)?;
            let ids = ids_of(&file, format)?;
            Ok((ShardFile { file, sha256: None }, ids))
        };
        match kind_of(path)? {
            Kind::File => Ok(TokenFiles { manifest: None, files: vec![(None, path.into(), opened(path))] }),
            Kind::Other => Err(wrong_kind(path, Kind::Other, "a file of tokens or a folder of such files")),
            Kind::Folder => match Manifest::of(path)? {
                Some(manifest) => {
                    Ok(TokenFiles { files: of_manifest(path, &manifest), manifest: Some(manifest) })
                }
                None => {
                    let paths = token_files_in(path)?;
                    let files = paths.into_iter().map(|path| (None, path.clone(), opened(&path)));
                    Ok(TokenFiles { manifest: None, files: files.collect() })
                }
            },
        }
    }

    /// What each file is, by its header.
    ///
    /// # Errors
    /// The first file that is none.
    pub fn facts(self) -> Result<Vec<TokenFileFacts>, DataError> {
        let facts = |(split, path, opened): (Option<Split>, PathBuf, Opened)| {
            let (shard, ids) = opened?;
            Ok(TokenFileFacts {
                path,
                split,
                tokens: ids.tokens,
                bytes_per_id: ids.width.bytes(),
                bytes: shard.file.bytes,
            })
        };
        self.files.into_iter().map(facts).collect()
    }

    /// Bytes of all files that can be opened.
    pub fn bytes(&self) -> u64 {
        self.files
            .iter()
            .filter_map(|(.., opened)| opened.as_ref().ok())
            .map(|(shard, _)| shard.file.bytes)
            .sum()
    }

    /// Reads every file to its end: its hash, where there is a manifest, and its ids, which have to be below the
    /// vocabulary, which is the manifest's where none is given. `bytes_read` counts along.
    pub fn verify(self, vocabulary: Option<usize>, bytes_read: &AtomicU64) -> Vec<Checked> {
        let by_manifest = self.manifest.as_ref().map(|manifest| manifest.tokenizer.vocabulary as usize);
        let vocabulary = vocabulary.or(by_manifest).unwrap_or(usize::MAX);
        let check = |(_, path, opened): (_, PathBuf, Opened)| match opened {
            Err(error) => Checked { path, tokens: 0, largest_id: None, damage: Some(error.to_string()) },
            Ok((shard, ids)) => {
                let bytes = shard.file.bytes;
                let read = largest_id(&shard, ids, vocabulary);
                bytes_read.fetch_add(bytes, Ordering::Relaxed);
                let (largest_id, damage) = match read {
                    Ok(largest) => (largest, None),
                    Err(error) => (None, Some(error.to_string())),
                };
                Checked { path, tokens: ids.tokens, largest_id, damage }
            }
        };
        self.files.into_iter().map(check).collect()
    }

    /// So many stretches of so many ids, at places that the seed alone decides, each token as likely to be the first
    /// as any other.
    ///
    /// # Errors
    /// The first file that is none, and what a disk can do.
    pub fn sample(self, stretches: usize, ids_each: usize, seed: u64) -> Result<Vec<Stretch>, DataError> {
        let opened = self.files.into_iter().map(|(.., opened)| opened).collect::<Result<Vec<_>, _>>()?;
        let all: u64 = opened.iter().map(|(_, ids)| ids.tokens).sum();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut stretch = || {
            let mut first_token = random.random_range(0..all);
            let mut files = opened.iter();
            let (shard, ids) = loop {
                let (shard, ids) = files.next().expect("places are within all files");
                if first_token < ids.tokens {
                    break (shard, *ids);
                }
                first_token -= ids.tokens;
            };
            let mut stream = TokenStream::new(usize::MAX);
            stream.push_ids(shard.file.clone(), ids);
            let count = (ids.tokens - first_token).min(ids_each as u64) as usize;
            let mut read = Vec::with_capacity(count);
            stream.read(first_token, count, &mut read)?;
            Ok(Stretch { path: shard.file.path.clone(), first_token, ids: read })
        };
        (0..stretches).map(|_| stretch()).collect()
    }
}

/// What the manifest names, training first. A part that is not as it says is opened file by file, to tell which.
fn of_manifest(folder: &Path, manifest: &Manifest) -> Vec<(Option<Split>, PathBuf, Opened)> {
    let mut files = Vec::new();
    for split in [Split::Training, Split::Validation] {
        for shard in &manifest.part(split).shards {
            let opened = open_part(folder, std::slice::from_ref(shard));
            let only = opened.map(|mut opened| opened.pop().expect("one was asked for"));
            files.push((Some(split), folder.join(&shard.file), only));
        }
    }
    files
}

fn token_files_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |source| DataError::Unreadable { path: folder.into(), source };
    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| has_extension(path, "npy") || has_extension(path, "bin"));
    paths.sort_unstable();
    match paths.is_empty() {
        true => Err(DataError::NoShards { folder: folder.into(), pattern: "*.npy` or `*.bin" }),
        false => Ok(paths),
    }
}

fn largest_id(shard: &ShardFile, ids: Ids, vocabulary: usize) -> Result<Option<u32>, DataError> {
    if shard.sha256.is_some() {
        shard.check_hash(&hash_file(&shard.file)?)?;
    }
    let mut stream = TokenStream::new(vocabulary);
    stream.push_ids(shard.file.clone(), ids);
    let mut read = Vec::new();
    let mut largest = None;
    for first in (0..ids.tokens).step_by(IDS_AT_ONCE) {
        read.clear();
        stream.read(first, (ids.tokens - first).min(IDS_AT_ONCE as u64) as usize, &mut read)?;
        largest = largest.max(read.iter().copied().max());
    }
    Ok(largest)
}
