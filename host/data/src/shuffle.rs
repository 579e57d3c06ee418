//! The order of windows in an epoch: a permutation that depends on seed and epoch alone. Not here: what
//! a window is, and what a batch reads.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Runs of several seeds share a corpus, and each reads from one epoch, or two at its border. Four bytes
/// a window: 39 MiB each for 10 billion tokens at a context of 1024.
const PERMUTATIONS_KEPT: usize = 8;

/// Permutations of so many windows.
#[derive(Debug)]
pub(crate) struct Shuffle {
    /// Which part of a mixture: parts of the same length must not go in step.
    part: usize,
    windows: u32,
    /// The last used ones, most recent last. Only spares work: what is not here is drawn again.
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    seed: u64,
    epoch: u64,
    permutation: Arc<[u32]>,
}

impl Shuffle {
    pub(crate) fn new(part: usize, windows: u32) -> Shuffle {
        Shuffle { part, windows, kept: Mutex::new(Vec::new()) }
    }

    /// The windows of an epoch, in the order in which they are read.
    pub(crate) fn epoch(&self, seed: u64, epoch: u64) -> Arc<[u32]> {
        if let Some(permutation) = self.find(seed, epoch) {
            return permutation;
        }
        // Drawn outside the lock: other runs go on meanwhile. Two may draw the same; both are right.
        let permutation: Arc<[u32]> = permute(self.windows, self.part, seed, epoch).into();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == PERMUTATIONS_KEPT {
            kept.remove(0);
        }
        kept.push(Kept { seed, epoch, permutation: permutation.clone() });
        permutation
    }

    fn find(&self, seed: u64, epoch: u64) -> Option<Arc<[u32]>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|kept| (kept.seed, kept.epoch) == (seed, epoch))?;
        let used = kept.remove(found);
        let permutation = used.permutation.clone();
        kept.push(used);
        Some(permutation)
    }
}

/// Fisher–Yates, written out here and pinned by a test: a result's data order must not change with the
/// version of a library.
fn permute(windows: u32, part: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut key = *b"seed....epoch...order of windows";
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    // The first part is mixed as data that is no mixture.
    key[24..].iter_mut().zip((part as u64).to_le_bytes()).for_each(|(byte, of_part)| *byte ^= of_part);
    let mut random = ChaCha8Rng::from_seed(key);
    let mut permutation: Vec<u32> = (0..windows).collect();
    for last in (1..windows).rev() {
        let other = below(&mut random, last + 1);
        permutation.swap(last as usize, other as usize);
    }
    permutation
}

/// Uniform in `0..bound`, without the bias of a remainder (Lemire's method).
fn below(random: &mut ChaCha8Rng, bound: u32) -> u32 {
    let refused_below = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(random.next_u32()) * u64::from(bound);
        if product as u32 >= refused_below {
            return (product >> 32) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_and_seed_has_its_own_permutation() {
        let shuffle = Shuffle::new(0, 1000);
        let first = shuffle.epoch(7, 0);
        let mut sorted = first.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        assert_ne!(first, shuffle.epoch(7, 1));
        assert_ne!(first, shuffle.epoch(8, 0));
        assert_ne!(first, Shuffle::new(1, 1000).epoch(7, 0));
    }

    #[test]
    fn what_was_forgotten_is_drawn_again_the_same() {
        let shuffle = Shuffle::new(0, 100);
        let first = shuffle.epoch(1, 0);
        for epoch in 1..=PERMUTATIONS_KEPT as u64 {
            shuffle.epoch(1, epoch);
        }
        assert!(shuffle.find(1, 0).is_none());
        assert_eq!(first, shuffle.epoch(1, 0));
    }

    /// The numbers come from ChaCha8 and Fisher–Yates written out in Python, not from this code.
    #[test]
    fn the_order_stays_what_it_was_in_published_results() {
        assert_eq!(permute(12, 0, 1, 0), [2, 4, 3, 0, 7, 11, 5, 1, 9, 6, 10, 8]);
        assert_eq!(permute(12, 0, 1, 1), [9, 7, 2, 3, 5, 11, 1, 4, 6, 0, 10, 8]);
        let longer = permute(200, 0, 9, 3);
        assert_eq!(longer[..5], [178, 88, 69, 179, 2]);
        assert_eq!(longer[195..], [190, 83, 89, 5, 98]);
    }

    #[test]
    fn draws_are_even() {
        let mut random = ChaCha8Rng::from_seed([3; 32]);
        let mut seen = [0_u32; 6];
        for _ in 0..60_000 {
            seen[below(&mut random, 6) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (9_600..10_400).contains(&count)), "{seen:?}");
    }
}
