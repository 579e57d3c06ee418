//! What the baseline's number of tokens costs an arm, by all three ledgers. What a loss costs is another question (`reach.rs`).

use engine::{Flops, Tokens};
use serde::Serialize;

use super::ArmPlan;
use super::pair::{Pair, pair};
use super::runs::Runs;

/// What the baseline's number of tokens costs the arm, as ratios to what it costs the baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LedgerCosts {
    /// Every seed of which both have the evaluation.
    pub seeds: Vec<SeedLedger>,
    /// Mean over them.
    pub mean: LedgerRatios,
}

/// One seed's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedLedger {
    /// The seed.
    pub seed: u64,
    /// After so many tokens.
    pub tokens: Tokens,
    /// The ratios.
    pub ratios: LedgerRatios,
}

/// A cost by three ledgers, each as a ratio to the baseline's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LedgerRatios {
    /// All that ran.
    pub exact: f64,
    /// Matrix products with weights alone.
    pub weight_matmul: f64,
    /// The paper's formula.
    pub li2024: f64,
}

/// Costs do not depend on losses, so a pair whose data differ is compared here too.
pub(super) fn of_arm(runs: &Runs<'_>, plan: &ArmPlan) -> Option<LedgerCosts> {
    let budgets = [&plan.token_matched, &plan.compute_matched, &plan.cost_to_reach];
    let budget = budgets.into_iter().flatten().next()?;
    let seeds: Vec<SeedLedger> =
        runs.seeds().iter().filter_map(|&seed| of_seed(&pair(runs, plan, budget, seed).ok()?)).collect();
    if seeds.is_empty() {
        return None;
    }
    let mean = |ledger: fn(&LedgerRatios) -> f64| {
        seeds.iter().map(|seed| ledger(&seed.ratios)).sum::<f64>() / seeds.len() as f64
    };
    let mean = LedgerRatios {
        exact: mean(|ratios| ratios.exact),
        weight_matmul: mean(|ratios| ratios.weight_matmul),
        li2024: mean(|ratios| ratios.li2024),
    };
    Some(LedgerCosts { seeds, mean })
}

fn of_seed(pair: &Pair<'_>) -> Option<SeedLedger> {
    let point = pair.arm.at_tokens(pair.goal.tokens)?;
    let ratio = |own: Flops, baseline: Flops| (baseline > Flops(0)).then(|| own.as_f64() / baseline.as_f64());
    Some(SeedLedger {
        seed: pair.seed,
        tokens: point.tokens,
        ratios: LedgerRatios {
            exact: ratio(point.flops, pair.goal.flops)?,
            weight_matmul: ratio(point.flops_weight_matmul, pair.goal.flops_weight_matmul)?,
            li2024: ratio(point.flops_li2024, pair.goal.flops_li2024)?,
        },
    })
}
