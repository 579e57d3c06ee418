//! How long an arm trains on after its last change until it is where the baseline ends: what the baseline's whole cost pays for, by
//! each ledger (the paper's `T_cont`, arXiv 2411.18700 §3), and what it took.

use engine::Step;
use serde::Serialize;

use super::ArmPlan;
use super::pair::pair;
use super::runs::Runs;
use crate::evidence::curve::{Cost, EvaluationPoint, RunCurve};
use crate::verdict::statistics::{Summary, summarize};

/// Training after an arm's last change, in steps as long as the baseline's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Continual {
    /// Every seed in which the arm changed.
    pub seeds: Vec<SeedContinual>,
    /// Means of what each ledger predicts.
    pub predicted: LedgerSteps,
    /// What it took, where the baseline's final loss is reached in all of them.
    pub measured: Option<Summary>,
    /// Where it is not reached in every seed: it took more than this in any of those others.
    pub not_within: Option<f64>,
}

/// One seed's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SeedContinual {
    /// The seed.
    pub seed: u64,
    /// Steps before the last change.
    pub staged_steps: f64,
    /// Steps after it that what the baseline has cost in all pays for.
    pub predicted: LedgerSteps,
    /// Steps after it until the baseline's final loss is reached, none where that was before; or else all that there were.
    pub measured: f64,
    /// Whether it is reached.
    pub is_reached: bool,
}

/// Steps by ledger.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LedgerSteps {
    /// The paper's formula.
    pub li2024: f64,
    /// Matrix products with weights.
    pub weight_matmul: f64,
    /// All that runs.
    pub exact: f64,
}

/// By the runs that go furthest.
pub(super) fn of_arm(runs: &Runs<'_>, plan: &ArmPlan) -> Option<Continual> {
    let budget = plan.cost_to_reach.as_ref()?;
    let of_seed = |&seed: &u64| {
        let pair = pair(runs, plan, budget, seed).ok()?;
        pair.same_batches().ok()?;
        of_seed(seed, pair.baseline, pair.arm)
    };
    of(runs.seeds().iter().filter_map(of_seed).collect())
}

/// Of one seed; `None` where the arm never changed, or is not evaluated after its last change.
fn of_seed(seed: u64, baseline: &RunCurve, arm: &RunCurve) -> Option<SeedContinual> {
    let (goal, at) = (baseline.last()?, arm.last_phase_at?);
    let tokens_per_step = goal.tokens.0 as f64 / goal.step.0 as f64;
    let steps = |tokens: f64| tokens / tokens_per_step;
    let staged_steps = steps(paid_before(arm, at, |point| point.tokens.0 as f64)?);
    let predicted = |ledger: fn(&EvaluationPoint) -> f64| {
        let of_step = ledger(goal) / goal.step.0 as f64;
        Some((ledger(goal) - paid_before(arm, at, ledger)?) / of_step)
    };
    let reached = arm.first_crossing(goal.loss_nats_per_token, Cost::Tokens);
    let trained = reached.unwrap_or(arm.last()?.tokens.0 as f64);
    Some(SeedContinual {
        seed,
        staged_steps,
        predicted: LedgerSteps {
            li2024: predicted(|point| point.flops_li2024.as_f64())?,
            weight_matmul: predicted(|point| point.flops_weight_matmul.as_f64())?,
            exact: predicted(|point| point.flops.as_f64())?,
        },
        measured: (steps(trained) - staged_steps).max(0.0),
        is_reached: reached.is_some(),
    })
}

/// What was paid before a run's last change, counted back from the evaluations after it: from there on every step costs the same.
fn paid_before(arm: &RunCurve, at: Step, of: impl Fn(&EvaluationPoint) -> f64) -> Option<f64> {
    let after = arm.points.iter().position(|point| point.step >= at)?;
    let first = &arm.points[after];
    if first.step == at {
        return Some(of(first));
    }
    let next = arm.points.get(after + 1)?;
    let of_step = (of(next) - of(first)) / (next.step.0 - first.step.0) as f64;
    Some(of(first) - of_step * (first.step.0 - at.0) as f64)
}

/// All seeds together.
fn of(seeds: Vec<SeedContinual>) -> Option<Continual> {
    let n = seeds.len() as f64;
    let mean = |of: fn(&LedgerSteps) -> f64| seeds.iter().map(|seed| of(&seed.predicted)).sum::<f64>() / n;
    let predicted = LedgerSteps {
        li2024: mean(|steps| steps.li2024),
        weight_matmul: mean(|steps| steps.weight_matmul),
        exact: mean(|steps| steps.exact),
    };
    let measured: Vec<f64> = seeds.iter().map(|seed| seed.measured).collect();
    let open = seeds.iter().filter(|seed| !seed.is_reached).map(|seed| seed.measured);
    let not_within = open.reduce(f64::min);
    let measured = if not_within.is_none() { summarize(&measured) } else { None };
    (!seeds.is_empty()).then_some(Continual { seeds, predicted, measured, not_within })
}

#[cfg(test)]
mod tests {
    use engine::{Flops, Tokens};

    use super::*;
    use crate::verdict::made_up::run_of;

    /// Before step `change` a step costs `cheap`, from there on 10; evaluated every 20 steps, with the loss that `loss` gives.
    fn curve(change: u64, cheap: u64, loss: fn(f64) -> f64) -> RunCurve {
        let point = |step: u64| {
            let flops = Flops((step.min(change) * cheap + 10 * step.saturating_sub(change)).into());
            EvaluationPoint {
                step: Step(step),
                tokens: Tokens(100 * step),
                flops,
                flops_weight_matmul: flops,
                flops_li2024: flops,
                wall_seconds: 0.0,
                joules: None,
                loss_nats_per_token: loss(step as f64),
                batches_sha256: String::new(),
            }
        };
        let last_phase_at = (change > 0).then_some(Step(change));
        RunCurve { last_phase_at, ..run_of("arm", 1, (0..=10).map(|i| point(20 * i)).collect()) }
    }

    #[test]
    fn what_equal_cost_pays_for_and_what_it_took() {
        // The baseline ends at 3 - 0.01 * 200 = 1; the arm is at 3.2 - 0.011 * step there when step = 200.
        let baseline = curve(0, 10, |step| 3.0 - 0.01 * step);
        for change in [80, 90, 95] {
            let arm = curve(change, 5, |step| 3.2 - 0.0125 * step);
            let found = of_seed(1, &baseline, &arm).expect("it changed");
            assert!((found.staged_steps - change as f64).abs() < 1e-9, "{found:?}");
            // It cost half as much until then: so many steps of the baseline's 200 are left.
            assert!((found.predicted.exact - (200.0 - 0.5 * change as f64)).abs() < 1e-9, "{found:?}");
            assert!(found.is_reached && (found.measured - (176.0 - change as f64)).abs() < 1e-9, "{found:?}");
        }
        let never = of_seed(1, &baseline, &curve(80, 5, |step| 3.2 - 0.01 * step)).expect("it changed");
        assert!(!never.is_reached && (never.measured - 120.0).abs() < 1e-9, "{never:?}");
        assert_eq!(of(vec![never]).expect("a seed").not_within, Some(never.measured));
        assert_eq!(of_seed(1, &baseline, &baseline), None, "what never changed has no such part");
    }
}
