//! Statistics of a few paired numbers: mean, t interval, exact sign-flip test, Holm's correction, a test for equivalence.
//! What a number means, and what is concluded from it, is the verdict's.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Fewer pairs than this support no conclusion.
pub(crate) const FEWEST_FOR_A_VERDICT: usize = 3;
/// Sign flips are counted out up to here, 2^20 of them.
const MOST_TO_FLIP: usize = 20;

/// Mean and spread of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What paired differences say.
#[derive(Clone, Debug, PartialEq, Serialize)]
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

/// Result of a test for equivalence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Equivalence {
    /// What counts as equal: a mean no further than this from zero.
    pub margin: f64,
    /// The larger p of two one-sided t tests, that the mean lies above `-margin` and below `margin` (TOST, Schuirmann 1987,
    /// Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680).
    pub p: f64,
}

impl Equivalence {
    /// Whether the mean is shown to lie within the margin, at 5 %.
    pub fn is_shown(&self) -> bool {
        self.p < 0.05
    }
}

/// Result of a sign-flip test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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

/// Whether the mean is shown to lie within `margin` of zero; `None` for fewer than two numbers.
pub(crate) fn equivalence(sample: &[f64], margin: f64) -> Option<Equivalence> {
    let summary = summarize(sample)?;
    let standard_error = summary.standard_deviation? / (summary.count as f64).sqrt();
    // The nearer side decides. Without any spread nothing is left to chance.
    let room = margin - summary.mean.abs();
    let p = match standard_error > 0.0 {
        true => student(summary.count as f64 - 1.0).sf(room / standard_error),
        false if room > 0.0 => 0.0,
        false => 1.0,
    };
    Some(Equivalence { margin, p })
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
    student(degrees_of_freedom).inverse_cdf(0.975)
}

fn student(degrees_of_freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, degrees_of_freedom)
        .expect("a sample of two or more has at least one degree of freedom")
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
    use serde_json::Value;

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1e-3)
    }

    /// What SciPy says (`tests/golden/statistics/make_golden.py`).
    fn golden() -> Value {
        serde_json::from_str(include_str!("../../../../tests/golden/statistics/golden.json")).expect("JSON")
    }

    fn numbers(list: &Value) -> Vec<f64> {
        list.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
    }

    #[test]
    fn samples_agree_with_scipy() {
        let golden = golden();
        let cases = golden["cases"].as_array().expect("cases");
        for case in cases {
            let sample = numbers(&case["sample"]);
            let statistics = paired(&sample).expect("a sample");
            let summary = statistics.summary;
            let interval = summary.interval_95.expect("two numbers or more");
            let flip = statistics.sign_flip.expect("at most 20 numbers");
            let margin = case["margin"].as_f64().expect("a number");
            let equivalence = equivalence(&sample, margin).expect("two numbers or more");
            let [low, high] = numbers(&case["interval_95"])[..] else { panic!("two ends") };
            for (what, ours, theirs) in [
                ("mean", summary.mean, &case["mean"]),
                ("deviation", summary.standard_deviation.expect("as above"), &case["standard_deviation"]),
                ("low", interval.low, &case["interval_95"][0]),
                ("high", interval.high, &case["interval_95"][1]),
                ("visible", statistics.smallest_visible.expect("as above"), &Value::from((high - low) / 2.0)),
                ("sign flip", flip.p, &case["sign_flip_p"]),
                ("equivalence", equivalence.p, &case["equivalence_p"]),
            ] {
                let theirs = theirs.as_f64().expect("a number");
                assert!(close(ours, theirs), "{what} of {sample:?}: {ours}, SciPy has {theirs}");
            }
        }
        assert_eq!(cases.len(), 50);
    }

    #[test]
    fn what_does_not_spread_is_equal_or_not_without_a_doubt() {
        assert_eq!(equivalence(&[0.01; 4], 0.02).map(|test| (test.p, test.is_shown())), Some((0.0, true)));
        assert_eq!(equivalence(&[0.01; 4], 0.01).map(|test| (test.p, test.is_shown())), Some((1.0, false)));
        assert_eq!(equivalence(&[0.01], 0.02), None);
    }

    #[test]
    fn families_agree_with_holms_definition() {
        for family in golden()["families"].as_array().expect("families") {
            let p: Vec<Option<f64>> = numbers(&family["p"]).into_iter().map(Some).collect();
            for (ours, theirs) in holm(&p).into_iter().zip(numbers(&family["holm"])) {
                assert!(close(ours.expect("a member"), theirs), "{family}: {ours:?} for {theirs}");
            }
        }
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
        for pair in golden()["t_975"].as_array().expect("pairs") {
            let [degrees, quantile] = numbers(pair)[..] else { panic!("a pair") };
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
