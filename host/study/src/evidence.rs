//! A study's folder read back: curves, which the verdict rests on (`curve.rs`), and what is told beside it (`beside.rs`), each from a
//! reader of its own; all put together and judged by `results.rs`. Comparing is the verdict's, layout the report's.

pub(crate) mod beside;
pub(crate) mod curve;
pub(crate) mod edits;
pub(crate) mod fairness;
pub(crate) mod findings;
pub(crate) mod phases;
pub(crate) mod results;
pub(crate) mod shared;
pub(crate) mod suites;
pub(crate) mod sunk;
