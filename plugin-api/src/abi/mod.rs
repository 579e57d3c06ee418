//! What crosses between host and plugin. Nothing here is for authors, and nothing here is frozen yet:
//! until it is, host and plugin must come from the same version of this crate, and loading says so.
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
pub mod reporter;
pub mod root;
pub mod strategy;
