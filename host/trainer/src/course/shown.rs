//! What a strategy is told of a run, and shown before a step: by a run, by a dry run, and by a run on record that is gone through once more, alike.

use engine::{Flops, Step};
use plugin_host::api::{Block, Budget, Evaluation, Key, LossPoint, ModelFacts, RunFacts, StepContext};

use crate::RunConfig;
use crate::costs::Costs;
use crate::costs::budget::progress;
use crate::course::Course;

/// Most training losses and evaluations that a strategy is shown.
pub(crate) const RECENT: usize = 1024;

/// Where a run stands, as far as its strategy may see.
pub(crate) struct Shown<'a> {
    pub(crate) config: &'a RunConfig,
    /// The coming step.
    pub(crate) step: Step,
    pub(crate) costs: &'a Costs,
    pub(crate) course: &'a Course,
    /// The course's blocks, as a strategy sees them.
    pub(crate) blocks: &'a [Block],
    /// All that are known, oldest first.
    pub(crate) losses: &'a [LossPoint],
    /// Oldest first.
    pub(crate) evaluations: &'a [Evaluation],
}

impl<'a> Shown<'a> {
    pub(crate) fn context(self) -> StepContext<'a> {
        let Shown { config, step, costs, course, blocks, losses, evaluations } = self;
        let progress = progress(config, costs);
        StepContext {
            step: step.0,
            tokens: costs.tokens.0,
            flops: costs.flops.total().as_f64(),
            learning_rate: course.schedule.clone().rate(step, progress),
            progress,
            phase: &course.phase,
            blocks,
            losses: newest(known(losses, step)),
            evaluations: newest(evaluations),
        }
    }
}

/// Losses are complete to the step before the last one on every engine; none is shown earlier on a faster one, so that all
/// decide alike.
fn known(losses: &[LossPoint], step: Step) -> &[LossPoint] {
    &losses[..losses.partition_point(|loss| loss.step + 2 <= step.0)]
}

fn newest<T>(recent: &[T]) -> &[T] {
    &recent[recent.len().saturating_sub(RECENT)..]
}

/// What a strategy is told about a run.
pub(crate) fn run_facts(config: &RunConfig) -> RunFacts {
    let shape = &config.model;
    RunFacts {
        model: ModelFacts {
            layers: shape.layers,
            width: shape.width,
            heads: shape.heads,
            context: shape.context,
            vocabulary: shape.vocabulary,
            init_std: shape.init_std,
            mlp_width: shape.hidden(),
        },
        tokens_per_step: config.tokens_per_step().0,
        budget: Budget {
            reference_steps: config.budget.reference_steps,
            flops: config.budget.flops.map(Flops::as_f64),
        },
        constant_rate: config.schedule.is_constant(),
        key: strategy_key(config, &config.strategy.id),
    }
}

/// The key of a strategy's own random streams.
pub(crate) fn strategy_key(config: &RunConfig, id: &str) -> Key {
    Key::of_seed(config.seed).named("strategy").named(id)
}

/// Adds what is newest, and forgets in bulk what is shown no more, so that a step does not move a thousand entries.
pub(crate) fn push_recent<T>(recent: &mut Vec<T>, newest: T) {
    recent.push(newest);
    // The newest one is not shown yet: what is left has to be one more than what is.
    if recent.len() > 2 * RECENT {
        recent.drain(..RECENT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_losses_are_shown_at_every_step() {
        let mut losses = Vec::new();
        for step in 0..4000 {
            let shown = newest(known(&losses, Step(step))).len() as u64;
            assert_eq!(shown, step.saturating_sub(1).min(RECENT as u64), "before step {step}");
            push_recent(&mut losses, LossPoint { step, loss_nats_per_token: 1.0 });
        }
    }
}
