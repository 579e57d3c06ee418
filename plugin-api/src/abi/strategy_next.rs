//! A made-up revision 2 of the strategy's interface: a function more, and at the front, so that a side that took it for
//! revision 1 would call the wrong one. With it the tests prove the rule for later revisions; no release has it.

use super::layout::hash_numbers;
use super::strategy;

/// The revision that this file describes.
pub const REVISION: u32 = 2;

/// Hash of everything that crosses through this interface.
pub const LAYOUT: u64 = hash_numbers(&[Table::LAYOUT, strategy::LAYOUT], super::layout::START);

crossing! {
    /// The functions of a strategy.
    pub struct Table {
        /// Answers [`REVISION`].
        pub revision: extern "C" fn() -> u64,
        /// Those of revision 1.
        pub first: strategy::Table,
    }
}

/// The table of this library.
pub static TABLE: Table = Table { revision, first: strategy::FUNCTIONS };

extern "C" fn revision() -> u64 {
    REVISION.into()
}
