//! Revision 1 is frozen: every name, type, order, offset, size, number and JSON key that crosses the border is what it
//! was. This test is not to be updated; `abi/mod.rs` says how the border grows.

use expect_test::{expect, expect_file};
use sapwood_plugin::abi::{describe, initializer, reporter, strategy};

#[cfg(target_pointer_width = "64")]
#[test]
fn everything_that_crosses_is_as_it_was_frozen() {
    expect_file!["abi_snapshot.txt"].assert_eq(&describe::everything());
}

/// Apart from the snapshot, so that renewing that by accident is not enough.
#[cfg(target_pointer_width = "64")]
#[test]
fn the_layouts_of_revision_1_are_those_of_every_released_library() {
    let layouts =
        [strategy::LAYOUT, initializer::LAYOUT, reporter::LAYOUT].map(|layout| format!("{layout:016x}"));
    expect!["cc1b530d10d88523 29b4e4d319eb7543 8b1ee475192cee2a"].assert_eq(&layouts.join(" "));
    assert_eq!((strategy::REVISION, initializer::REVISION, reporter::REVISION), (1, 1, 1));
}
