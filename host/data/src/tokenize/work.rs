//! Units worked on side by side: texts in, ids out, each unit into its own part. What is done is handed on in the
//! order of the units.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use xxhash_rust::xxh3::xxh3_64;

use super::part::{self, PartCounts, PartWriter};
use super::{Job, Progress, Side, TokenizeError};
use crate::shards::manifest::Recipe;
use crate::stream::Width;
use crate::texts::{self, Found};
use crate::tokenizer::{Encoder, Tokenizer};

/// What there is to do.
pub(super) struct Work<'a> {
    pub(super) tokenizer: &'a dyn Tokenizer,
    pub(super) recipe: &'a Recipe,
    pub(super) width: Width,
    pub(super) parts: &'a Path,
    pub(super) jobs: &'a [Job<'a>],
    pub(super) progress: &'a Progress,
}

impl Work<'_> {
    /// Does all of it, and tells `each` of every unit, in order. The first error in that order is the one that counts.
    pub(super) fn in_order(
        &self,
        threads: usize,
        each: &mut dyn FnMut(usize, PartCounts) -> Result<(), TokenizeError>,
    ) -> Result<(), TokenizeError> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (sender, done) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..threads.min(self.jobs.len()).max(1) {
                let sender = sender.clone();
                scope.spawn(|| self.work(&next, &stop, sender));
            }
            drop(sender);
            let go_on = || -> Result<(), TokenizeError> {
                let mut waiting = BTreeMap::new();
                let mut coming = 0;
                for (unit, counts) in done {
                    waiting.insert(unit, counts);
                    while let Some(counts) = waiting.remove(&coming) {
                        each(coming, counts?)?;
                        coming += 1;
                    }
                }
                Ok(())
            };
            let ended = go_on();
            stop.store(true, Ordering::Relaxed);
            ended
        })
    }

    /// Takes one unit after the other, until there is none or one has failed.
    fn work(
        &self,
        next: &AtomicUsize,
        stop: &AtomicBool,
        sender: Sender<(usize, Result<PartCounts, TokenizeError>)>,
    ) {
        let mut encoder = self.tokenizer.encoder();
        while !stop.load(Ordering::Relaxed) {
            let unit = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = self.jobs.get(unit) else { return };
            let counts = match part::done(self.parts, unit) {
                Some(counts) => Ok(self.passed_over(job, counts)),
                None => self.encode(unit, job, &mut *encoder, stop),
            };
            let failed = counts.is_err();
            // Who takes them has gone where an earlier unit has failed.
            if sender.send((unit, counts)).is_err() || failed {
                return;
            }
        }
    }

    /// A unit that was done before.
    fn passed_over(&self, job: &Job<'_>, counts: PartCounts) -> PartCounts {
        self.progress.bytes_read.fetch_add(job.bytes, Ordering::Relaxed);
        self.progress
            .tokens
            .fetch_add(counts.sides[0].tokens.saturating_add(counts.sides[1].tokens), Ordering::Relaxed);
        counts
    }

    fn encode(
        &self,
        unit: usize,
        job: &Job<'_>,
        encoder: &mut dyn Encoder,
        stop: &AtomicBool,
    ) -> Result<PartCounts, TokenizeError> {
        let mut part = PartWriter::create(self.parts, unit, self.width)?;
        let mut ids = Vec::new();
        let mut each = |found: Found<'_>| {
            if stop.load(Ordering::Relaxed) {
                return Err(TokenizeError::Stopped);
            }
            match found {
                Ok("") => Ok(()),
                Ok(text) => {
                    ids.clear();
                    ids.extend(self.recipe.separator);
                    encoder.encode(text, &mut ids)?;
                    self.progress.tokens.fetch_add(ids.len() as u64, Ordering::Relaxed);
                    part.add(side_of(text, self.recipe.validation_fraction), &ids, text.len())
                }
                Err(_) if self.recipe.skip_bad => {
                    part.skip();
                    Ok(())
                }
                Err(bad) => Err(TokenizeError::of_document(&job.input.path, bad)),
            }
        };
        texts::read(job.input, &job.unit, &self.recipe.texts, &self.progress.bytes_read, &mut each)?;
        part.finish()
    }
}

/// By a hash of the text alone: neither its place nor a second copy of it changes the side.
fn side_of(text: &str, validation_fraction: f64) -> Side {
    /// All hashes, 2^64 of them.
    const HASHES: f64 = 18_446_744_073_709_551_616.0;
    if (xxh3_64(text.as_bytes()) as f64) < validation_fraction * HASHES {
        Side::Validation
    } else {
        Side::Training
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_validation_is_what_was_asked_for() {
        let on_side = |fraction| {
            (0..10_000).filter(|i| side_of(&format!("text {i}"), fraction) == Side::Validation).count()
        };
        assert_eq!(on_side(0.0), 0);
        assert!((900..1100).contains(&on_side(0.1)), "{}", on_side(0.1));
    }

    /// By the Python package xxhash: folders made by another version have the same sides.
    #[test]
    fn the_side_of_a_text_stays_what_it_was() {
        assert_eq!(xxh3_64(b"It is a truth universally acknowledged"), 4871972371009261959);
    }
}
