//! Statistics of a few paired numbers: mean, t interval, exact sign-flip test, Holm's correction. What a
//! number means, and what is concluded from it, is the verdict's.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Fewer pairs than this support no conclusion.
pub(crate) const FEWEST_FOR_A_VERDICT: usize = 3;
/// Sign flips are counted out up to here, 2^20 of them.
const MOST_TO_FLIP: usize = 20;

/// Mean and spread of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Numbers in the sample.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (n − 1); `None` for one number.
    pub standard_deviation: Option<f64>,
    /// Two-sided 95 % t interval of the mean; `None` for one number.
    pub interval_95: Option<Interval>,
}

/// From low to high, both included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What paired differences say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedStatistics {
    /// Mean, spread and interval of the differences.
    pub summary: Summary,
    /// Half the interval's width: a smaller mean could not have been told from zero.
    pub smallest_visible: Option<f64>,
    /// Exact sign-flip permutation test, two-sided; `None` above 20 pairs.
    pub sign_flip: Option<SignFlip>,
    /// What to keep in mind, where the sample is small or too large.
    pub note: Option<String>,
}

/// Result of a sign-flip test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignFlip {
    /// Share of all sign patterns whose mean lies as far from zero as the observed one.
    pub p: f64,
    /// The smallest share that so many pairs can give.
    pub smallest_attainable_p: f64,
}

