//! The runs of a study by arm, budget and seed: which there are, and what became of the others. What
//! they measured is compared elsewhere.

use std::collections::BTreeSet;

use engine::{Flops, Step, Tokens};
use serde::{Serialize, Serializer};

use super::{Case, FailedRun, JudgeError, RunStatus};
use crate::RunCurve;

/// What became of an arm's runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmRuns {
    /// The arm.
    pub arm: String,
    /// Its part in the study.
    pub role: ArmRole,
    /// Runs that it was to have: budgets × seeds.
    pub planned: usize,
    /// Runs that ended with a finite loss.
    pub finished: usize,
    /// Runs that diverged.
    pub diverged: usize,
    /// Runs that ended with another error.
    pub failed: usize,
    /// Runs that were not run.
    pub missing: usize,
    /// Where the finished ones ended.
    pub final_points: Vec<FinalPoint>,
}

/// An arm's part in the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArmRole {
    /// All others are compared with it.
    Baseline,
    /// Compared with the baseline.
    Compared,
}

/// Where a run ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FinalPoint {
    /// Its budget.
    pub budget: String,
    /// Its seed.
    pub seed: u64,
    /// Steps taken.
    pub step: Step,
    /// Tokens trained on.
    pub tokens: Tokens,
    /// Exact FLOPs spent.
    pub flops: Flops,
    /// Validation loss.
    #[serde(serialize_with = "loss_or_null")]
    pub loss_nats_per_token: f64,
}

impl ArmRuns {
    /// Mean over the runs that ended, in nats per token; `None` where none did.
    pub fn mean_final_loss(&self) -> Option<f64> {
        let sum: f64 = self.final_points.iter().map(|point| point.loss_nats_per_token).sum();
        (!self.final_points.is_empty()).then(|| sum / self.final_points.len() as f64)
    }
}

/// A case, checked.
pub(super) struct Runs<'a> {
    case: &'a Case<'a>,
}

/// What is known of a planned run.
pub(super) enum Run<'a> {
    /// It has evaluations, though its loss may not be finite in all of them.
    Curve(&'a RunCurve),
    /// It diverged, and ended with that.
    Diverged,
    /// It has no result, for this reason.
    Absent(String),
}

