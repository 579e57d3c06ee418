//! From the curves of all runs to a judgement: every arm against its paired baseline, at equal tokens, at
//! equal compute, and by the cost to reach the baseline's final loss. Pure functions; files, clocks and
//! layout are elsewhere.
//!
//! A pair is one seed: the same initial model and, shown by the hash of the batches, the same data. What
//! cannot be paired is listed with its reason, a run that diverged is counted, and nothing is
//! extrapolated.

mod compare;
mod continual;
mod crossover;
mod judgement;
#[cfg(test)]
pub(crate) mod made_up;
mod rounding;
mod runs;
mod sentence;
mod shared;
pub(crate) mod statistics;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod truth;

use serde::Serialize;

use crate::RunCurve;
use crate::verdict::statistics::holm;
use runs::Runs;

pub use judgement::{
    Ahead, ArmJudgement, ArmRole, ArmRuns, ArmVerdict, CostToReach, Crossover, FinalPoint, Headline,
    Judgement, LedgerCosts, LedgerRatios, LeftOut, LossDifference, LossPair, MeanEdit, Outcome, Reach,
    SeedCrossover, SeedLedger, SeedReach, SkippedSteps,
};
pub(crate) use rounding::{at_most_known, nats, p_value, ratio, signed_nats};

pub use continual::{Continual, LedgerSteps, SeedContinual};
pub use shared::{Shared, SharedByArm};

/// What there is to judge.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The study's name.
    pub study: &'a str,
    /// The arm that all others are compared with.
    pub baseline: &'a str,
    /// The budget of its runs.
    pub baseline_budget: &'a str,
    /// The seeds that every arm was to run with.
    pub seeds: &'a [u64],
    /// What counts as an equal loss, in nats per token, where the study says so.
    pub equal_within_nats: Option<f64>,
    /// The other arms, in the order of the report.
    pub arms: &'a [ArmPlan],
    /// What was measured. Runs that failed half-way may be among them; they are not compared.
    pub runs: &'a [RunCurve],
    /// Runs that were not finished, each with the reason. Runs that are in neither list are missing.
    pub failed: &'a [FailedRun],
}

/// How an arm is compared: for each comparison, the budget whose runs serve it, or `None` where there is
/// no such comparison. One run may serve several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmPlan {
    /// The arm.
    pub arm: String,
    /// After the tokens at which the baseline ends.
    pub token_matched: Option<String>,
    /// At the exact FLOPs at which the baseline ends.
    pub compute_matched: Option<String>,
    /// When the baseline's final loss is reached.
    pub cost_to_reach: Option<String>,
}

/// A run without a result that can be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedRun {
    /// Its arm.
    pub arm: String,
    /// Its budget.
    pub budget: String,
    /// Its seed.
    pub seed: u64,
    /// What became of it.
    pub status: RunStatus,
    /// Why.
    pub reason: String,
}

/// What became of a run that was not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Its loss or its weights were no numbers any more: a result, counted.
    Diverged,
    /// It ended with an error of another kind.
    Failed,
    /// It has not been run, or not to an evaluation.
    Missing,
}

/// What cannot be judged, since it contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JudgeError {
    /// A run that the study does not plan.
    #[error("the run {arm}/{budget}/seed-{seed} belongs to no arm, budget and seed of the study")]
    Unplanned {
        /// Its arm.
        arm: String,
        /// Its budget.
        budget: String,
        /// Its seed.
        seed: u64,
    },
    /// Two curves, or two failures, of one run.
    #[error("the run {arm}/{budget}/seed-{seed} is given twice")]
    Twice {
        /// Its arm.
        arm: String,
        /// Its budget.
        budget: String,
        /// Its seed.
        seed: u64,
    },
    /// Two arms of one name, or an arm with the baseline's.
    #[error("the arm `{arm}` is named twice")]
    TwoArms {
        /// The name.
        arm: String,
    },
    /// Evaluations whose tokens or costs do not ascend.
    #[error("the run {arm}/{budget}/seed-{seed} goes back at its evaluation of step {step}")]
    OutOfOrder {
        /// Its arm.
        arm: String,
        /// Its budget.
        budget: String,
        /// Its seed.
        seed: u64,
        /// The step of the evaluation at fault.
        step: u64,
    },
}

impl JudgeError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            JudgeError::Unplanned { .. } => {
                "move its folder out of the study, or add its arm or seed to the study's file".into()
            }
            JudgeError::Twice { .. } => "keep one of the two folders".into(),
            JudgeError::TwoArms { .. } => "give every arm a name of its own".into(),
            JudgeError::OutOfOrder { .. } => {
                "its evals.jsonl was changed or mixed with another; delete the run's folder and run it again"
                    .into()
            }
        }
    }
}

/// Compares every arm with the baseline.
///
/// # Errors
/// Evidence that contradicts itself. What is missing is no error: the judgement says so.
pub fn judge(evidence: &Evidence<'_>) -> Result<Judgement, JudgeError> {
    let runs = Runs::checked(evidence)?;
    let mut compared: Vec<_> =
        evidence.arms.iter().map(|plan| compare::arm(&runs, plan, evidence.equal_within_nats)).collect();
    correct_over_arms(compared.iter_mut().filter_map(|arm| arm.token_matched.as_mut()).collect());
    correct_over_arms(compared.iter_mut().filter_map(|arm| arm.compute_matched.as_mut()).collect());
    let seeds = evidence.seeds.len();
    let arms: Vec<ArmJudgement> = compared.into_iter().map(|arm| sentence::judged(arm, seeds)).collect();
    let arm_runs = runs.by_arm();
    Ok(Judgement {
        study: evidence.study.into(),
        baseline: evidence.baseline.into(),
        seeds: evidence.seeds.into(),
        verdict: sentence::overall(evidence, &arms, &arm_runs),
        runs: arm_runs,
        arms,
        failed_runs: runs.without_result(),
        sweep: None,
        fairness: Vec::new(),
        shared: Shared::default(),
        skipped: Vec::new(),
        suites: Vec::new(),
    })
}

/// One family of tests for each kind of comparison.
fn correct_over_arms(mut family: Vec<&mut LossDifference>) {
    let p_values: Vec<Option<f64>> = family.iter().map(|difference| difference.p()).collect();
    let members = p_values.iter().flatten().count();
    for (difference, corrected) in family.iter_mut().zip(holm(&p_values)) {
        difference.holm_p = corrected;
        difference.holm_family = members;
    }
}
