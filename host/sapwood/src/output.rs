//! Standard output and standard error. Somebody who has read enough (`| head -1`) is no error: the command goes
//! on and ends as it would have. Results that cannot be written for any other reason, such as a full disk behind
//! a redirection, fail the command once its work is done. What is printed stands in `commands`.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use trainer::ErrorClass;

use crate::failure::Failed;

/// The first thing that went wrong with standard output. It is one for the whole process, so this is too.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// A line of a result, on standard output; takes what `println!` takes.
macro_rules! result_line {
    () => { $crate::output::result(format_args!("")) };
    ($($text:tt)*) => { $crate::output::result(format_args!($($text)*)) };
}

/// A line beside the result, on standard error; takes what `eprintln!` takes.
macro_rules! note_line {
    () => { $crate::output::note(format_args!("")) };
    ($($text:tt)*) => { $crate::output::note(format_args!($($text)*)) };
}

/// A line on standard error in the place of the one before, on a terminal.
macro_rules! passing_line {
    ($($text:tt)*) => { $crate::output::passing(format_args!($($text)*)) };
}

pub(crate) use {note_line, passing_line, result_line};

pub(crate) fn result(line: Arguments<'_>) {
    remember(writeln!(io::stdout(), "{line}"));
}

/// A piece of a result, shown at once: what is still being made.
pub(crate) fn piece(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    remember(out.write_all(bytes).and_then(|()| out.flush()));
}

pub(crate) fn note(line: Arguments<'_>) {
    // Where this cannot be written there is nowhere left to say so.
    let _ = writeln!(io::stderr(), "{line}");
}

pub(crate) fn passing(line: Arguments<'_>) {
    let _ = write!(io::stderr(), "\r{line}\x1b[K");
}

/// What the argument parser has to say, and its exit code: help on standard output, or what is wrong with the usage.
pub(crate) fn usage(said: &clap::Error) -> ExitCode {
    let printed = said.print();
    if !said.use_stderr() {
        remember(printed);
    }
    ExitCode::from(u8::try_from(said.exit_code()).unwrap_or(1))
}

/// Flushes standard output.
///
/// # Errors
/// Some of the result could not be written, now or before.
pub(crate) fn flush() -> Result<(), Failed> {
    remember(io::stdout().flush());
    match LOST.lock().unwrap_or_else(PoisonError::into_inner).take() {
        None => Ok(()),
        Some(error) => Err(Failed::new(
            ErrorClass::Resource,
            format!("cannot write to standard output: {error}"),
            "free some space or send it elsewhere, and run the same command again",
        )),
    }
}

fn remember(written: io::Result<()>) {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            LOST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        _ => {}
    }
}

/// A value as JSON for people and programs.
///
/// # Errors
/// None that a user can cause.
pub(crate) fn json_of(value: &impl Serialize) -> Result<String, Failed> {
    serde_json::to_string_pretty(value)
        .map_err(|error| Failed::new(ErrorClass::Internal, error, "please report this"))
}

/// A text of so many characters at most.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A time for people, to two or three digits.
pub(crate) fn duration(seconds: f64) -> String {
    let (minute, hour, day) = (60.0, 3600.0, 86_400.0);
    match () {
        () if seconds < 2.0 * minute => format!("{seconds:.0} s"),
        () if seconds < 2.0 * hour => format!("{:.0} minutes", seconds / minute),
        () if seconds < 2.0 * day => format!("{:.1} hours", seconds / hour),
        () => format!("{:.1} days", seconds / day),
    }
}

/// A size for people.
pub(crate) fn bytes(count: u64) -> String {
    let count = count as f64;
    match () {
        () if count >= 1e9 => format!("{:.2} GB", count / 1e9),
        () if count >= 1e6 => format!("{:.1} MB", count / 1e6),
        () => format!("{:.0} kB", (count / 1e3).ceil()),
    }
}
