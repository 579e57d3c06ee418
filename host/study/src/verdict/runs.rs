//! The runs of a study by arm, budget and seed: which there are, and what became of the others. What
//! they measured is compared elsewhere.

use std::collections::BTreeSet;

use super::judgement::{ArmRole, ArmRuns, FinalPoint};
use super::{ArmPlan, Evidence, FailedRun, JudgeError, RunStatus};
use crate::RunCurve;

/// Checked evidence.
pub(super) struct Runs<'a> {
    evidence: &'a Evidence<'a>,
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

impl ArmPlan {
    /// The budgets that it has runs for, each once.
    pub(super) fn budgets(&self) -> Vec<&str> {
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

impl<'a> Runs<'a> {
    pub(super) fn checked(evidence: &'a Evidence<'a>) -> Result<Runs<'a>, JudgeError> {
        let runs = Runs { evidence };
        let mut names = BTreeSet::from([evidence.baseline]);
        if let Some(plan) = evidence.arms.iter().find(|plan| !names.insert(&plan.arm)) {
            return Err(JudgeError::TwoArms { arm: plan.arm.clone() });
        }
        let curves = evidence.runs.iter().map(|run| (run.arm.as_str(), run.budget.as_str(), run.seed));
        let failed = evidence.failed.iter().map(|run| (run.arm.as_str(), run.budget.as_str(), run.seed));
        runs.check_names(curves)?;
        runs.check_names(failed)?;
        evidence.runs.iter().try_for_each(check_order)?;
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
        self.evidence.seeds
    }

    pub(super) fn baseline(&self, seed: u64) -> Run<'a> {
        self.run(self.evidence.baseline, self.evidence.baseline_budget, seed)
    }

    pub(super) fn run(&self, arm: &str, budget: &str, seed: u64) -> Run<'a> {
        // A run that failed is not compared, whatever it had measured until then.
        let failed = self
            .evidence
            .failed
            .iter()
            .find(|run| (&*run.arm, &*run.budget, run.seed) == (arm, budget, seed));
        match failed {
            Some(FailedRun { status: RunStatus::Diverged, .. }) => return Run::Diverged,
            Some(run) => return Run::Absent(run.reason.clone()),
            None => {}
        }
        let found =
            self.evidence.runs.iter().find(|run| (&*run.arm, &*run.budget, run.seed) == (arm, budget, seed));
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
        let evidence = self.evidence;
        let baseline = (ArmRole::Baseline, evidence.baseline, evidence.baseline_budget);
        let others = evidence.arms.iter().flat_map(|plan| {
            plan.budgets().into_iter().map(|budget| (ArmRole::Compared, plan.arm.as_str(), budget))
        });
        std::iter::once(baseline).chain(others).flat_map(move |(role, arm, budget)| {
            evidence.seeds.iter().map(move |&seed| (role, (arm, budget, seed)))
        })
    }

    /// Why a run has no result, if it has none.
    fn fault(&self, arm: &str, budget: &str, seed: u64) -> Option<FailedRun> {
        let given = self
            .evidence
            .failed
            .iter()
            .find(|run| (&*run.arm, &*run.budget, run.seed) == (arm, budget, seed));
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
        mean_wall: None,
        edits: Vec::new(),
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
