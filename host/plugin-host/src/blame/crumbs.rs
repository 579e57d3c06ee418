//! The crumbs: one for each instance of a plugin, in a file that is mapped into memory, so that writing one costs
//! nanoseconds and outlives the process however it ends.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use memmap2::MmapRaw;
use sapwood_plugin::Kind;

use super::{Call, Culprit};

/// The file begins with this line, and the command and its folder on the next two.
pub(super) const MAGIC: &str = "sapwood calls 1";
/// Bytes before the first crumb.
pub(super) const HEADER_BYTES: usize = 4096;
/// Bytes of a crumb.
pub(super) const CRUMB_BYTES: usize = size_of::<Crumb>();
/// Instances that can be watched at once; more go unwatched.
const CRUMBS: usize = 512;
/// The whole file.
pub(super) const FILE_BYTES: u64 = (HEADER_BYTES + CRUMBS * CRUMB_BYTES) as u64;
const LONGEST_ID: usize = 216;

const FREE: u64 = 0;
const IDLE: u64 = 1;
pub(super) const IN_CALL: u64 = 2;

/// Which instance is being called, and with what.
#[repr(C)]
pub(super) struct Crumb {
    state: AtomicU64,
    kind: AtomicU64,
    call: AtomicU64,
    at: AtomicU64,
    began_ns: AtomicU64,
    id: [AtomicU8; LONGEST_ID],
}

/// The crumbs of this process.
pub(super) struct Trail {
    pub(super) crumbs: &'static [Crumb],
    path: PathBuf,
    /// Locked for as long as the process lives.
    _file: File,
}

static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    static CURRENT: Cell<Option<&'static Crumb>> = const { Cell::new(None) };
}

/// Nanoseconds since the first call of this function, but one, so that 0 means never.
pub(super) fn now_ns() -> u64 {
    BEGINNING.elapsed().as_nanos() as u64 + 1
}

/// The call that this thread is in.
pub(super) fn current() -> Option<Culprit> {
    CURRENT.try_with(Cell::get).ok().flatten().and_then(Crumb::culprit)
}

impl Trail {
    pub(super) fn create(folder: &Path) -> io::Result<Trail> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(format!("calls-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.try_lock()
            .map_err(|error| io::Error::other(format!("{} is in use: {error}", path.display())))?;
        file.set_len(FILE_BYTES)?;
        file.write_all_at(header().as_bytes(), 0)?;
        let map = MmapRaw::map_raw(&file)?;
        // SAFETY: the mapping is as long as the file was just made, aligned to a page, and leaked, so that it lasts
        // for ever; atomics of any bytes are valid, and nobody but this process has the file (its name holds the
        // process's number, its mode keeps other users out, its lock other hosts).
        let crumbs = unsafe {
            let first = map.as_mut_ptr().add(HEADER_BYTES).cast::<Crumb>();
            std::slice::from_raw_parts(first.cast_const(), CRUMBS)
        };
        std::mem::forget(map);
        Ok(Trail { crumbs, path, _file: file })
    }

    /// A crumb for an instance.
    pub(super) fn take(&self, kind: Kind, id: &str) -> Option<&'static Crumb> {
        let free = |crumb: &&Crumb| {
            crumb.state.compare_exchange(FREE, IDLE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let crumb = self.crumbs.iter().find(free)?;
        crumb.kind.store(kind.number().into(), Ordering::Relaxed);
        let bytes = id.bytes().chain(std::iter::repeat(0));
        for (place, byte) in crumb.id.iter().zip(bytes) {
            place.store(byte, Ordering::Relaxed);
        }
        Some(crumb)
    }

    /// Nothing is left to be found.
    pub(super) fn remove(&self) {
        // Where it cannot be removed, the next start finds nobody in a call and removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The command and its folder, for people, cut to the header's length.
fn header() -> String {
    let folder = std::env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default();
    let command: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let line = |text: &str| text.replace('\n', " ").chars().take(400).collect::<String>();
    format!("{MAGIC}\nsapwood {}\n{}\n", line(&command.join(" ")), line(&folder))
}

impl Crumb {
    /// Marks a call for as long as it lasts.
    pub(super) fn during<T>(&'static self, call: Call, at: u64, work: impl FnOnce() -> T) -> T {
        self.begin(call, at);
        let result = work();
        self.end();
        result
    }

    /// A call begins.
    pub(super) fn begin(&'static self, call: Call, at: u64) {
        self.call.store(call as u64, Ordering::Relaxed);
        self.at.store(at, Ordering::Relaxed);
        self.began_ns.store(now_ns(), Ordering::Relaxed);
        self.state.store(IN_CALL, Ordering::Release);
        // The thread's storage may be gone where it ends; then it is in no call of ours.
        let _ = CURRENT.try_with(|current| current.set(Some(self)));
    }

    /// It is over.
    pub(super) fn end(&self) {
        let _ = CURRENT.try_with(|current| current.set(None));
        self.state.store(IDLE, Ordering::Release);
    }

    /// The instance is gone.
    pub(super) fn free(&self) {
        self.state.store(FREE, Ordering::Release);
    }

    /// Who is in a call here, if anybody is.
    pub(super) fn culprit(&self) -> Option<Culprit> {
        if self.state.load(Ordering::Acquire) != IN_CALL {
            return None;
        }
        let number = |field: &AtomicU64| field.load(Ordering::Relaxed);
        let id: Vec<u8> = self.id.iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
        culprit(number(&self.kind), number(&self.call), number(&self.at), &id)
    }

    /// When the call under way began; tells two calls apart.
    pub(super) fn began_ns(&self) -> u64 {
        self.began_ns.load(Ordering::Relaxed)
    }
}

/// From the numbers of a crumb; `None` where they make no sense.
fn culprit(kind: u64, call: u64, at: u64, id: &[u8]) -> Option<Culprit> {
    let end = id.iter().position(|&byte| byte == 0).unwrap_or(id.len());
    let id = std::str::from_utf8(&id[..end]).ok()?.to_owned();
    let kind = Kind::ALL.into_iter().find(|known| u64::from(known.number()) == kind)?;
    Some(Culprit { kind, id, call: Call::of_number(call)?, at })
}

/// Who was in a call when the process ended whose crumbs these are.
pub(super) fn in_calls(bytes: &[u8]) -> Vec<Culprit> {
    let number = |crumb: &[u8], index: usize| {
        crumb[8 * index..].first_chunk::<8>().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    };
    let crumbs = bytes.get(HEADER_BYTES..).unwrap_or_default().chunks_exact(CRUMB_BYTES);
    let left = crumbs.filter(|crumb| number(crumb, 0) == IN_CALL);
    left.filter_map(|crumb| culprit(number(crumb, 1), number(crumb, 2), number(crumb, 3), &crumb[40..]))
        .collect()
}
