//! An owner's signs of life: a thread that touches the claim, and looks whether it is still ours.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

/// A thread that gives signs of life until it is stopped.
#[derive(Debug)]
pub(super) struct Heartbeat {
    beating: Arc<Beating>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Beating {
    path: PathBuf,
    token: String,
    lost: AtomicBool,
    stopped: Mutex<bool>,
    stop: Condvar,
}

impl Heartbeat {
    /// Starts it.
    ///
    /// # Errors
    /// The claim cannot be opened, or there is no thread to be had.
    pub(super) fn start(path: PathBuf, token: String, every: Duration) -> io::Result<Heartbeat> {
        // Our file, whatever bears its name later: no sign of life of ours is ever taken for a successor's.
        let file = OpenOptions::new().write(true).open(&path)?;
        let lost = AtomicBool::new(false);
        let (stopped, stop) = (Mutex::new(false), Condvar::new());
        let beating = Arc::new(Beating { path, token, lost, stopped, stop });
        let of_thread = Arc::clone(&beating);
        let thread = std::thread::Builder::new().name("heartbeat".into());
        let thread = Some(thread.spawn(move || of_thread.beat(&file, every))?);
        Ok(Heartbeat { beating, thread })
    }

    /// Whether the claim was seen to be somebody else's.
    pub(super) fn has_lost(&self) -> bool {
        self.beating.lost.load(Ordering::Acquire)
    }

    /// Looks whether it is.
    pub(super) fn has_lost_now(&self) -> bool {
        self.beating.look();
        self.has_lost()
    }

    /// Ends the thread; answers the claim's token.
    pub(super) fn stop(&mut self) -> String {
        *self.beating.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.beating.stop.notify_all();
        if let Some(thread) = self.thread.take() {
            // It cannot panic but where memory is out, and there is nothing more to stop then.
            let _ = thread.join();
        }
        self.beating.token.clone()
    }
}

impl Beating {
    fn beat(&self, file: &File, every: Duration) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped && !self.lost.load(Ordering::Acquire) {
            let waited = self.stop.wait_timeout(stopped, every).unwrap_or_else(PoisonError::into_inner);
            stopped = waited.0;
            if *stopped {
                return;
            }
            if let Err(error) = touch(file) {
                tracing::warn!("no sign of life can be given in {}: {error}", self.path.display());
            }
            self.look();
        }
    }

    /// A claim that cannot be read is not lost: a file server that does not answer serves nobody else either.
    fn look(&self) {
        let ours = match super::found_in(&self.path) {
            Ok(found) => found.is_some_and(|found| found.token() == self.token),
            Err(_) => true,
        };
        if !ours && !self.lost.swap(true, Ordering::AcqRel) {
            tracing::warn!("{} is somebody else's by now: the run stops here", at_home(&self.path).display());
        }
    }
}

fn at_home(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Gives a file the time that its file system has now, and answers it. The server of a network file system uses its
/// own clock for that, so that clocks of machines that disagree do no harm.
pub(super) fn touch(file: &File) -> io::Result<SystemTime> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    futimens(file, &Timestamps { last_access: now, last_modification: now })?;
    file.metadata()?.modified()
}
