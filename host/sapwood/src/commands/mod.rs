//! One file a command.

pub(crate) mod bench;
pub(crate) mod doctor;
pub(crate) mod parity;
pub(crate) mod plan;
pub(crate) mod plugin;
pub(crate) mod report;
pub(crate) mod study;
