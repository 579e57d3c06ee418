//! Small corpora, written for a test. What is checked about them stands with the tests.

use std::fs;
use std::path::{Path, PathBuf};

use data::{Corpus, DataConfig, DataError, Needs, Order, ShardList, open};
use tempfile::TempDir;

/// A folder that disappears with the test.
pub(super) struct Files {
    folder: TempDir,
}

impl Files {
    pub(super) fn new() -> Files {
        Files { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of these bytes.
    pub(super) fn bytes(self, name: &str, bytes: &[u8]) -> Files {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a file in our folder")).expect("room on the disk");
        fs::write(path, bytes).expect("room on the disk");
        self
    }

    /// Writes a file of as many bytes as asked, each the last digit of its position.
    pub(super) fn text(self, name: &str, length: usize) -> Files {
        let digits: Vec<u8> = (0..length).map(|i| b'0' + (i % 10) as u8).collect();
        self.bytes(name, &digits)
    }

    /// Writes a shard of the ids `first..end`.
    pub(super) fn shard(self, name: &str, first: u16, end: u16) -> Files {
        let ids: Vec<u16> = (first..end).collect();
        self.npy(name, "<u2", &format!("({},)", ids.len()), &ids)
    }

    /// Writes an array with a header as numpy's.
    pub(super) fn npy(self, name: &str, dtype: &str, shape: &str, ids: &[u16]) -> Files {
        let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
        // numpy pads so that the array begins at a multiple of 64.
        header.push_str(&" ".repeat((64 - (11 + header.len()) % 64) % 64));
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        self.bytes(name, &bytes)
    }

    pub(super) fn open(&self, config: &DataConfig, context: usize) -> Result<Corpus, DataError> {
        open(config, self.path(), Needs { context, vocabulary: 50_304 })
    }
}

pub(super) fn text(validation_fraction: f64, order: Order) -> DataConfig {
    DataConfig::Text { path: "text".into(), validation_fraction, order }
}

pub(super) fn shards(train: &[&str], validation: &[&str], order: Order) -> DataConfig {
    let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect();
    DataConfig::Shards {
        files: ShardList { train: paths(train), validation: paths(validation), format: None },
        order,
    }
}

pub(super) fn recorded(folder: &str) -> DataConfig {
    DataConfig::Recorded { folder: folder.into() }
}