impl<'a> Runs<'a> {
    pub(super) fn checked(case: &'a Case<'a>) -> Result<Runs<'a>, JudgeError> {
        let runs = Runs { case };
        let mut names = BTreeSet::from([case.baseline]);
        if let Some(plan) = case.arms.iter().find(|plan| !names.insert(&plan.arm)) {
            return Err(JudgeError::TwoArms { arm: plan.arm.clone() });
        }
        let curves = case.runs.iter().map(|run| (run.arm.as_str(), run.budget.as_str(), run.seed));
        let failed = case.failed.iter().map(|run| (run.arm.as_str(), run.budget.as_str(), run.seed));
        runs.check_names(curves)?;
        runs.check_names(failed)?;
        case.runs.iter().try_for_each(check_order)?;
        Ok(runs)
    }

    fn check_names(&self, names: impl Iterator<Item = (&'a str, &'a str, u64)>) -> Result<(), JudgeError> {
        let planned: BTreeSet<_> = self.planned().map(|(_, name)| name).collect();
        let mut seen = BTreeSet::new();
        for name in names {
            let (arm, budget, seed) = (name.0.to_owned(), name.1.to_owned(), name.2);
            if !planned.contains(&name) {
                return Err(JudgeError::Unplanned { arm, budget, seed });
            }
            if !seen.insert(name) {
                return Err(JudgeError::Twice { arm, budget, seed });
            }
        }
        Ok(())
    }

    pub(super) fn seeds(&self) -> &'a [u64] {
        self.case.seeds
    }

    pub(super) fn equal_within_nats(&self) -> Option<f64> {
        self.case.equal_within_nats
    }

    pub(super) fn baseline(&self, seed: u64) -> Run<'a> {
        self.run(self.case.baseline, self.case.baseline_budget, seed)
    }

    pub(super) fn run(&self, arm: &str, budget: &str, seed: u64) -> Run<'a> {
        // A run that failed is not compared, whatever it had measured until then.
        let failed =
            self.case.failed.iter().find(|run| (&*run.arm, &*run.budget, run.seed) == (arm, budget, seed));
        match failed {
            Some(FailedRun { status: RunStatus::Diverged, .. }) => return Run::Diverged,
            Some(run) => return Run::Absent(run.reason.clone()),
            None => {}
        }
        let found =
            self.case.runs.iter().find(|run| (&*run.arm, &*run.budget, run.seed) == (arm, budget, seed));
        match found {
            None => Run::Absent("it has not been run".into()),
            Some(curve) if curve.points.is_empty() => Run::Absent("it has no evaluation".into()),
            Some(curve) => Run::Curve(curve),
        }
    }

    /// All runs without a result, in the order of arms, budgets and seeds.
    pub(super) fn without_result(&self) -> Vec<FailedRun> {
        self.planned().filter_map(|(_, (arm, budget, seed))| self.fault(arm, budget, seed)).collect()
    }

    /// What became of the runs, arm by arm, the baseline first.
    pub(super) fn by_arm(&self) -> Vec<ArmRuns> {
        let mut arms: Vec<ArmRuns> = Vec::new();
        for (role, (arm, budget, seed)) in self.planned() {
            if arms.last().is_none_or(|last| last.arm != arm) {
                arms.push(no_runs(arm, role));
            }
            let runs = arms.last_mut().expect("one was pushed where there was none");
            runs.planned += 1;
            match self.fault(arm, budget, seed).map(|fault| fault.status) {
                Some(RunStatus::Diverged) => runs.diverged += 1,
                Some(RunStatus::Failed) => runs.failed += 1,
                Some(RunStatus::Missing) => runs.missing += 1,
                None => runs.finished += 1,
            }
            if let Run::Curve(curve) = self.run(arm, budget, seed) {
                runs.final_points.extend(final_point(curve));
            }
        }
        arms
    }

    /// Every run that the study plans, the baseline's first.
    fn planned(&self) -> impl Iterator<Item = (ArmRole, (&'a str, &'a str, u64))> {
        let case = self.case;
        let baseline = (ArmRole::Baseline, case.baseline, case.baseline_budget);
        let others = case.arms.iter().flat_map(|plan| {
            plan.budgets().into_iter().map(|budget| (ArmRole::Compared, plan.arm.as_str(), budget))
        });
        std::iter::once(baseline).chain(others).flat_map(move |(role, arm, budget)| {
            case.seeds.iter().map(move |&seed| (role, (arm, budget, seed)))
        })
    }

    /// Why a run has no result, if it has none.
    fn fault(&self, arm: &str, budget: &str, seed: u64) -> Option<FailedRun> {
        let given =
            self.case.failed.iter().find(|run| (&*run.arm, &*run.budget, run.seed) == (arm, budget, seed));
        let (status, reason) = match (given, self.run(arm, budget, seed)) {
            (Some(given), _) => return Some(given.clone()),
            (None, Run::Curve(curve)) => {
                let divergence = curve.divergence()?;
                (RunStatus::Diverged, format!("its loss was no number any more at step {}", divergence.step))
            }
            (None, Run::Diverged) => return None,
            (None, Run::Absent(reason)) => (RunStatus::Missing, reason),
        };
        Some(FailedRun { arm: arm.into(), budget: budget.into(), seed, status, reason })
    }
}

fn no_runs(arm: &str, role: ArmRole) -> ArmRuns {
    ArmRuns {
        arm: arm.into(),
        role,
        planned: 0,
        finished: 0,
        diverged: 0,
        failed: 0,
        missing: 0,
        final_points: Vec::new(),
    }
}

fn final_point(curve: &RunCurve) -> Option<FinalPoint> {
    let last = curve.last()?;
    Some(FinalPoint {
        budget: curve.budget.clone(),
        seed: curve.seed,
        step: last.step,
        tokens: last.tokens,
        flops: last.flops,
        loss_nats_per_token: last.loss_nats_per_token,
    })
}

fn check_order(curve: &RunCurve) -> Result<(), JudgeError> {
    let goes_back =
        curve.points.windows(2).find(|pair| pair[1].tokens < pair[0].tokens || pair[1].flops < pair[0].flops);
    match goes_back {
        None => Ok(()),
        Some(pair) => Err(JudgeError::OutOfOrder {
            arm: curve.arm.clone(),
            budget: curve.budget.clone(),
            seed: curve.seed,
            step: pair[1].step.0,
        }),
    }
}

/// A loss as a number, or `null` where it is none: JSON has no NaN, and divergence is a result.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn loss_or_null<S: Serializer>(loss: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    loss.is_finite().then_some(*loss).serialize(serializer)
}
