//! In which order the parts of a mixture take turns: a pure function of the place in the stream, so that a run can
//! go on from any place. Which window of a part comes next is decided elsewhere.

use crate::DataError;

/// What all shares add up to, about.
const WHOLE: f64 = (1_u64 << 32) as f64;

/// How parts take turns. After any number of windows each part has had its share, to within about one window a part.
#[derive(Debug)]
pub(crate) struct Mix {
    shares: Vec<u64>,
}

impl Mix {
    /// Shares in proportion to weights. Whole numbers, so that every machine mixes alike.
    pub(crate) fn new(weights: &[f64]) -> Result<Mix, DataError> {
        let refused = |part: usize| DataError::Weight { part, weight: weights[part] };
        // Each by itself first: a negative one would make others look wrong.
        if let Some(part) = weights.iter().position(|weight| !weight.is_finite() || *weight <= 0.0) {
            return Err(refused(part));
        }
        let sum: f64 = weights.iter().sum();
        let share = |(part, weight): (usize, &f64)| match (weight / sum * WHOLE).round() {
            share if share >= 1.0 => Ok(share as u64),
            _ => Err(refused(part)),
        };
        Ok(Mix { shares: weights.iter().enumerate().map(share).collect::<Result<_, _>>()? })
    }

    /// One part and no other.
    pub(crate) fn of_one() -> Mix {
        Mix { shares: vec![1] }
    }

    /// Which part has the window at that place of the stream, and how many the part has had before.
    pub(crate) fn at(&self, place: u64) -> (usize, u64) {
        let (mut before, mut after) = (place, place + 1);
        let mut rest: u64 = self.shares.iter().sum();
        for (part, &share) in self.shares.iter().enumerate() {
            let (taken, taken_then) = (taken(before, share, rest), taken(after, share, rest));
            if taken_then > taken {
                return (part, taken);
            }
            (before, after) = (before - taken, after - taken_then);
            rest -= share;
        }
        unreachable!("the last part takes all that the others leave");
    }

    /// How many of so many windows each part has.
    pub(crate) fn counts(&self, windows: u64) -> Vec<u64> {
        let mut left = windows;
        let mut rest: u64 = self.shares.iter().sum();
        let count = |&share: &u64| {
            let taken = taken(left, share, rest);
            (left, rest) = (left - taken, rest - share);
            taken
        };
        self.shares.iter().map(count).collect()
    }

    /// Windows of the stream after which a part of so many has been read once.
    pub(crate) fn until_read(&self, part: usize, windows: u64) -> u64 {
        let whole: u64 = self.shares.iter().sum();
        (u128::from(windows) * u128::from(whole) / u128::from(self.shares[part])) as u64
    }

    /// The share of a part.
    pub(crate) fn fraction(&self, part: usize) -> f64 {
        self.shares[part] as f64 / self.shares.iter().sum::<u64>() as f64
    }
}

/// Of so many windows, those of a part with `share` of `rest`, to the nearest.
fn taken(windows: u64, share: u64, rest: u64) -> u64 {
    let (windows, share, rest) = (u128::from(windows), u128::from(share), u128::from(rest));
    ((2 * windows * share + rest) / (2 * rest)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_take_turns_by_weight_and_none_skips_a_window() {
        let mix = Mix::new(&[0.5, 0.3, 0.2]).expect("three shares");
        let turns: Vec<usize> = (0..10).map(|place| mix.at(place).0).collect();
        assert_eq!(turns, [0, 1, 0, 2, 0, 1, 0, 2, 0, 1]);
        let mut had = [0_u64; 3];
        for place in 0..10_000 {
            let (part, before) = mix.at(place);
            assert_eq!(before, had[part], "place {place}");
            had[part] += 1;
            assert_eq!(mix.counts(place + 1), had, "place {place}");
        }
        assert_eq!(had, [5000, 3000, 2000]);
    }

    #[test]
    fn shares_hold_far_out_in_the_stream() {
        let mix = Mix::new(&[1.0, 1e-6]).expect("two shares");
        let far = 1 << 60;
        let counts = mix.counts(far);
        assert_eq!(counts.iter().sum::<u64>(), far);
        let (part, before) = mix.at(far);
        assert_eq!(before, counts[part]);
    }

    #[test]
    fn one_part_has_every_window() {
        assert_eq!(Mix::of_one().at(41), (0, 41));
        assert_eq!(Mix::of_one().counts(41), [41]);
    }

    #[test]
    fn weights_that_are_none_are_refused() {
        for second in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-12] {
            let refused = Mix::new(&[0.7, second]);
            assert!(matches!(refused, Err(DataError::Weight { part: 1, .. })), "{second}: {refused:?}");
        }
        assert!(matches!(Mix::new(&[1e308, 1e308]), Err(DataError::Weight { .. })), "their sum is no number");
    }
}
