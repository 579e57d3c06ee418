//! Snapshots of a small made-up study: one arm better, one worse, one inconclusive, one that diverged, and
//! one with a failed run, a missing one, one that stopped short and one on other data. The page's tests: `page/tests.rs`.

mod json;
mod markdown;
mod terminal;
