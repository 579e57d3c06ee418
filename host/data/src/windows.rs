//! A stream cut into windows of `T` tokens and the target of the last: window `i` is the ids
//! `i T ..= (i + 1) T`, so that every token but the first is a target once. A rest too short for a window
//! is left out. Which windows a step reads is decided elsewhere.

use crate::stream::TokenStream;
use crate::{DataError, Split};

/// The windows of one part of the data.
#[derive(Debug)]
pub(crate) struct Windows {
    split: Split,
    stream: TokenStream,
    context: usize,
}

impl Windows {
    /// Cuts the stream; it has to hold one window at least.
    pub(crate) fn cut(split: Split, stream: TokenStream, context: usize) -> Result<Windows, DataError> {
        let windows = Windows { split, stream, context };
        windows.check_for(1)?;
        Ok(windows)
    }

    pub(crate) fn stream(&self) -> &TokenStream {
        &self.stream
    }

    pub(crate) fn count(&self) -> u64 {
        self.stream.tokens().saturating_sub(1) / self.context as u64
    }

    /// Whether `sequences` different windows exist.
    pub(crate) fn check_for(&self, sequences: usize) -> Result<(), DataError> {
        if self.count() >= sequences as u64 {
            return Ok(());
        }
        let wanted = match sequences {
            1 => format!("one sequence of {} targets", self.context),
            _ => format!("a batch of {sequences} sequences of {} targets", self.context),
        };
        Err(DataError::TooShort {
            split: self.split,
            place: self.stream.place(),
            tokens: self.stream.tokens(),
            wanted,
            needed: (sequences as u64).saturating_mul(self.context as u64).saturating_add(1),
        })
    }

    /// Appends a window's ids.
    pub(crate) fn read(&self, window: u64, rows: &mut Vec<u32>) -> Result<(), DataError> {
        self.stream.read(window * self.context as u64, self.context + 1, rows)
    }
}
