//! Notices a plugin that ends the process by `exit()`, and ends the process where that has to be done at once.
#![allow(unsafe_code)]

use std::io;
use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Blame, TRAIL, crumbs};

static ARMED: AtomicBool = AtomicBool::new(false);
static BLAME: OnceLock<Blame> = OnceLock::new();

pub(super) fn install(blame: Blame) -> io::Result<()> {
    let _ = BLAME.set(blame);
    // SAFETY: the function stays for as long as the process, and unwinds into nobody.
    if unsafe { libc::atexit(at_exit) } != 0 {
        return Err(io::Error::other("no room for another exit handler"));
    }
    ARMED.store(true, Ordering::Release);
    Ok(())
}

/// The host itself is about to end the process.
pub(super) fn disarm() {
    ARMED.store(false, Ordering::Release);
}

/// Handlers run on the thread that called `exit()`, so the call that it is in names the culprit. A plugin's own
/// thread is in none: then whoever is in a call is the next best guess.
extern "C" fn at_exit() {
    if !ARMED.swap(false, Ordering::AcqRel) {
        return;
    }
    let anybody = || TRAIL.get()?.crumbs.iter().find_map(crumbs::Crumb::culprit);
    if let (Some(culprit), Some(blame)) = (crumbs::current().or_else(anybody), BLAME.get()) {
        let told = catch_unwind(|| (blame.on_exit)(&culprit));
        let code = told.unwrap_or(1);
        if let Some(trail) = TRAIL.get() {
            trail.remove();
        }
        end_process(code);
    }
}

/// Ends the process without any handler or destructor.
pub(super) fn end_process(code: u8) -> ! {
    // SAFETY: it takes any number, touches no memory of ours, and does not return.
    unsafe { libc::_exit(code.into()) }
}
