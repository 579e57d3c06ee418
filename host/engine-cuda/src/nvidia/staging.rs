//! Pinned memory that bytes pass through on their way to the GPU and back, so that the host waits for neither. Not here: the copies
//! (stream.rs).

use std::collections::VecDeque;

use engine::EngineError;

use super::stream::Pinned;

/// More of them than a step has copies, so that the next step's batch is written while the GPU still reads this one's.
const MOST: usize = 8;
/// Least bytes of one.
const LEAST_BYTES: usize = 4 << 10;

/// What is not in use by the host; the one that the GPU was asked for first comes first.
#[derive(Default)]
pub(super) struct Staging {
    spare: VecDeque<Pinned>,
}

impl Staging {
    /// One for so many bytes, which the GPU is done with. The context has to be current.
    pub(super) fn take(&mut self, bytes: usize) -> Result<Pinned, EngineError> {
        let fits = |pinned: &Pinned| pinned.bytes() >= bytes;
        let oldest = self.spare.iter().position(fits);
        let is_full = self.spare.len() >= MOST;
        if let Some(pinned) = oldest.filter(|&at| is_full || self.spare[at].is_idle()) {
            let pinned = self.spare.remove(pinned).expect("it was just found");
            pinned.wait()?;
            return Ok(pinned);
        }
        if is_full {
            self.spare.pop_front();
        }
        Pinned::new(bytes.next_power_of_two().max(LEAST_BYTES))
    }

    /// Whether the GPU is done with it or not.
    pub(super) fn give_back(&mut self, pinned: Pinned) {
        self.spare.push_back(pinned);
    }
}
