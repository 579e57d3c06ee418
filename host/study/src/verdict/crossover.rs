//! Where an arm stops being ahead of the baseline at the same cost: growing pays early by its nature, and the question is
//! until when.

use serde::Serialize;

use super::ArmPlan;
use super::pair::{LEAST_SHARE_OF_BUDGET, pair};
use super::runs::Runs;
use crate::evidence::curve::{Cost, RunCurve};
use crate::verdict::statistics::{Summary, summarize};

/// Until when an arm is ahead of the baseline after the same exact FLOPs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Crossover {
    /// Every compared seed.
    pub seeds: Vec<SeedCrossover>,
    /// Where it falls behind for good, as a share of what the baseline spends, if it does so in all seeds.
    pub share_of_baseline: Option<Summary>,
}

/// One seed's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedCrossover {
    /// The seed.
    pub seed: u64,
    /// Until when it is ahead.
    pub ahead: Ahead,
}

/// Until when a run is ahead of another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ahead {
    /// At no evaluation.
    Never,
    /// Until it falls behind for good.
    Until {
        /// As a share of what the baseline spends in all.
        share_of_baseline: f64,
    },
    /// At the last point that both have.
    ToTheEnd,
}

impl Ahead {
    /// Where it falls behind for good.
    pub(crate) fn share(self) -> Option<f64> {
        match self {
            Ahead::Until { share_of_baseline } => Some(share_of_baseline),
            Ahead::Never | Ahead::ToTheEnd => None,
        }
    }
}

/// After the same exact FLOPs, by the runs that the comparison at equal compute rests on, or else the longest there are.
pub(super) fn of_arm(runs: &Runs<'_>, plan: &ArmPlan) -> Option<Crossover> {
    let budgets = [&plan.compute_matched, &plan.cost_to_reach, &plan.token_matched];
    let budget = budgets.into_iter().flatten().next()?;
    let of_seed = |&seed: &u64| {
        let pair = pair(runs, plan, budget, seed).ok()?;
        // Who ends before the baseline does is not known to be ahead to the end.
        let spent = pair.arm.last().map_or(0.0, |end| pair.share(end.flops));
        if spent.is_nan() || spent < LEAST_SHARE_OF_BUDGET {
            return None;
        }
        of_seed(seed, pair.baseline, pair.arm, Cost::ExactFlops)
    };
    of(runs.seeds().iter().filter_map(of_seed).collect())
}

/// Of one seed; `None` where the two curves have no stretch of that cost in common.
fn of_seed(seed: u64, baseline: &RunCurve, arm: &RunCurve, cost: Cost) -> Option<SeedCrossover> {
    let end = baseline.last()?.cost(cost);
    // Where both are evaluated or can be read between two evaluations, nothing trained yet left out.
    let compared = costs_of_both(baseline, arm, cost);
    let difference = |at: f64| Some((at, arm.loss_at(at, cost)? - baseline.loss_at(at, cost)?));
    let differences: Vec<(f64, f64)> = compared.into_iter().filter_map(difference).collect();
    let (_, last) = *differences.last()?;
    let ahead = match differences.iter().rposition(|(_, difference)| *difference < 0.0) {
        None => Ahead::Never,
        Some(_) if last < 0.0 => Ahead::ToTheEnd,
        Some(before) => {
            let [(from, ahead), (to, behind)] = [differences[before], differences[before + 1]];
            Ahead::Until { share_of_baseline: (from + (to - from) * ahead / (ahead - behind)) / end }
        }
    };
    Some(SeedCrossover { seed, ahead })
}

/// All seeds together.
fn of(seeds: Vec<SeedCrossover>) -> Option<Crossover> {
    if seeds.is_empty() {
        return None;
    }
    let shares: Option<Vec<f64>> = seeds.iter().map(|seed| seed.ahead.share()).collect();
    // A mean over some would leave out those that never fall behind, or always are.
    Some(Crossover { share_of_baseline: shares.and_then(|shares| summarize(&shares)), seeds })
}

/// The costs at which either curve is evaluated, ascending, within what both have.
fn costs_of_both(baseline: &RunCurve, arm: &RunCurve, cost: Cost) -> Vec<f64> {
    let trained = |curve: &RunCurve| -> Vec<f64> {
        curve.points.iter().map(|point| point.cost(cost)).filter(|&paid| paid > 0.0).collect()
    };
    let mut all = [trained(baseline), trained(arm)].concat();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}
