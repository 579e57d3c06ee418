//! What a plugin may do to the process that it lives in: questions about threads, memory, signals and files.

use std::fs;
use std::path::{Path, PathBuf};

use super::asking::{STDERR_FILE, STDOUT_FILE};
use super::{Answer, Subject, noted, passed};
use crate::bounded;

/// Of what a plugin printed.
const SHOWN_BYTES: u64 = 1 << 10;

/// Most bytes by which memory may grow over a question's many calls.
const MOST_GROWTH_BYTES: u64 = 4 << 20;

/// A field of `/proc/self/status`; `None` where there is no such file.
fn status(field: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim_start_matches(':').trim().to_owned())
}

/// Threads of this process.
pub(super) fn threads() -> Option<String> {
    status("Threads")
}

/// Which signals are caught, ignored and blocked.
pub(super) fn signals() -> Vec<Option<String>> {
    ["SigCgt", "SigIgn", "SigBlk"].map(status).into()
}

fn resident_bytes() -> Option<u64> {
    let kib = status("RssAnon").or_else(|| status("VmRSS"))?;
    Some(kib.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Calls once to warm up, then many times, and judges by how much memory has grown.
pub(super) fn memory_over(calls: u64, mut call: impl FnMut(u64) -> Result<(), String>) -> Answer {
    for index in 0..calls / 8 {
        call(index)?;
    }
    let Some(before) = resident_bytes() else {
        return super::not_applicable("this system does not tell how much memory a process holds");
    };
    for index in calls / 8..calls {
        call(index)?;
    }
    let grown = resident_bytes().unwrap_or(before).saturating_sub(before);
    let note = format!("{:.1} MiB over {} calls", grown as f64 / f64::from(1 << 20), calls - calls / 8);
    if grown > MOST_GROWTH_BYTES { Err(format!("memory grows by {note}")) } else { noted(note) }
}

/// Nothing may have been printed, of the streams that count.
pub(super) fn prints_nothing(subject: &Subject, also_stderr: bool) -> Answer {
    let streams: &[&str] = if also_stderr { &[STDOUT_FILE, STDERR_FILE] } else { &[STDOUT_FILE] };
    for stream in streams {
        let text = bounded::beginning(&subject.folder.join(stream), SHOWN_BYTES);
        if let Some(line) = text.lines().next() {
            return Err(format!("prints to {stream}: {line}"));
        }
    }
    passed()
}

/// Nothing may lie in the working directory, which was empty.
pub(super) fn wrote_nothing_here() -> Answer {
    let here: Vec<PathBuf> =
        fs::read_dir(".").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    match here.first() {
        Some(path) => Err(format!("leaves {} in the working directory", Path::new(path).display())),
        None => passed(),
    }
}

/// Threads that were there before have to be all that there are now.
pub(super) fn starts_no_thread(doing: impl FnOnce() -> Result<(), String>) -> Answer {
    let before = threads();
    doing()?;
    let after = threads();
    if before == after {
        passed()
    } else {
        Err(format!("there were {} threads before, {} after", shown(&before), shown(&after)))
    }
}

fn shown(number: &Option<String>) -> &str {
    number.as_deref().unwrap_or("unknown")
}
