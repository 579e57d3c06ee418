//! What is known of a study before anything is trained: which runs it has and what is compared of them, what they will cost
//! and hold, which begin as copies of others, how many go side by side, and which rates are tried.

pub(crate) mod comparisons;
pub(crate) mod foresight;
pub(crate) mod memory;
pub(crate) mod packing;
pub(crate) mod prefixes;
pub mod sweep;