impl Interval {
    /// Whether a value lies in it.
    pub fn covers(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Mean and spread; `None` for no numbers.
pub fn summarize(sample: &[f64]) -> Option<Summary> {
    if sample.is_empty() {
        return None;
    }
    let n = sample.len() as f64;
    let mean = sample.iter().sum::<f64>() / n;
    let squares: f64 = sample.iter().map(|x| (x - mean).powi(2)).sum();
    let standard_deviation = (sample.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
    let interval_95 = standard_deviation.map(|deviation| {
        let half = t_975(n - 1.0) * deviation / n.sqrt();
        Interval { low: mean - half, high: mean + half }
    });
    Some(Summary { count: sample.len(), mean, standard_deviation, interval_95 })
}

/// What the differences say; `None` for no differences.
pub fn paired(differences: &[f64]) -> Option<PairedStatistics> {
    let summary = summarize(differences)?;
    let note = match summary.count {
        1 => Some("one pair: no interval, no verdict".into()),
        2 => {
            Some(format!("two pairs: the interval is only of record, a verdict needs {FEWEST_FOR_A_VERDICT}"))
        }
        n if n > MOST_TO_FLIP => Some(format!("more than {MOST_TO_FLIP} pairs: no sign-flip test")),
        _ => None,
    };
    Some(PairedStatistics {
        summary,
        smallest_visible: summary.interval_95.map(|interval| (interval.high - interval.low) / 2.0),
        sign_flip: sign_flip(differences),
        note,
    })
}

/// Holm's step-down correction over a family of tests; those without a p value are no members of it.
pub fn holm(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(usize, f64)> =
        p_values.iter().enumerate().filter_map(|(i, p)| Some((i, (*p)?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut corrected = vec![None; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, (i, p)) in order.iter().enumerate() {
        largest = largest.max(p * (order.len() - rank) as f64).min(1.0);
        corrected[*i] = Some(largest);
    }
    corrected
}

/// 97.5 % quantile of Student's t.
fn t_975(degrees_of_freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees_of_freedom)
        .expect("a sample of two or more has at least one degree of freedom")
        .inverse_cdf(0.975)
}

/// Counts all 2^n sign patterns, half of them by symmetry.
fn sign_flip(differences: &[f64]) -> Option<SignFlip> {
    if differences.is_empty() || differences.len() > MOST_TO_FLIP {
        return None;
    }
    let patterns = 1_u32 << (differences.len() - 1);
    let flipped_sum = |pattern: u32| -> f64 {
        differences.iter().enumerate().map(|(i, d)| if pattern >> i & 1 == 1 { -d } else { *d }).sum()
    };
    // Patterns that tie with the observed one differ from it by rounding only.
    let tolerance = 1e-9 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let observed = flipped_sum(0).abs() - tolerance;
    let as_far = (0..patterns).filter(|&pattern| flipped_sum(pattern).abs() >= observed).count();
    Some(SignFlip {
        p: as_far as f64 / f64::from(patterns),
        smallest_attainable_p: 1.0 / f64::from(patterns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1e-3)
    }

    /// Checks a sample against numbers of scipy (see below).
    #[track_caller]
    fn check(sample: &[f64], mean: f64, deviation: f64, low: f64, high: f64, p: f64) {
        let statistics = paired(sample).expect("a sample");
        let summary = statistics.summary;
        let interval = summary.interval_95.expect("two numbers or more");
        let flip = statistics.sign_flip.expect("at most 20 numbers");
        assert!(close(summary.mean, mean), "{summary:?}");
        assert!(close(summary.standard_deviation.expect("as above"), deviation), "{summary:?}");
        assert!(close(interval.low, low) && close(interval.high, high), "{interval:?}");
        assert!(close(statistics.smallest_visible.expect("as above"), (high - low) / 2.0), "{statistics:?}");
        assert!(close(flip.p, p), "{flip:?}");
    }

    /// 97.5 % quantiles: `scipy.stats.t.ppf(0.975, df)`, scipy 1.17.1.
    const QUANTILES: [(f64, f64); 6] = [
        (1.0, 12.706204736174694),
        (2.0, 4.302652729749462),
        (3.0, 3.1824463052837078),
        (4.0, 2.7764451051977934),
        (9.0, 2.262157162798205),
        (19.0, 2.0930240544083087),
    ];

    /// Numbers of scipy 1.17.1: `ttest_1samp(x, 0).confidence_interval(0.95)`, and
    /// `permutation_test((x,), numpy.mean, permutation_type="samples", n_resamples=inf).pvalue`.
    #[test]
    fn samples_agree_with_scipy() {
        check(
            &[0.0121, 0.0134, 0.0109],
            0.012133333333333335,
            0.001250333288900737,
            0.009027333258118194,
            0.015239333408548475,
            0.25,
        );
        check(
            &[-0.0031, 0.0012, -0.0054, 0.0007, -0.0022],
            -0.00176,
            0.0027409852243308426,
            -0.005163382672660075,
            0.0016433826726600755,
            0.25,
        );
        check(&[0.4, 0.7], 0.55, 0.21213203435596423, -1.3559307104262037, 2.4559307104262036, 0.5);
        check(
            &[0.011, 0.009, 0.013, -0.002, 0.0105, 0.0071, 0.0123, 0.0044],
            0.0081625,
            0.004975637073351942,
            0.0040027633082413494,
            0.01232223669175865,
            0.015625,
        );
    }

    /// statsmodels 0.15.0: `multipletests([0.01, 0.04, 0.03, 0.005], method="holm")[1]`, and of two that
    /// end at 1.
    #[test]
    fn holm_agrees_with_statsmodels() {
        let corrected = holm(&[Some(0.01), None, Some(0.04), Some(0.03), Some(0.005)]);
        let expected = [Some(0.03), None, Some(0.06), Some(0.06), Some(0.02)];
        for (ours, theirs) in corrected.iter().zip(expected) {
            assert!(close(ours.unwrap_or(-1.0), theirs.unwrap_or(-1.0)), "{corrected:?}");
        }
        assert_eq!(holm(&[Some(0.6), Some(0.7)]), [Some(1.0), Some(1.0)]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn quantiles_are_those_of_scipy() {
        for (degrees, quantile) in QUANTILES {
            assert!(close(t_975(degrees), quantile), "{degrees}: {} for {quantile}", t_975(degrees));
        }
    }

    #[test]
    fn small_samples_say_what_they_lack() {
        assert_eq!(paired(&[]), None);
        let one = paired(&[0.5]).expect("a sample");
        assert_eq!((one.summary.standard_deviation, one.summary.interval_95), (None, None));
        assert_eq!(one.smallest_visible, None);
        assert_eq!(one.note.as_deref(), Some("one pair: no interval, no verdict"));
        assert!(paired(&[0.5, 0.6]).expect("a sample").note.is_some());
        assert_eq!(paired(&[0.5, 0.6, 0.7]).expect("a sample").note, None);
    }

    #[test]
    fn the_smallest_attainable_p_stands_beside() {
        let smallest = |n: usize| sign_flip(&vec![1.0; n]).map(|flip| (flip.p, flip.smallest_attainable_p));
        assert_eq!(smallest(3), Some((0.25, 0.25)));
        assert_eq!(smallest(6), Some((0.03125, 0.03125)));
        assert_eq!(smallest(20), Some((2.0_f64.powi(-19), 2.0_f64.powi(-19))));
        assert_eq!(smallest(21), None);
        assert_eq!(sign_flip(&[0.0, 0.0, 0.0]).map(|flip| flip.p), Some(1.0));
    }

    #[test]
    fn ties_are_counted_in_spite_of_rounding() {
        // 0.1 + 0.2 - 0.3 is 5.6e-17: four of the eight patterns tie with it or lie above, and all do.
        assert_eq!(sign_flip(&[0.1, 0.2, -0.3]).map(|flip| flip.p), Some(1.0));
        // Exchanging the two first signs ties: 6 of 8 patterns give 0.2 or more.
        assert_eq!(sign_flip(&[0.3, 0.1, -0.2]).map(|flip| flip.p), Some(0.75));
    }
}
