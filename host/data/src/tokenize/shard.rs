//! One `.npy` file on its way.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{TokenizeError, whole};
use crate::facts::hash_file;
use crate::file::DataFile;
use crate::npy;
use crate::shards::manifest::ShardFacts;
use crate::stream::Width;

/// A shard that is being written, under another name.
pub(super) struct ShardWriter {
    path: PathBuf,
    name: String,
    file: BufWriter<File>,
    width: Width,
    tokens: u64,
}

impl ShardWriter {
    pub(super) fn create(folder: &Path, name: String, width: Width) -> Result<ShardWriter, TokenizeError> {
        let path = folder.join(&name);
        let created = || -> io::Result<BufWriter<File>> {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(whole::partial(&path))?);
            file.write_all(&npy::header(width, 0))?;
            Ok(file)
        };
        let file = created().map_err(|source| TokenizeError::Write { path: path.clone(), source })?;
        Ok(ShardWriter { path, name, file, width, tokens: 0 })
    }

    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Adds ids, as they are written.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), TokenizeError> {
        self.tokens += bytes.len() as u64 / self.width.bytes();
        self.file.write_all(bytes).map_err(|source| TokenizeError::Write { path: self.path.clone(), source })
    }

    /// Writes how many there are, puts it on the disk, and gives the file its name.
    pub(super) fn finish(mut self) -> Result<ShardFacts, TokenizeError> {
        let mut synced = || -> io::Result<()> {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&npy::header(self.width, self.tokens))?;
            self.file.flush()?;
            self.file.get_ref().sync_all()
        };
        synced().map_err(|source| TokenizeError::Write { path: self.path.clone(), source })?;
        whole::name(&self.path)?;
        // As it came to lie on the disk: what is read back is what will be read.
        let file = DataFile::open(&self.path)?;
        let sha256 = hash_file(&file)?;
        Ok(ShardFacts { file: self.name, tokens: self.tokens, bytes: file.bytes, sha256 })
    }
}
