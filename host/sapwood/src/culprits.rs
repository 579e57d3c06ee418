//! What is said of a plugin that ended the process, or does not come back, and the exit codes of that.

use plugin_host::blame::{self, Blame, Culprit, leftovers};

use crate::output::note_line;

/// A plugin called `exit()`.
const ENDED_BY_PLUGIN: u8 = 11;
/// A plugin did not come back.
const PLUGIN_HANGS: u8 = 12;

/// The advice that helps in each of these cases.
const ISOLATE: &str = "what was saved last is intact; write `isolation = \"process\"` beside its `use` and run the same \
                       command again: then the plugin ends its own process alone";

/// Tells of processes that ended badly, then watches the plugins of this one.
pub(crate) fn watch() {
    for leftover in leftovers() {
        note_line!("warning: {leftover}");
        note_line!("hint: {ISOLATE}");
        leftover.forget();
    }
    if let Err(error) = blame::begin(Blame { on_slow, on_hang, on_exit }) {
        note_line!("warning: a plugin that crashes could not be named afterwards: {error}");
    }
}

fn on_slow(culprit: &Culprit) {
    tracing::warn!("{culprit} for a second by now");
    note_line!("warning: {culprit} for a second by now");
}

fn on_hang(culprit: &Culprit) -> u8 {
    let seconds = plugin_host::isolation::call_limit().as_secs();
    tracing::error!("{culprit} for more than {seconds} s; the process is ended");
    note_line!("error: {culprit} for more than {seconds} s; the process is ended");
    note_line!("hint: raise SAPWOOD_PLUGIN_TIMEOUT_SECONDS if it needs that long; else {ISOLATE}");
    PLUGIN_HANGS
}

fn on_exit(culprit: &Culprit) -> u8 {
    // Not into the log: the storage of this thread that it needs is gone by now.
    note_line!("error: {culprit} when `exit()` was called, which no plugin may");
    note_line!("hint: {ISOLATE}");
    ENDED_BY_PLUGIN
}
