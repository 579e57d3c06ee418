//! `sapwood data`: files of token ids, made of texts and looked at. What they hold is decided in the crate `data`.

mod look;
mod tokenize;

use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::args::DataCommand;
use crate::output::{note_line, passing_line};

pub(crate) fn data(command: &DataCommand) -> Outcome {
    match command {
        DataCommand::Tokenize(args) => tokenize::tokenize(args),
        DataCommand::Inspect(args) => look::inspect(args),
        DataCommand::Verify(args) => look::verify(args),
        DataCommand::Sample(args) => look::sample(args),
    }
}

/// Does some work, and shows meanwhile on a terminal how far it is.
fn watched<T: Send>(line: impl Fn() -> String + Sync, work: impl FnOnce() -> T + Send) -> T {
    const REFRESH: Duration = Duration::from_millis(200);
    if !stderr().is_terminal() {
        return work();
    }
    let done = AtomicBool::new(false);
    let done = &done;
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            // Set however the work ends, so that nobody waits for one that has panicked.
            let _ended = Ended(done);
            work()
        });
        while !done.load(Ordering::Relaxed) {
            passing_line!("{}", line());
            thread::park_timeout(REFRESH);
        }
        passing_line!("{}", line());
        note_line!();
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
