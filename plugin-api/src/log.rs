//! A line for the host's log, from wherever in a plugin.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warning,
    /// Something that a user may want to know.
    Information,
    /// Something that its author wants to know; shown with `-v`.
    Detail,
}

impl Level {
    /// All of them.
    pub const ALL: [Level; 4] = [Level::Error, Level::Warning, Level::Information, Level::Detail];

    /// The number that crosses.
    pub const fn number(self) -> u32 {
        match self {
            Level::Error => 1,
            Level::Warning => 2,
            Level::Information => 3,
            Level::Detail => 4,
        }
    }
}

/// Writes a line into the host's log, `sapwood.log` in the study's folder, under the library's name.
///
/// A plugin says there what it does for whoever wonders later; what is to be plotted is a
/// [`metric`](crate::Actions::metric), and what ends a run is an error. Without a host, as in a test, it does nothing.
///
/// ```
/// use sapwood_plugin::{Level, log};
///
/// log(Level::Information, format_args!("the loss has stopped falling at step {}", 400));
/// ```
pub fn log(level: Level, text: impl std::fmt::Display) {
    crate::abi::log::send(level.number(), &text);
}
