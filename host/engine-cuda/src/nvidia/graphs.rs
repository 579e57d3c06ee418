//! Sequences of calls that come again and again, as CUDA graphs: one launch in place of hundreds. A graph's key is the very
//! sequence with every argument, so that it needs no other thing to be told when depth, trainable set or measures change. Not here:
//! where a sequence begins and ends.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use cudarc::driver::result::{graph, stream as capture};
use cudarc::driver::sys;
use engine::{EngineError, GraphCounts};

use super::calls::Call;
use super::machine::failed;
use super::product::Products;
use super::stream::Stream;

/// Fewer calls gain nothing from being one.
const LEAST_CALLS: usize = 16;
/// Graphs that are held: a phase has one, or a few where its last micro-batch is shorter, or an evaluation comes often.
const MOST_HELD: usize = 16;
/// A graph is given up once so many sequences have come since it was last used, and not before: where more of them take turns than are
/// held, each would be made anew whenever it comes.
const LEAST_IDLE: u64 = 64;
/// Sequences that are remembered to have come once. What changes with every step, as where blocks are left out at random, comes once.
const MOST_SEEN: usize = 64;

/// All graphs of a queue.
pub(super) struct Graphs {
    held: Vec<Held>,
    /// Of sequences that came once; the oldest comes first.
    seen: VecDeque<u64>,
    uses: u64,
    /// Where a capture has failed, calls are made one by one from then on.
    is_off: bool,
    counts: GraphCounts,
}

struct Held {
    calls: Vec<Call>,
    hash: u64,
    executable: sys::CUgraphExec,
    last_use: u64,
}

// SAFETY: handles of the driver's may be used by any thread in which their context is current.
unsafe impl Send for Held {}

impl Graphs {
    pub(super) fn new() -> Graphs {
        let (held, seen) = (Vec::new(), VecDeque::new());
        Graphs { held, seen, uses: 0, is_off: false, counts: GraphCounts::default() }
    }

    pub(super) fn counts(&self) -> GraphCounts {
        self.counts
    }

    /// Has the stream do all of them in their order. The context has to be current.
    pub(super) fn run(
        &mut self,
        calls: Vec<Call>,
        stream: &Stream,
        products: &Products,
    ) -> Result<(), EngineError> {
        if calls.len() < LEAST_CALLS || self.is_off {
            return self.issue(&calls, stream, products);
        }
        let hash = hash(&calls);
        self.uses += 1;
        let held = self.held.iter_mut().find(|held| held.hash == hash && held.calls == calls);
        if let Some(held) = held {
            held.last_use = self.uses;
            let executable = held.executable;
            return self.launch(executable, stream);
        }
        if !self.seen.contains(&hash) {
            self.seen.push_back(hash);
            if self.seen.len() > MOST_SEEN {
                self.seen.pop_front();
            }
            return self.issue(&calls, stream, products);
        }
        if !self.has_room() {
            return self.issue(&calls, stream, products);
        }
        let Ok(executable) = captured(&calls, stream, products) else {
            self.is_off = true;
            return self.issue(&calls, stream, products);
        };
        self.counts.captured += 1;
        self.held.push(Held { calls, hash, executable, last_use: self.uses });
        self.launch(executable, stream)
    }

    fn issue(&mut self, calls: &[Call], stream: &Stream, products: &Products) -> Result<(), EngineError> {
        self.counts.issued += 1;
        calls.iter().try_for_each(|call| call.issue(stream, products))
    }

    fn launch(&mut self, executable: sys::CUgraphExec, stream: &Stream) -> Result<(), EngineError> {
        self.counts.launched += 1;
        // SAFETY: the graph is held, and what its calls read and write is there: the same calls were just made of it.
        unsafe { graph::launch(executable, stream.raw()) }.map_err(|error| failed("launch a graph", error))
    }

    /// Whether another can be held; where there are many, the one that was not used for longest goes.
    fn has_room(&mut self) -> bool {
        if self.held.len() < MOST_HELD {
            return true;
        }
        let oldest = self.held.iter().enumerate().min_by_key(|(_, held)| held.last_use);
        let idle = oldest.filter(|(_, held)| self.uses - held.last_use >= LEAST_IDLE);
        let Some((at, _)) = idle else { return false };
        self.held.swap_remove(at);
        self.counts.dropped += 1;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: it was made once; where it still runs, the driver keeps what it needs until it is done.
        let _ = unsafe { graph::exec_destroy(self.executable) };
    }
}

fn hash(calls: &[Call]) -> u64 {
    let mut hasher = DefaultHasher::new();
    calls.hash(&mut hasher);
    hasher.finish()
}

/// The calls as a graph; none of them has been done then.
fn captured(calls: &[Call], stream: &Stream, products: &Products) -> Result<sys::CUgraphExec, EngineError> {
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    // SAFETY: the stream is there; so below.
    unsafe { capture::begin_capture(stream.raw(), mode) }.map_err(|error| failed("begin a graph", error))?;
    let issued = calls.iter().try_for_each(|call| call.issue(stream, products));
    // The capture has to end whatever has become of the calls.
    // SAFETY: it was begun.
    let template = unsafe { capture::end_capture(stream.raw()) };
    let template = template.map_err(|error| failed("end a graph", error))?;
    // SAFETY: the template was just made, and is not needed once it is instantiated.
    let executable = unsafe {
        let executable = graph::instantiate(template, sys::CUgraphInstantiate_flags(0));
        let _ = graph::destroy(template);
        executable
    };
    let executable = executable.map_err(|error| failed("make a graph", error))?;
    if issued.is_err() {
        // SAFETY: it was just made, and nobody has launched it.
        let _ = unsafe { graph::exec_destroy(executable) };
    }
    issued.map(|()| executable)
}
