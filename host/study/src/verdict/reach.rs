//! What it costs an arm to come to the baseline's final loss. What the same tokens cost is another question (`ledgers.rs`).

use serde::Serialize;

use super::ArmPlan;
use super::pair::{BySeed, LeftOut, NoPair, Pair, pair};
use super::runs::Runs;
use crate::evidence::curve::Cost;
use crate::verdict::statistics::{Summary, summarize};

/// What the baseline's final loss costs, as a ratio: the arm's first crossing of that loss to the
/// baseline's own first crossing of it, both linear between two evaluations. An arm that is the baseline
/// has 1 at every seed, however noisy its curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostToReach {
    /// Every compared seed.
    pub seeds: Vec<SeedReach>,
    /// Seeds in which it is reached.
    pub reached: usize,
    /// Exact FLOPs, where it is reached in all seeds: a mean over some would leave out the expensive ones.
    pub flops_ratio: Option<Summary>,
    /// Tokens, likewise.
    pub tokens_ratio: Option<Summary>,
    /// Training seconds, likewise; `None` unless all of these runs were measured alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_ratio: Option<Summary>,
    /// Joules, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules_ratio: Option<Summary>,
    /// Where it is not reached in every seed: it is not within this ratio in any of those others.
    pub not_within_flops: Option<f64>,
    /// The same of tokens.
    pub not_within_tokens: Option<f64>,
    /// The same of training seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_within_seconds: Option<f64>,
    /// The same of joules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_within_joules: Option<f64>,
    /// Seeds in which the arm diverged before it got there.
    pub diverged_seeds: Vec<u64>,
    /// Seeds that could not be compared, each with the reason.
    pub left_out: Vec<LeftOut>,
}

/// One seed's cost to reach the baseline's final loss.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedReach {
    /// The seed.
    pub seed: u64,
    /// The loss to reach.
    pub loss_nats_per_token: f64,
    /// Whether it is reached.
    pub reach: Reach,
    /// Exact FLOPs, as a ratio to the baseline's: when it is reached, or else at the run's end.
    pub flops_ratio: f64,
    /// Tokens, likewise.
    pub tokens_ratio: f64,
    /// Training seconds, likewise; `None` unless both runs were measured alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_ratio: Option<f64>,
    /// Joules, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules_ratio: Option<f64>,
}

/// Whether a loss is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// It is.
    Reached,
    /// Not until the run's end.
    NotReached,
}

pub(super) fn of_arm(runs: &Runs<'_>, plan: &ArmPlan) -> Option<CostToReach> {
    let budget = plan.cost_to_reach.as_ref()?;
    let all = BySeed::of(runs, |seed| of_seed(&pair(runs, plan, budget, seed)?));
    let BySeed { compared: seeds, diverged_seeds, left_out } = all;
    let reached = seeds.iter().filter(|seed| seed.reach == Reach::Reached).count();
    let all = reached == seeds.len() && diverged_seeds.is_empty();
    let summary = |ratio: fn(&SeedReach) -> Option<f64>| {
        let ratios: Option<Vec<f64>> = seeds.iter().map(ratio).collect();
        ratios.filter(|_| all).and_then(|ratios| summarize(&ratios))
    };
    // What holds for all seeds that did not get there is the smallest of their bounds.
    let bound = |ratio: fn(&SeedReach) -> Option<f64>| {
        let open = seeds.iter().filter(|seed| seed.reach == Reach::NotReached);
        open.map(ratio).collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min)
    };
    Some(CostToReach {
        reached,
        flops_ratio: summary(|seed| Some(seed.flops_ratio)),
        tokens_ratio: summary(|seed| Some(seed.tokens_ratio)),
        seconds_ratio: summary(|seed| seed.seconds_ratio),
        joules_ratio: summary(|seed| seed.joules_ratio),
        not_within_flops: bound(|seed| Some(seed.flops_ratio)),
        not_within_tokens: bound(|seed| Some(seed.tokens_ratio)),
        not_within_seconds: bound(|seed| seed.seconds_ratio),
        not_within_joules: bound(|seed| seed.joules_ratio),
        seeds,
        diverged_seeds,
        left_out,
    })
}

fn of_seed(pair: &Pair<'_>) -> Result<SeedReach, NoPair> {
    pair.same_batches()?;
    let loss = pair.goal.loss_nats_per_token;
    let is_reached = pair.arm.first_crossing(loss, Cost::Tokens).is_some();
    if !is_reached && pair.arm.divergence().is_some() {
        return Err(NoPair::ArmDiverged);
    }
    // The baseline's own first crossing, not its end: a noisy curve may have been there before, and the
    // arm is asked for its first crossing too.
    let ratio = |cost| {
        let own = pair.baseline.first_crossing(loss, cost).filter(|&own| own > 0.0)?;
        let end = || pair.arm.last().map(|end| end.cost(cost));
        Some(pair.arm.first_crossing(loss, cost).or_else(end)? / own)
    };
    let known = |cost| if pair.baseline.knows(cost) && pair.arm.knows(cost) { ratio(cost) } else { None };
    let (Some(flops_ratio), Some(tokens_ratio)) = (ratio(Cost::ExactFlops), ratio(Cost::Tokens)) else {
        return Err(NoPair::LeftOut("the baseline's final loss is no lower than its first".into()));
    };
    Ok(SeedReach {
        seed: pair.seed,
        loss_nats_per_token: loss,
        reach: if is_reached { Reach::Reached } else { Reach::NotReached },
        flops_ratio,
        tokens_ratio,
        seconds_ratio: known(Cost::Seconds),
        joules_ratio: known(Cost::Joules),
    })
}
