//! Parts put together to shards, in the order of the units. Whenever a shard is whole it is written down how far
//! that went, and parts that are used up are removed: the disk holds little twice, and who starts again loses at
//! most a shard of each side, which is there in parts.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::part::{self, Counts, PartCounts};
use super::shard::ShardWriter;
use super::{SIDES, Side, TokenizeError, whole};
use crate::file::read_whole;
use crate::shards::manifest::{LARGEST_BYTES, PartFacts, ShardFacts};
use crate::stream::Width;

const AT_ONCE: usize = 1 << 20;

/// Parts on their way to be shards.
pub(super) struct Assembly {
    out: PathBuf,
    parts: PathBuf,
    width: Width,
    tokens_per_shard: u64,
    state: State,
    open: [Option<ShardWriter>; 2],
    /// Units that were pushed, and what was in them.
    pushed: usize,
    counts: [Counts; 2],
    skipped_documents: u64,
}

/// How far it is, by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    sides: [SideState; 2],
}

/// What of a side stands in whole shards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct SideState {
    shards: Vec<ShardFacts>,
    /// The unit that the next shard begins in, and after how many of its tokens.
    unit: usize,
    tokens: u64,
}

impl Assembly {
    pub(super) fn open(
        out: &Path,
        parts: &Path,
        width: Width,
        tokens_per_shard: u64,
    ) -> Result<Assembly, TokenizeError> {
        // One that cannot be read is as one that is not there: parts are only removed after it was written.
        let state = read_whole(&state_path(parts), LARGEST_BYTES)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        Ok(Assembly {
            out: out.into(),
            parts: parts.into(),
            width,
            tokens_per_shard,
            state: state.unwrap_or_default(),
            open: [None, None],
            pushed: 0,
            counts: [Counts::default(); 2],
            skipped_documents: 0,
        })
    }

    /// The next unit, which is done.
    pub(super) fn push(&mut self, unit: usize, part: PartCounts) -> Result<(), TokenizeError> {
        for side in SIDES {
            let counts = part.sides[side as usize];
            let sum = &mut self.counts[side as usize];
            sum.documents = sum.documents.saturating_add(counts.documents);
            sum.tokens = sum.tokens.saturating_add(counts.tokens);
            sum.text_bytes = sum.text_bytes.saturating_add(counts.text_bytes);
            self.push_side(unit, side, counts.tokens)?;
        }
        self.skipped_documents = self.skipped_documents.saturating_add(part.skipped_documents);
        self.pushed = unit + 1;
        Ok(())
    }

    pub(super) fn skipped_documents(&self) -> u64 {
        self.skipped_documents
    }

    /// Ends the last shards, which are shorter than the others.
    pub(super) fn finish(&mut self) -> Result<[PartFacts; 2], TokenizeError> {
        let mut facts = [PartFacts::default(), PartFacts::default()];
        for side in SIDES {
            if self.open[side as usize].is_some() {
                self.close_shard(side, self.pushed, 0)?;
            }
            let Counts { documents, tokens, text_bytes } = self.counts[side as usize];
            let shards = self.state.sides[side as usize].shards.clone();
            facts[side as usize] = PartFacts { documents, tokens, text_bytes, shards };
        }
        Ok(facts)
    }

    fn push_side(&mut self, unit: usize, side: Side, tokens: u64) -> Result<(), TokenizeError> {
        let SideState { unit: first_unit, tokens: first_token, .. } = self.state.sides[side as usize];
        let mut at = match unit.cmp(&first_unit) {
            // All of it is in shards already.
            std::cmp::Ordering::Less => return Ok(()),
            std::cmp::Ordering::Equal => first_token,
            std::cmp::Ordering::Greater => 0,
        };
        if at >= tokens {
            return Ok(());
        }
        let path = part::ids_path(&self.parts, unit, side);
        let failed = |source| TokenizeError::Write { path: path.clone(), source };
        let mut file = File::open(&path).map_err(failed)?;
        file.seek(SeekFrom::Start(at.saturating_mul(self.width.bytes()))).map_err(failed)?;
        let mut buffer = vec![0; AT_ONCE];
        while at < tokens {
            let (width, tokens_per_shard) = (self.width.bytes(), self.tokens_per_shard);
            let shard = self.shard(side)?;
            let room = (tokens_per_shard - shard.tokens()).min(tokens - at);
            let here = room.min(AT_ONCE as u64 / width);
            let bytes = &mut buffer[..(here * width) as usize];
            file.read_exact(bytes).map_err(failed)?;
            shard.add(bytes)?;
            at += here;
            if shard.tokens() == tokens_per_shard {
                self.close_shard(side, unit, at)?;
            }
        }
        Ok(())
    }

    /// The shard that is being written.
    fn shard(&mut self, side: Side) -> Result<&mut ShardWriter, TokenizeError> {
        let number = self.state.sides[side as usize].shards.len();
        let open = &mut self.open[side as usize];
        match open {
            Some(shard) => Ok(shard),
            None => {
                let name = format!("{}_{number:05}.npy", side.word());
                Ok(open.insert(ShardWriter::create(&self.out, name, self.width)?))
            }
        }
    }

    /// Ends a shard; the next begins in that unit, after so many of its tokens.
    fn close_shard(&mut self, side: Side, unit: usize, tokens: u64) -> Result<(), TokenizeError> {
        let Some(shard) = self.open[side as usize].take() else { return Ok(()) };
        let facts = shard.finish()?;
        let state = &mut self.state.sides[side as usize];
        let before = state.unit;
        state.shards.push(facts);
        (state.unit, state.tokens) = (unit, tokens);
        let json = serde_json::to_vec(&self.state).expect("only plain values");
        whole::write(&state_path(&self.parts), &json)?;
        for used_up in before..unit {
            let path = part::ids_path(&self.parts, used_up, side);
            fs::remove_file(&path).map_err(|source| TokenizeError::Write { path, source })?;
        }
        Ok(())
    }
}

fn state_path(parts: &Path) -> PathBuf {
    parts.join("assembled.json")
}
