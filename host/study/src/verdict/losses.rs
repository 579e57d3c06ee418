//! How far an arm ends from the baseline, at equal tokens and at equal compute: paired differences of validation loss, and what they
//! come to. What is said of that stands in `outcome.rs` and `sentence.rs`.

use engine::Tokens;
use serde::Serialize;

use super::pair::{BySeed, LEAST_SHARE_OF_BUDGET, LeftOut, NoPair, Pair, check_batches, pair};
use super::runs::Runs;
use super::{ArmPlan, Outcome, rounding};
use crate::evidence::curve::EvaluationPoint;
use crate::verdict::statistics::{Equivalence, FEWEST_FOR_A_VERDICT, PairedStatistics, equivalence, paired};

/// Paired differences of validation loss, arm − baseline: negative is better.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossDifference {
    /// The pairs.
    pub pairs: Vec<LossPair>,
    /// Seeds in which the arm diverged.
    pub diverged_seeds: Vec<u64>,
    /// Seeds without a pair, each with the reason.
    pub left_out: Vec<LeftOut>,
    /// What the differences say; `None` where there is no pair.
    pub statistics: Option<PairedStatistics>,
    /// The sign-flip p after Holm's correction over the arms.
    pub holm_p: Option<f64>,
    /// Arms that were corrected over.
    pub holm_family: usize,
    /// Whether it is equal within the study's margin; `None` where the study states none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equivalence: Option<Equivalence>,
    /// What it comes to.
    pub outcome: Outcome,
}

/// One seed of both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossPair {
    /// The seed.
    pub seed: u64,
    /// The baseline's final loss.
    pub baseline_loss: f64,
    /// The arm's at the point that is compared.
    pub arm_loss: f64,
    /// Arm − baseline.
    pub difference: f64,
    /// Tokens that the arm had trained on there.
    pub arm_tokens: Tokens,
    /// Its exact FLOPs there, as a share of the baseline's.
    pub share_of_baseline_flops: f64,
    /// Tokens up to which the same batches are proved; `None` where no evaluation is in common.
    pub same_batches_until: Option<Tokens>,
}

impl LossDifference {
    /// The sign-flip p, uncorrected.
    pub fn p(&self) -> Option<f64> {
        Some(self.statistics.as_ref()?.sign_flip?.p)
    }
}

/// At the tokens at which the baseline ends; `None` where that is not planned.
pub(super) fn at_equal_tokens(runs: &Runs<'_>, plan: &ArmPlan) -> Option<LossDifference> {
    let budget = plan.token_matched.as_ref()?;
    Some(difference(runs, |seed| after_as_many_tokens(&pair(runs, plan, budget, seed)?)))
}

/// At the exact FLOPs at which the baseline ends; `None` where that is not planned.
pub(super) fn at_equal_compute(runs: &Runs<'_>, plan: &ArmPlan) -> Option<LossDifference> {
    let budget = plan.compute_matched.as_ref()?;
    Some(difference(runs, |seed| for_as_many_flops(&pair(runs, plan, budget, seed)?)))
}

fn difference(runs: &Runs<'_>, compare: impl Fn(u64) -> Result<LossPair, NoPair>) -> LossDifference {
    let BySeed { compared: pairs, diverged_seeds, left_out } = BySeed::of(runs, compare);
    let differences: Vec<f64> = pairs.iter().map(|pair| pair.difference).collect();
    let statistics = paired(&differences);
    let equivalence = runs.equal_within_nats().and_then(|margin| equivalence(&differences, margin));
    let outcome = match &statistics {
        _ if !diverged_seeds.is_empty() => Outcome::Diverged,
        None => Outcome::NotCompared,
        Some(statistics) => outcome(statistics, equivalence),
    };
    let (holm_p, holm_family) = (None, 0);
    LossDifference { pairs, diverged_seeds, left_out, statistics, holm_p, holm_family, equivalence, outcome }
}

fn outcome(statistics: &PairedStatistics, equivalence: Option<Equivalence>) -> Outcome {
    match statistics.summary.interval_95 {
        Some(interval) if statistics.summary.count >= FEWEST_FOR_A_VERDICT => match () {
            () if interval.covers(0.0) && equivalence.is_some_and(|test| test.is_shown()) => Outcome::Equal,
            () if interval.covers(0.0) => Outcome::Inconclusive,
            () if interval.high < 0.0 => Outcome::Better,
            () => Outcome::Worse,
        },
        _ => Outcome::TooFewSeeds,
    }
}

fn after_as_many_tokens(pair: &Pair<'_>) -> Result<LossPair, NoPair> {
    let Some(point) = pair.arm.at_tokens(pair.goal.tokens) else {
        let reason = format!("no evaluation after {} tokens, where the baseline ends", pair.goal.tokens);
        return Err(pair.unless_diverged(reason));
    };
    pair.check_finite(point)?;
    check_batches(pair.goal, point)?;
    Ok(pair.losses(point, Some(point.tokens)))
}

fn for_as_many_flops(pair: &Pair<'_>) -> Result<LossPair, NoPair> {
    let budget = pair.goal.flops;
    let Some(point) = pair.arm.last_within(budget) else {
        return Err(
            pair.unless_diverged("not reached: its first evaluation cost more than the baseline".into())
        );
    };
    pair.check_finite(point)?;
    let used = pair.share(point.flops);
    // A baseline that cost nothing has no share that could be used.
    if used.is_nan() || used < LEAST_SHARE_OF_BUDGET {
        return Err(pair.unless_diverged(format!(
            "not reached: it used {} of the baseline's exact FLOPs, at least {} are required",
            rounding::percent(used),
            rounding::percent(LEAST_SHARE_OF_BUDGET),
        )));
    }
    Ok(pair.losses(point, pair.same_batches()?))
}

impl Pair<'_> {
    fn losses(&self, point: &EvaluationPoint, same_batches_until: Option<Tokens>) -> LossPair {
        LossPair {
            seed: self.seed,
            baseline_loss: self.goal.loss_nats_per_token,
            arm_loss: point.loss_nats_per_token,
            difference: point.loss_nats_per_token - self.goal.loss_nats_per_token,
            arm_tokens: point.tokens,
            share_of_baseline_flops: self.share(point.flops),
            same_batches_until,
        }
    }
}
