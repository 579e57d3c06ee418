//! A study's folder read back: curves, phases, receipts, suites and what came before, as numbers that a verdict rests on or that
//! are told beside it; and judged (`results.rs`).

pub(crate) mod curve;
pub(crate) mod edits;
pub(crate) mod findings;
pub(crate) mod phases;
pub(crate) mod results;
pub(crate) mod suites;
pub(crate) mod sunk;
