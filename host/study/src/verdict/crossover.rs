//! Where an arm stops being ahead of the baseline at the same cost: growing pays early by its nature, and the question is
//! until when.

use super::judgement::{Ahead, Crossover, SeedCrossover};
use crate::evidence::curve::{Cost, RunCurve};
use crate::verdict::statistics::summarize;

/// Of one seed; `None` where the two curves have no stretch of that cost in common.
pub(super) fn of_seed(seed: u64, baseline: &RunCurve, arm: &RunCurve, cost: Cost) -> Option<SeedCrossover> {
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
pub(super) fn of(seeds: Vec<SeedCrossover>) -> Option<Crossover> {
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
