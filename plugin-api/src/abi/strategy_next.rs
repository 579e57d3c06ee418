//! A made-up revision 3 of the strategy's interface: a function more, and at the front, so that a side that took it for an
//! older one would call the wrong one. With it the tests prove the rule for later revisions; no release has it.

use super::layout::hash_numbers;
use super::strategy_2;

/// The revision that this file describes.
pub const REVISION: u32 = 3;

/// Hash of everything that crosses through this interface.
pub const LAYOUT: u64 = hash_numbers(&[Table::LAYOUT, strategy_2::LAYOUT], super::layout::START);

crossing! {
    /// The functions of a strategy.
    pub struct Table {
        /// Answers [`REVISION`].
        pub revision: extern "C" fn() -> u64,
        /// Those of revision 2.
        pub second: strategy_2::Table,
    }
}

/// The table of this library.
pub static TABLE: Table = Table { revision, second: strategy_2::FUNCTIONS };

extern "C" fn revision() -> u64 {
    REVISION.into()
}
