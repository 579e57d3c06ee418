//! What a judgement is asked for: a study's arms, how each is compared, what its runs have measured, and which have no result. How a
//! folder is read into one is done in `evidence/results.rs`; that it does not contradict itself is checked in `runs.rs`.

use serde::Serialize;

use crate::RunCurve;

/// What there is to judge.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
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

impl ArmPlan {
    /// The budgets that it has runs for, each once.
    pub(crate) fn budgets(&self) -> Vec<&str> {
        let mut budgets: Vec<&str> = Vec::new();
        for budget in [&self.token_matched, &self.compute_matched, &self.cost_to_reach].into_iter().flatten()
        {
            if !budgets.contains(&budget.as_str()) {
                budgets.push(budget);
            }
        }
        budgets
    }
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
