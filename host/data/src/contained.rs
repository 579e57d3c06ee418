//! Calls into readers of others that panic on some files that are damaged, where they ought to say so. Whose readers these
//! are, and what becomes of the reason, stands with each call; code of ours is never called through here.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the call gives, or why it panicked. Nothing that it was working on may be used any more after a panic.
pub(crate) fn contained<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("its reader gave up: {}", text.unwrap_or("no reason given"))
    })
}
