//! A flat array of f32 that starts on a cache line. Not here: who writes which part of it.

use std::ops::{Deref, DerefMut};

/// Elements in a cache line, which is also the widest vector register.
const LINE: usize = 16;

/// The CPU's buffer.
#[derive(Debug)]
pub struct Buffer {
    values: Vec<f32>,
    first: usize,
    len: usize,
}

impl Buffer {
    /// Zeros; fresh pages of the system are zero already and take no memory before they are written.
    pub(crate) fn zeros(len: usize) -> Buffer {
        let values = vec![0.0f32; len + LINE];
        let first = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Buffer { values, first, len }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[self.first..self.first + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.first..self.first + self.len]
    }
}
