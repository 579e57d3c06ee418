//! What a run may spend, and what it has spent of that: asked by a run, by a dry run, and by a run on record alike.

use engine::{Flops, Step};

use crate::RunConfig;
use crate::costs::{Costs, StepCost};

/// FLOPs that are left after these costs, where the budget is in FLOPs.
pub(crate) fn flops_left(config: &RunConfig, costs: &Costs) -> Option<Flops> {
    config.budget.flops.map(|budget| Flops(budget.0.saturating_sub(costs.flops.total().0)))
}

/// Share of the budget that these costs have spent, 0 to 1.
pub(crate) fn progress(config: &RunConfig, costs: &Costs) -> f64 {
    let share = match config.budget.flops {
        Some(flops) => costs.flops.total().as_f64() / flops.as_f64(),
        None => costs.tokens.0 as f64 / config.reference_tokens().0 as f64,
    };
    share.min(1.0)
}

/// Whether one more step fits the budget.
pub(crate) fn step_fits(config: &RunConfig, costs: &Costs, step: &StepCost) -> bool {
    match config.budget.flops {
        Some(flops) => costs.flops.total() + step.flops.total() <= flops,
        None => costs.tokens.0 + step.tokens.0 <= config.reference_tokens().0,
    }
}

/// Most steps of a run that has come so far and goes on with such steps.
pub(crate) fn most_steps(config: &RunConfig, step: Step, costs: &Costs, cost: &StepCost) -> u64 {
    match config.budget.flops {
        None => {
            let left = config.reference_tokens().0.saturating_sub(costs.tokens.0);
            step.0 + left / cost.tokens.0.max(1)
        }
        // Of the cheapest step so far: more cannot fit, as long as the model only grows.
        Some(flops) => {
            let left = flops.0.saturating_sub(costs.flops.total().0);
            let each = cost.flops.total().0.max(1);
            step.0 + u64::try_from(left / each).unwrap_or(u64::MAX)
        }
    }
}
