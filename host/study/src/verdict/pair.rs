//! One seed of the arm and of the baseline: the same initial model and, shown by the hash of the batches, the same data. What is
//! compared of the two stands in a file for each comparison.

use engine::{Flops, Tokens};
use serde::Serialize;

use super::ArmPlan;
use super::runs::{Run, Runs};
use crate::evidence::curve::{EvaluationPoint, RunCurve};

/// A run that has used less of the baseline's compute is not compared at equal compute.
pub(super) const LEAST_SHARE_OF_BUDGET: f64 = 0.98;

/// One seed of both, the baseline's loss finite at its end.
pub(super) struct Pair<'a> {
    pub(super) seed: u64,
    pub(super) baseline: &'a RunCurve,
    /// Where the baseline ends.
    pub(super) goal: &'a EvaluationPoint,
    pub(super) arm: &'a RunCurve,
}

/// Why a seed has no result.
pub(super) enum NoPair {
    ArmDiverged,
    LeftOut(String),
}

/// A seed that could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The seed.
    pub seed: u64,
    /// Why not.
    pub reason: String,
}

/// What came of comparing seed by seed.
pub(super) struct BySeed<T> {
    pub(super) compared: Vec<T>,
    pub(super) diverged_seeds: Vec<u64>,
    pub(super) left_out: Vec<LeftOut>,
}

impl<T> BySeed<T> {
    pub(super) fn of(runs: &Runs<'_>, compare: impl Fn(u64) -> Result<T, NoPair>) -> BySeed<T> {
        let (mut compared, mut diverged_seeds, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for &seed in runs.seeds() {
            match compare(seed) {
                Ok(result) => compared.push(result),
                Err(NoPair::ArmDiverged) => diverged_seeds.push(seed),
                Err(NoPair::LeftOut(reason)) => left_out.push(LeftOut { seed, reason }),
            }
        }
        BySeed { compared, diverged_seeds, left_out }
    }
}

/// Both runs of a seed, the arm's by that budget.
pub(super) fn pair<'a>(runs: &Runs<'a>, plan: &ArmPlan, budget: &str, seed: u64) -> Result<Pair<'a>, NoPair> {
    let baseline = match runs.baseline(seed) {
        Run::Curve(curve) => curve,
        Run::Diverged => return Err(NoPair::LeftOut("the baseline diverged".into())),
        Run::Absent(reason) => return Err(NoPair::LeftOut(format!("no baseline: {reason}"))),
    };
    let goal = baseline.last().expect("a curve without a point counts as absent");
    if !goal.loss_nats_per_token.is_finite() {
        return Err(NoPair::LeftOut("the baseline diverged".into()));
    }
    match runs.run(&plan.arm, budget, seed) {
        Run::Curve(arm) => Ok(Pair { seed, baseline, goal, arm }),
        Run::Diverged => Err(NoPair::ArmDiverged),
        Run::Absent(reason) => Err(NoPair::LeftOut(format!("no run: {reason}"))),
    }
}

impl Pair<'_> {
    /// As a share of the baseline's cost.
    pub(super) fn share(&self, flops: Flops) -> f64 {
        flops.as_f64() / self.goal.flops.as_f64()
    }

    pub(super) fn check_finite(&self, point: &EvaluationPoint) -> Result<(), NoPair> {
        if point.loss_nats_per_token.is_finite() { Ok(()) } else { Err(NoPair::ArmDiverged) }
    }

    /// A run that stopped short because it diverged is a diverged run, not one that lacks an evaluation.
    pub(super) fn unless_diverged(&self, reason: String) -> NoPair {
        match self.arm.divergence() {
            Some(_) => NoPair::ArmDiverged,
            None => NoPair::LeftOut(reason),
        }
    }

    /// Up to where both read the same batches; `None` where no evaluation is in common to show it.
    pub(super) fn same_batches(&self) -> Result<Option<Tokens>, NoPair> {
        match self.baseline.last_in_common(self.arm) {
            None => Ok(None),
            Some((baseline, arm)) => check_batches(baseline, arm).map(|()| Some(arm.tokens)),
        }
    }
}

pub(super) fn check_batches(baseline: &EvaluationPoint, arm: &EvaluationPoint) -> Result<(), NoPair> {
    if arm.batches_sha256 == baseline.batches_sha256 {
        return Ok(());
    }
    let short = |hash: &str| hash.chars().take(8).collect::<String>();
    Err(NoPair::LeftOut(format!(
        "it was not trained on the baseline's batches: after {} tokens their hash is {}, the baseline's {}",
        arm.tokens,
        short(&arm.batches_sha256),
        short(&baseline.batches_sha256),
    )))
}
