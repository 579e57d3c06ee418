//! Which files a list of shards names, and their ids as one stream. Only the uint16 `.npy` files of
//! build-nanogpt are read; making them is not done here.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::file::{DataFile, Kind, kind_of, wrong_kind};
use crate::npy::NpyArray;
use crate::stream::TokenStream;
use crate::{DataError, Split};

const WANTED: &str = "a one-dimensional list of tokens";

/// Opens every shard that the list names, in its order.
pub(crate) fn open_shards(
    split: Split,
    listed: &[PathBuf],
    base: &Path,
    vocabulary: usize,
) -> Result<(TokenStream, Vec<Arc<DataFile>>), DataError> {
    let mut stream = TokenStream::new(vocabulary);
    let mut files = Vec::new();
    for path in listed.iter().map(|path| base.join(path)) {
        for shard in shards_at(&path, split)? {
            let file = DataFile::open(&shard)?;
            let array = NpyArray::find(&file, 1, WANTED)?;
            stream.push_array(file.clone(), &array);
            files.push(file);
        }
    }
    Ok((stream, files))
}

/// Refuses a shard that is trained on and validated on, by whatever name.
pub(crate) fn check_apart(train: &[Arc<DataFile>], validation: &[Arc<DataFile>]) -> Result<(), DataError> {
    let real_path = |file: &Arc<DataFile>| {
        let unreadable = |source| DataError::Unreadable { path: file.path.clone(), source };
        fs::canonicalize(&file.path).map_err(unreadable)
    };
    let trained = train.iter().map(real_path).collect::<Result<Vec<_>, _>>()?;
    for file in validation {
        if trained.contains(&real_path(file)?) {
            return Err(DataError::TrainedAndValidated { path: file.path.clone() });
        }
    }
    Ok(())
}

/// The file itself, or the folder's shards of that part in name order.
fn shards_at(path: &Path, split: Split) -> Result<Vec<PathBuf>, DataError> {
    match kind_of(path)? {
        Kind::File => Ok(vec![path.into()]),
        Kind::Folder => shards_in(path, split),
        Kind::Other => Err(wrong_kind(path, Kind::Other, "a shard or a folder of shards")),
    }
}

fn shards_in(folder: &Path, split: Split) -> Result<Vec<PathBuf>, DataError> {
    let (word, pattern) = match split {
        Split::Validation => ("val", "*val*.npy"),
        Split::Training | Split::Both => ("train", "*train*.npy"),
    };
    let unreadable = |source| DataError::Unreadable { path: folder.into(), source };
    let mut shards = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension() == Some(OsStr::new("npy")) && stem(&path).contains(word) {
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

fn stem(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_stem().map(OsStr::to_string_lossy).unwrap_or_default()
}
