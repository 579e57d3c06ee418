//! `report.json`. Its keys are documented at [`report`](super) and stay what they are.

use serde::Serialize;

use crate::verdict::{
    ArmRuns, ArmVerdict, Continual, CostToReach, Crossover, FailedRun, Judgement, LedgerCosts, LossDifference,
};
use crate::{ArmBeside, Shared, SkippedSteps, SuiteMean, SweepFinding};

#[derive(Serialize)]
struct Report<'a> {
    study: Study<'a>,
    arms: Vec<Arm<'a>>,
    verdict: Verdict<'a>,
    comparisons: Vec<Comparisons<'a>>,
    failed_runs: &'a [FailedRun],
    costs: Vec<Costs<'a>>,
    sweep: Option<&'a SweepFinding>,
    fairness: &'a [String],
    shared: &'a Shared,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    skipped: &'a [SkippedSteps],
    #[serde(skip_serializing_if = "<[SuiteMean]>::is_empty")]
    suites: &'a [SuiteMean],
}

#[derive(Serialize)]
struct Study<'a> {
    format: u32,
    name: &'a str,
    baseline: &'a str,
    seeds: &'a [u64],
}

#[derive(Serialize)]
struct Arm<'a> {
    #[serde(flatten)]
    runs: &'a ArmRuns,
    #[serde(flatten)]
    beside: Option<&'a ArmBeside>,
}

#[derive(Serialize)]
struct Verdict<'a> {
    overall: &'a str,
    arms: Vec<OfArm<'a>>,
}

#[derive(Serialize)]
struct OfArm<'a> {
    arm: &'a str,
    #[serde(flatten)]
    verdict: &'a ArmVerdict,
}

#[derive(Serialize)]
struct Comparisons<'a> {
    arm: &'a str,
    token_matched: Option<&'a LossDifference>,
    compute_matched: Option<&'a LossDifference>,
    cost_to_reach: Option<&'a CostToReach>,
    crossover: Option<&'a Crossover>,
    continual: Option<&'a Continual>,
}

#[derive(Serialize)]
struct Costs<'a> {
    arm: &'a str,
    #[serde(flatten)]
    costs: &'a LedgerCosts,
}

pub(super) fn render(judgement: &Judgement) -> String {
    let report = Report {
        study: Study {
            format: 1,
            name: &judgement.study,
            baseline: &judgement.baseline,
            seeds: &judgement.seeds,
        },
        arms: judgement
            .runs
            .iter()
            .map(|runs| Arm { runs, beside: judgement.beside.of_arm(&runs.arm) })
            .collect(),
        verdict: Verdict {
            overall: &judgement.verdict,
            arms: judgement.arms.iter().map(|arm| OfArm { arm: &arm.arm, verdict: &arm.verdict }).collect(),
        },
        comparisons: judgement
            .arms
            .iter()
            .map(|arm| Comparisons {
                arm: &arm.arm,
                token_matched: arm.token_matched.as_ref(),
                compute_matched: arm.compute_matched.as_ref(),
                cost_to_reach: arm.cost_to_reach.as_ref(),
                crossover: arm.crossover.as_ref(),
                continual: arm.continual.as_ref(),
            })
            .collect(),
        failed_runs: &judgement.failed_runs,
        costs: judgement
            .arms
            .iter()
            .filter_map(|arm| Some(Costs { arm: &arm.arm, costs: arm.costs.as_ref()? }))
            .collect(),
        sweep: judgement.beside.sweep.as_ref(),
        fairness: &judgement.beside.fairness,
        shared: &judgement.beside.shared,
        skipped: &judgement.beside.skipped,
        suites: &judgement.beside.suites,
    };
    let mut text = serde_json::to_string_pretty(&report).expect("structs of numbers, texts and lists");
    text.push('\n');
    text
}
