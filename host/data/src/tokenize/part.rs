//! What came of one unit: ids for training and for validation, each in a file without a header, and their counts.
//! The counts are written last: a unit that has them is done.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{SIDES, Side, TokenizeError, whole};
use crate::file::read_whole;
use crate::shards::manifest::LARGEST_BYTES;
use crate::stream::Width;

/// Where parts are, until the folder is finished.
pub(super) fn folder(out: &Path) -> PathBuf {
    out.join("parts")
}

/// What is in a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartCounts {
    /// By side, training first.
    pub(super) sides: [Counts; 2],
    pub(super) skipped_documents: u64,
}

/// What is on one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) documents: u64,
    pub(super) tokens: u64,
    pub(super) text_bytes: u64,
}

pub(super) fn ids_path(parts: &Path, unit: usize, side: Side) -> PathBuf {
    parts.join(format!("{unit:06}.{}", side.word()))
}

fn counts_path(parts: &Path, unit: usize) -> PathBuf {
    parts.join(format!("{unit:06}.json"))
}

/// The counts of a unit that is done.
pub(super) fn done(parts: &Path, unit: usize) -> Option<PartCounts> {
    serde_json::from_slice(&read_whole(&counts_path(parts, unit), LARGEST_BYTES).ok()?).ok()
}

/// A part that is being written.
pub(super) struct PartWriter<'a> {
    parts: &'a Path,
    unit: usize,
    width: Width,
    files: [BufWriter<File>; 2],
    counts: PartCounts,
    bytes: Vec<u8>,
}

impl<'a> PartWriter<'a> {
    pub(super) fn create(
        parts: &'a Path,
        unit: usize,
        width: Width,
    ) -> Result<PartWriter<'a>, TokenizeError> {
        let create = |side| {
            let path = ids_path(parts, unit, side);
            File::create(&path)
                .map(|file| BufWriter::with_capacity(1 << 18, file))
                .map_err(|source| TokenizeError::Write { path, source })
        };
        let [training, validation] = SIDES.map(create);
        let files = [training?, validation?];
        Ok(PartWriter { parts, unit, width, files, counts: PartCounts::default(), bytes: Vec::new() })
    }

    pub(super) fn skip(&mut self) {
        self.counts.skipped_documents += 1;
    }

    /// Adds a document: its ids, its separator among them, and how long its text is.
    pub(super) fn add(&mut self, side: Side, ids: &[u32], text_bytes: usize) -> Result<(), TokenizeError> {
        self.bytes.clear();
        match self.width {
            Width::Four => self.bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
            Width::Two | Width::Byte => {
                self.bytes.extend(ids.iter().flat_map(|&id| (id as u16).to_le_bytes()));
            }
        }
        let counts = &mut self.counts.sides[side as usize];
        counts.documents += 1;
        counts.tokens += ids.len() as u64;
        counts.text_bytes += text_bytes as u64;
        self.files[side as usize].write_all(&self.bytes).map_err(|source| self.refused(side, source))
    }

    /// Puts it on the disk; from then on the unit is done.
    pub(super) fn finish(mut self) -> Result<PartCounts, TokenizeError> {
        for side in SIDES {
            let file = &mut self.files[side as usize];
            let synced = file.flush().and_then(|()| file.get_ref().sync_data());
            synced.map_err(|source| self.refused(side, source))?;
        }
        let json = serde_json::to_vec(&self.counts).expect("only numbers");
        whole::write(&counts_path(self.parts, self.unit), &json)?;
        Ok(self.counts)
    }

    fn refused(&self, side: Side, source: io::Error) -> TokenizeError {
        TokenizeError::Write { path: ids_path(self.parts, self.unit, side), source }
    }
}
