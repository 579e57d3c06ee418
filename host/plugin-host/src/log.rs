//! Lines that plugins log, on their way to the host's log; and, in the process of an isolated plugin, on their way to
//! the host's process first.

use std::sync::{Mutex, PoisonError};

use sapwood_plugin::Level;
use sapwood_plugin::host::receive_log;

/// Most lines that an isolated plugin can log in one call.
const MOST_LINES: usize = 1024;

/// What an isolated plugin has logged since the last reply.
static WAITING: Mutex<Vec<(String, u32, String)>> = Mutex::new(Vec::new());

/// From here on what the plugins of this process log goes to the host's log.
pub(crate) fn into_host_log() {
    receive_log(record);
}

/// Writes one line into the host's log.
pub(crate) fn record(library: &str, level: Level, text: &str) {
    match level {
        Level::Error => tracing::error!(library, "{text}"),
        Level::Warning => tracing::warn!(library, "{text}"),
        Level::Detail => tracing::debug!(library, "{text}"),
        _ => tracing::info!(library, "{text}"),
    }
}

/// From here on what the plugin of this process logs waits for [`take_waiting`].
pub(crate) fn into_waiting() {
    receive_log(|library, level, text| {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST_LINES {
            waiting.push((library.to_owned(), level.number(), text.to_owned()));
        }
    });
}

/// What was logged since the last time: the library, the level's number, the text.
pub(crate) fn take_waiting() -> Vec<(String, u32, String)> {
    std::mem::take(&mut *WAITING.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The level of that number.
pub(crate) fn level(number: u32) -> Level {
    Level::ALL.into_iter().find(|level| level.number() == number).unwrap_or(Level::Information)
}
