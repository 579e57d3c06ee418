//! A buffer that several threads write at once, each its own part. Not here: how it is cut.
#![allow(unsafe_code)]

use std::marker::PhantomData;

/// Hands out parts of a slice; whoever asks for one answers for it that no other overlaps it.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    start: *mut f32,
    len: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, which may move between threads; `part` and `at` state what makes
// sharing it sound.
unsafe impl Send for Parts<'_> {}
// SAFETY: as above.
unsafe impl Sync for Parts<'_> {}

impl<'a> Parts<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Parts<'a> {
        Parts { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// While it lives, no other part or pointer into it is used.
    #[expect(clippy::mut_from_ref, reason = "that is what it is for; see its condition")]
    pub(crate) unsafe fn part(&self, first: usize, len: usize) -> &mut [f32] {
        assert!(first + len <= self.len, "a part lies within its slice");
        // SAFETY: it lies within the slice; the caller promises that it is the only one there.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), len) }
    }

    /// A pointer to where a strided tile of the slice starts, after a check that it ends inside.
    pub(crate) fn tile(&self, first: usize, rows: usize, columns: usize, stride: usize) -> *mut f32 {
        assert!(
            rows > 0 && first + (rows - 1) * stride + columns <= self.len,
            "a tile lies within its slice"
        );
        self.start.wrapping_add(first)
    }
}
