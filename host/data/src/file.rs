//! A file held open and read by position. What its bytes mean is decided elsewhere.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::DataError;

/// A regular file with content. It stays open, so a run goes on reading the file that it was started
/// on, even when another takes its name.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    file: File,
}

impl DataFile {
    pub(crate) fn open(path: &Path) -> Result<Arc<DataFile>, DataError> {
        // Before opening: opening a pipe would wait for a writer.
        let kind = kind_of(path)?;
        if kind != Kind::File {
            return Err(wrong_kind(path, kind, "a file"));
        }
        let unreadable = |source| DataError::Unreadable { path: path.into(), source };
        let file = File::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes == 0 {
            return Err(DataError::Empty { path: path.into() });
        }
        Ok(Arc::new(DataFile { path: path.into(), bytes, file }))
    }

    /// Fills `buffer` with the bytes from `start` on.
    pub(crate) fn read_at(&self, start: u64, buffer: &mut [u8]) -> Result<(), DataError> {
        self.file.read_exact_at(buffer, start).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => DataError::Shrunk { path: self.path.clone(), byte: start },
            _ => DataError::Unreadable { path: self.path.clone(), source },
        })
    }
}

/// All of a file that is small enough to be parsed in memory: one that is larger, or has no end, is refused.
pub(crate) fn read_whole(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes {
        let reason =
            format!("it has more than {most_bytes} bytes, which is the most that is read of such a file");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// What stands at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Other,
}

pub(crate) fn kind_of(path: &Path) -> Result<Kind, DataError> {
    let found = fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => DataError::Missing { path: path.into() },
        _ => DataError::Unreadable { path: path.into(), source },
    })?;
    Ok(match () {
        () if found.is_file() => Kind::File,
        () if found.is_dir() => Kind::Folder,
        () => Kind::Other,
    })
}

pub(crate) fn wrong_kind(path: &Path, found: Kind, wanted: &'static str) -> DataError {
    let found = match found {
        Kind::File => "a file",
        Kind::Folder => "a folder",
        Kind::Other => "a device, pipe or socket",
    };
    DataError::WrongKind { path: path.into(), found, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrinks_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("text");
        fs::write(&path, b"0123456789").expect("room on the disk");
        let file = DataFile::open(&path).expect("a file with content");
        File::options().write(true).open(&path).and_then(|f| f.set_len(4)).expect("our own file");
        let error = file.read_at(2, &mut [0; 4]).expect_err("two bytes are gone");
        assert!(matches!(&error, DataError::Shrunk { path: named, byte: 2 } if *named == path), "{error}");
    }

    #[test]
    fn a_device_is_refused_before_it_is_opened() {
        let error = DataFile::open(Path::new("/dev/zero")).expect_err("not a file");
        assert_eq!(error.to_string(), "/dev/zero is a device, pipe or socket, not a file");
    }
}
