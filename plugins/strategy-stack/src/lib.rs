//! Depthwise stacking: train a shallow model, then repeat its whole stack of blocks once, at full depth
//! from there on (`G_stack`, Du et al., "Stacking Your Transformers", arXiv 2405.15319).
//!
//! A model of `L` blocks and growth factor `g` starts with `L / g`; blocks 0, 1, 2 become
//! 0, 1, 2, 0, 1, 2, … with the weights of their sources.

use sapwood_plugin::{
    Above, Actions, Error, GrowthStrategy, Insert, LayerId, MomentsRule, OptimizerChange, OptimizerRule,
    Plan, PlannedPhase, Plugin, Result, RunFacts, ScheduleChange, StepContext, Which,
};
use serde::{Deserialize, Serialize};

/// How often the stack is repeated, when, and what becomes of AdamW and the learning rate.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "factor": 2, "grow_after_fraction": 0.25, "optimizer": "copy" }]))]
struct Config {
    /// Growth factor: the final depth over the first (the paper's default: 4); must divide the layers.
    factor: usize,
    /// When to grow, as a share of the study's token budget.
    #[serde(default)]
    grow_after_fraction: Option<f64>,
    /// When to grow, in steps; instead of `grow_after_fraction`.
    #[serde(default)]
    grow_after_steps: Option<u64>,
    /// AdamW's moments and counters at growth.
    optimizer: OptimizerState,
    /// The learning rate's schedule at growth.
    #[serde(default)]
    schedule: Schedule,
}

/// AdamW's moments and counters at growth.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OptimizerState {
    /// Copies take over those of their sources; all others go on.
    Copy,
    /// All begin anew (the paper).
    Reset,
}

/// The learning rate's schedule at growth.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Schedule {
    /// Goes on.
    #[default]
    Keep,
    /// Begins anew over what is left of the budget, warm-up included (the paper).
    Restart,
}

struct Stack {
    config: Config,
    grow_at: u64,
}

impl Plugin for Stack {
    type Config = Config;

    fn new(config: Config) -> Result<Stack> {
        if config.factor < 2 {
            return Err(Error::new("a stack is repeated at least twice").in_field("factor"));
        }
        if config.grow_after_fraction.is_some() == config.grow_after_steps.is_some() {
            let wanted = "give either `grow_after_fraction` or `grow_after_steps`";
            return Err(Error::new(wanted).in_field("grow_after_fraction"));
        }
        if config.grow_after_fraction.is_some_and(|share| !(share > 0.0 && share < 1.0)) {
            return Err(Error::new("must lie between 0 and 1").in_field("grow_after_fraction"));
        }
        Ok(Stack { config, grow_at: 0 })
    }
}

impl GrowthStrategy for Stack {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (layers, factor) = (run.model.layers, self.config.factor);
        if layers % factor != 0 {
            return Err(Error::new(format!("a factor of {factor} does not divide {layers} layers"))
                .in_field("factor"));
        }
        let steps = run.budget.reference_steps as f64;
        let share = self.config.grow_after_fraction.unwrap_or_default();
        self.grow_at = self.config.grow_after_steps.unwrap_or((steps * share).round() as u64);
        if self.grow_at == 0 {
            return Err(Error::new("growth would come before the first step").in_field("grow_after_steps"));
        }
        let phase = |label: &str, first_step, steps, depth| PlannedPhase {
            label: label.into(),
            first_step,
            steps,
            depth,
            trains: "all".into(),
        };
        let phases = vec![
            phase("shallow", 0, Some(self.grow_at), layers / factor),
            phase("stacked", self.grow_at, None, layers),
        ];
        Ok(Plan { slots: vec!["new_blocks".into()], phases, ..Plan::fixed_depth(layers / factor, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        if context.step == 0 {
            actions.phase("shallow")?;
        }
        if context.step == self.grow_at {
            self.repeat_stack(context, actions)?;
        }
        Ok(())
    }

    sapwood_plugin::stateless!();
}

impl Stack {
    fn repeat_stack(&self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let stack: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        let sources = stack.repeat(self.config.factor - 1);
        let copied = self.config.optimizer == OptimizerState::Copy;
        actions.insert(Insert {
            above: stack.last().map_or(Above::Embedding, |&top| Above::Layer(top)),
            count: sources.len(),
            slot: "new_blocks".into(),
            sources,
            moments: if copied { MomentsRule::CopyFromSource } else { MomentsRule::Zero },
        })?;
        actions.phase("stacked")?;
        if !copied {
            actions.optimizer(OptimizerRule { which: Which::All, change: OptimizerChange::Reset })?;
        }
        if self.config.schedule == Schedule::Restart {
            actions.schedule(ScheduleChange::Restart)?;
        }
        Ok(())
    }
}

sapwood_plugin::export! {
    strategy Stack {
        id: "sapwood/stack",
        summary: "train shallow, then repeat the stack (arXiv 2405.15319)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::Stack;

    #[test]
    fn it_repeats_the_stack_once_with_its_sources() {
        let config =
            r#"{ "factor": 3, "grow_after_fraction": 0.5, "optimizer": "reset", "schedule": "restart" }"#;
        let mut stack: Stack = plugin(config).expect("a good configuration");
        let transcript = SimulatedRun::new(6, 40).drive(&mut stack).expect("three times two blocks");
        let wanted = "starts with 2 of at most 6 blocks
before step 0: phase `shallow`
before step 20: insert 4 above 1 for new_blocks from 0 1 0 1; phase `stacked`; optimizer Reset of All; schedule Restart
ends after 40 steps with blocks 0 1 2 3 4 5
";
        assert_eq!(transcript.to_string(), wanted);
    }
}
