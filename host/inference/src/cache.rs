//! Keys and values of tokens that have been read, so that what follows need not read them again.

/// Keys and values of tokens that have been read, of every block.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// Keys and values of each block, `[len, A]` with `A` the width of all heads.
    pub(crate) blocks: Vec<[Vec<f32>; 2]>,
    pub(crate) len: usize,
}

impl Cache {
    /// Tokens that it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds what was read after it.
    pub fn append(&mut self, after: Cache) {
        if self.is_empty() {
            *self = after;
            return;
        }
        for (to, from) in self.blocks.iter_mut().zip(after.blocks) {
            to.iter_mut().zip(from).for_each(|(to, from)| to.extend(from));
        }
        self.len += after.len;
    }
}

/// Tokens to read, after what is in a cache; several pieces may share one.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// What comes before.
    pub prefix: Option<&'a Cache>,
    /// What is read now; at least one token.
    pub tokens: &'a [u32],
}

impl Piece<'_> {
    /// Tokens before it.
    pub(crate) fn before(&self) -> usize {
        self.prefix.map_or(0, Cache::len)
    }
}
