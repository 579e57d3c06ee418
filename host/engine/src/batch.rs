//! The token ids that one optimizer step, or one evaluation, reads.

use crate::Tokens;

/// Rows of token ids, shape `[sequences, length + 1]`, row-major: inputs are the first `length` of a
/// row, targets the last `length`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    rows: Vec<u32>,
    sequences: usize,
    length: usize,
}

impl TokenBatch {
    /// Takes `sequences` rows of `length + 1` ids each.
    ///
    /// # Panics
    /// When `rows` has another number of ids, or a row would hold no target: the data layer cuts
    /// the rows, so anything else is a mistake of ours.
    pub fn new(rows: Vec<u32>, sequences: usize, length: usize) -> TokenBatch {
        assert!(length > 0, "a row needs at least one target");
        assert_eq!(rows.len(), sequences * (length + 1), "rows must be [sequences, length + 1]");
        TokenBatch { rows, sequences, length }
    }

    /// The same tokens in rows of so many targets each, every row cut into several.
    ///
    /// # Panics
    /// When that does not divide the length of a row.
    pub fn cut(&self, length: usize) -> TokenBatch {
        assert!(
            length > 0 && self.length.is_multiple_of(length),
            "{length} divides no row of {}",
            self.length
        );
        let pieces = |row: &[u32]| -> Vec<u32> {
            (0..row.len() - 1)
                .step_by(length)
                .flat_map(|first| row[first..=first + length].to_vec())
                .collect()
        };
        let rows = self.row_range(0, self.sequences).flat_map(pieces).collect();
        TokenBatch::new(rows, self.sequences * (self.length / length), length)
    }

    /// Number of rows.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Targets in a row.
    pub fn length(&self) -> usize {
        self.length
    }

    /// All targets of the batch.
    pub fn tokens(&self) -> Tokens {
        Tokens((self.sequences * self.length) as u64)
    }

    /// All ids, `[sequences, length + 1]`.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Inputs of rows `first..first + count`, `[count, length]`.
    pub fn inputs(&self, first: usize, count: usize) -> impl Iterator<Item = u32> + '_ {
        self.row_range(first, count).flat_map(|row| row[..row.len() - 1].iter().copied())
    }

    /// Targets of rows `first..first + count`, `[count, length]`.
    pub fn targets(&self, first: usize, count: usize) -> impl Iterator<Item = u32> + '_ {
        self.row_range(first, count).flat_map(|row| row[1..].iter().copied())
    }

    /// The first id that a vocabulary of this size does not have, if any.
    pub fn first_outside(&self, vocabulary: usize) -> Option<u32> {
        self.rows.iter().copied().find(|&id| id as usize >= vocabulary)
    }

    fn row_range(&self, first: usize, count: usize) -> impl Iterator<Item = &[u32]> {
        let width = self.length + 1;
        self.rows[first * width..(first + count) * width].chunks_exact(width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_rows_hold_the_same_targets_after_the_same_inputs() {
        let whole = TokenBatch::new((0..14).collect(), 2, 6);
        let cut = whole.cut(3);
        assert_eq!((cut.sequences(), cut.length()), (4, 3));
        assert_eq!(cut.rows(), [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 10, 11, 12, 13]);
        assert!(cut.inputs(0, 4).eq(whole.inputs(0, 2)) && cut.targets(0, 4).eq(whole.targets(0, 2)));
        assert_eq!(whole.cut(6), whole);
    }
}
