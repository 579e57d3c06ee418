//! Small made-up studies for tests: round numbers, so that a reader can follow them in the head.

use engine::{Flops, Step, Tokens};

use crate::{ArmPlan, Beside, Case, EvaluationPoint, FailedRun, Judgement, RunCurve, RunStatus, judge};

/// A study that owns what a case borrows.
pub(crate) struct Study {
    pub(crate) seeds: Vec<u64>,
    pub(crate) arms: Vec<ArmPlan>,
    pub(crate) runs: Vec<RunCurve>,
    pub(crate) failed: Vec<FailedRun>,
    pub(crate) equal_within_nats: Option<f64>,
}

/// An evaluation every 100 tokens; data of the seed's own.
///
/// The loss falls by 0.2 every 100 tokens from 5.0 on, to which `offset` is added once trained. A token
/// costs `cost` FLOPs by the exact ledger, 0.1 less by `weight_matmul` and 0.2 less by `li2024`.
pub(crate) fn curve(arm: &str, seed: u64, evaluations: u64, cost: f64, offset: f64) -> RunCurve {
    let point = |i: u64| {
        let tokens = 100 * i;
        let flops = |cost: f64| Flops((1e6 * cost * tokens as f64).round() as u128);
        EvaluationPoint {
            step: Step(10 * i),
            tokens: Tokens(tokens),
            flops: flops(cost),
            flops_weight_matmul: flops(cost - 0.1),
            flops_li2024: flops(cost - 0.2),
            wall_seconds: tokens as f64,
            joules: None,
            loss_nats_per_token: 5.0 - 0.2 * i as f64 + if i > 0 { offset } else { 0.0 },
            batches_sha256: format!("{seed:04}-{tokens:06}"),
        }
    };
    run_of(arm, seed, (0..=evaluations).map(point).collect())
}

/// A run that never changed, beside others, with these evaluations.
pub(crate) fn run_of(arm: &str, seed: u64, points: Vec<EvaluationPoint>) -> RunCurve {
    RunCurve { arm: arm.into(), budget: "main".into(), seed, alone: false, last_phase_at: None, points }
}

/// An arm whose one run serves all comparisons.
pub(crate) fn plan(arm: &str) -> ArmPlan {
    let main = Some("main".to_owned());
    ArmPlan {
        arm: arm.into(),
        token_matched: main.clone(),
        compute_matched: main.clone(),
        cost_to_reach: main,
    }
}

pub(crate) fn failed(arm: &str, seed: u64, status: RunStatus, reason: &str) -> FailedRun {
    FailedRun { arm: arm.into(), budget: "main".into(), seed, status, reason: reason.into() }
}

impl Study {
    /// A baseline of ten evaluations at one FLOP (times 1e6) a token, one run a seed.
    pub(crate) fn with_baseline(seeds: u64) -> Study {
        let runs = (1..=seeds).map(|seed| curve("whole", seed, 10, 1.0, 0.0)).collect();
        let (arms, failed) = (Vec::new(), Vec::new());
        Study { seeds: (1..=seeds).collect(), arms, runs, failed, equal_within_nats: None }
    }

    /// Adds an arm with a run of this offset for every seed, in order.
    pub(crate) fn arm(mut self, arm: &str, evaluations: u64, cost: f64, offsets: &[f64]) -> Study {
        self.arms.push(plan(arm));
        let seeds = self.seeds.iter().zip(offsets);
        self.runs.extend(seeds.map(|(&seed, &offset)| curve(arm, seed, evaluations, cost, offset)));
        self
    }

    /// The run of an arm and seed.
    pub(crate) fn run(&mut self, arm: &str, seed: u64) -> &mut RunCurve {
        let found = self.runs.iter_mut().find(|run| run.arm == arm && run.seed == seed);
        found.expect("a run that the test has added")
    }

    pub(crate) fn case(&self) -> Case<'_> {
        Case {
            study: "made-up",
            baseline: "whole",
            baseline_budget: "main",
            seeds: &self.seeds,
            equal_within_nats: self.equal_within_nats,
            arms: &self.arms,
            runs: &self.runs,
            failed: &self.failed,
        }
    }

    pub(crate) fn judged(&self) -> Judgement {
        judge(&self.case(), Beside::default()).expect("a case that does not contradict itself")
    }
}

/// Offsets of an arm that has read 16 evaluations' tokens for the baseline's FLOPs, and is then a little better.
pub(crate) const EARLY: [f64; 5] = [1.189, 1.187, 1.188, 1.190, 1.186];
/// A token's cost of an arm that has read 11 evaluations' tokens for the baseline's FLOPs, and is then worse.
pub(crate) const LATE_COST: f64 = 1.0 / 1.1;
/// Its offsets.
pub(crate) const LATE: [f64; 5] = [0.51, 0.53, 0.55, 0.52, 0.54];

/// One arm that is better, one worse, one inconclusive, one that diverges, one whose runs are incomplete.
pub(crate) fn of_all_kinds() -> Study {
    let mut study = Study::with_baseline(5)
        .arm("grow-early", 16, 0.625, &EARLY)
        .arm("grow-late", 11, LATE_COST, &LATE)
        .arm("no-growth", 10, 1.0, &[0.002, -0.003, 0.001, -0.001, 0.004])
        .arm("grow-fast-with-a-high-rate", 11, LATE_COST, &[0.18, 0.19, 0.18, 0.17, 0.19])
        .arm("grow-twice", 16, 0.625, &EARLY[..4]);
    for point in &mut study.run("grow-fast-with-a-high-rate", 2).points[7..] {
        point.loss_nats_per_token = f64::NAN;
    }
    study.run("grow-twice", 1).points.truncate(12);
    for point in &mut study.run("grow-twice", 2).points {
        point.batches_sha256 = format!("another-{}", point.tokens);
    }
    let reason = "the plugin `example/grow-twice` failed in `before_step`: index out of bounds";
    study.failed.push(failed("grow-twice", 3, RunStatus::Failed, reason));
    study
}
