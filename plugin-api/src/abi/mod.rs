//! What crosses between host and plugin. Nothing here is for authors. Revision 1 of every interface is frozen: what
//! stands here is never changed, a later revision stands beside it (`plugin-api/ABI.md` has the rule, and
//! `tests/abi_snapshot.rs` fails where it is broken).
//!
//! Each kind stands in one file with both halves: the plugin's, which catches panics, and the host's,
//! which gives the author's trait back. Values are `repr(C)` structs of fixed-width numbers, borrowed
//! slices and strings of `abi_stable`, and plain `extern "C"` pointers; rare and structured ones cross as
//! JSON.
#![allow(unsafe_code)]

#[macro_use]
pub mod layout;

pub mod boundary;
#[doc(hidden)]
pub mod export_parts;
pub mod initializer;
pub(crate) mod log;
pub mod reporter;
pub mod root;
pub mod strategy;
pub mod strategy_2;
#[cfg(feature = "next-revision")]
pub mod strategy_next;
