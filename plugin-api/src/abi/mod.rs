//! What crosses between host and plugin. Nothing here is for authors. Revision 1 of every interface is frozen:
//! `tests/abi_snapshot.txt` holds every name, type, number and offset of it.
//!
//! # How the border grows
//!
//! 1. A released revision is never changed: no field, no type, no order, no number, no key of its JSON is renamed or
//!    taken away. JSON may gain keys that the other side may leave out, and events that an older side does not know
//!    (it sees `Unknown`).
//! 2. What needs more is a new revision: a new table with a layout hash of its own, in the file of its kind, beside
//!    the old one. The facts list every revision that a library offers.
//! 3. A host knows at least the two newest revisions of each kind, for two minor versions at least, and uses the
//!    newest that both sides have with the same layout. A library that shares none is refused in one sentence, before
//!    any of it runs.
//! 4. A new revision adds to the snapshot, moves this crate's minor version, and has a line in the changelog.
//!
//! The features `test-revision-2` and `test-revision-2-only` make up a second revision of one interface, so that tests
//! can put old and new libraries into old and new hosts.
//!
//! Each kind stands in one file with both halves: the plugin's, which catches panics, and the host's,
//! which gives the author's trait back. Values are `repr(C)` structs of fixed-width numbers, borrowed
//! slices and strings of `abi_stable`, and plain `extern "C"` pointers; rare and structured ones cross as
//! JSON.
#![allow(unsafe_code)]

#[macro_use]
pub mod layout;

pub mod boundary;
#[cfg(feature = "host")]
pub mod describe;
#[doc(hidden)]
pub mod export_parts;
pub mod initializer;
pub mod reporter;
pub mod root;
pub mod strategy;
