//! Memory of the emulated device, with guards at both ends. Not here: who writes to it.

use std::cell::UnsafeCell;

/// Numbers of a guard.
const GUARD: usize = 32;
/// No float that a kernel would write.
const MARK: u64 = 0xdead_beef_dead_beef;

/// A piece of it.
pub(crate) struct Memory {
    /// Kernels write through pointers, also where the driver holds a shared reference for the time of a launch.
    words: Box<[UnsafeCell<u64>]>,
    bytes: usize,
}

// SAFETY: one launch runs at a time, and nobody else looks at the memory while it does.
unsafe impl Send for Memory {}

impl Memory {
    pub(crate) fn zeros(bytes: usize) -> Memory {
        let inside = bytes.div_ceil(8);
        let guard = std::iter::repeat_n(MARK, GUARD);
        let words = guard.clone().chain(std::iter::repeat_n(0, inside)).chain(guard);
        let mut memory = Memory { words: words.map(UnsafeCell::new).collect(), bytes };
        // What the last word has beyond the end is guarded too.
        for at in 8 * GUARD + bytes..8 * (GUARD + inside) {
            memory.all_mut()[at] = MARK.to_le_bytes()[at % 8];
        }
        memory
    }

    pub(crate) fn address(&self) -> u64 {
        self.words[GUARD].get() as u64
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.all()[8 * GUARD..][..self.bytes]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let bytes = self.bytes;
        &mut self.all_mut()[8 * GUARD..][..bytes]
    }

    /// Whether both guards are as they were.
    pub(crate) fn is_intact(&self) -> bool {
        let (all, end) = (self.all(), 8 * GUARD + self.bytes);
        let mark = |(i, byte): (usize, &u8)| *byte == MARK.to_le_bytes()[i % 8];
        let before = all[..8 * GUARD].iter().enumerate().all(mark);
        before && all.iter().enumerate().skip(end).all(mark)
    }

    fn all(&self) -> &[u8] {
        // SAFETY: so many bytes lie there, and nobody writes to them while they are looked at: no launch is under way.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), 8 * self.words.len()) }
    }

    fn all_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `all`, and nobody else holds a reference.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), 8 * self.words.len()) }
    }
}
