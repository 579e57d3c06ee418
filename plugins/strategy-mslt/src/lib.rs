//! Multi-stage layerwise training: each stage puts copies of the topmost blocks on top and trains them alone, so that
//! nothing goes back below them; at the end everything trains jointly (Yang et al., "Progressively stacking 2.0",
//! arXiv 2011.13635).
//!
//! With `L` layers and `S` stages, each stage adds `L / S` blocks. The first one trains all that there is, embeddings
//! included: nobody else would. Stages are equally long; joint training takes what is left. Its share, one fifth,
//! and the number of stages are ours.
//!
//! Do embeddings and head freeze too? The embeddings do, from the second stage until joint training. The method trains
//! the head with the new blocks, which a head of its own allows. GPT-2's head is the token embedding: it cannot train as
//! the head and be frozen as the input, and where it trains, gradients cross every frozen block down to it. So `head`
//! chooses what is given up: `frozen` keeps the saving (the new blocks and the final norm learn for a head that stands
//! still), `trains` keeps the head, and saves the update of old blocks and nothing else.

use sapwood_plugin::{
    Above, Actions, Error, GrowthStrategy, Insert, LayerId, MomentsRule, OptimizerChange, OptimizerRule,
    Plan, PlannedPhase, Plugin, Result, RunFacts, StepContext, Train, Which,
};
use serde::Deserialize;

/// Stages, joint training, and what becomes of the head and of AdamW.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "stages": 4, "head": "frozen", "optimizer": "reset" }]))]
struct Config {
    /// Number of stages; must divide the model's layers.
    stages: usize,
    /// What becomes of the head while new blocks train alone.
    head: Head,
    /// AdamW's moments and counters at the start of each stage and of joint training.
    optimizer: OptimizerState,
    /// Share of the token budget for joint training at the end, between 0 and 1 (default, ours: 0.2).
    #[serde(default = "one_fifth")]
    joint_fraction: f64,
}

fn one_fifth() -> f64 {
    0.2
}

/// The head while new blocks train alone.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Head {
    /// Is frozen like the embeddings: nothing goes back below the new blocks.
    Frozen,
    /// Trains (the method); where it is tied, the token embedding trains with it, and gradients go down to it.
    Trains,
}

/// AdamW's moments and counters at the start of a stage.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OptimizerState {
    /// All begin anew.
    Reset,
    /// New blocks take over those of their sources; all others go on.
    Copy,
}

struct Mslt {
    config: Config,
    blocks_per_stage: usize,
    /// First steps of the stages, and of joint training.
    begins: Vec<u64>,
}

impl Plugin for Mslt {
    type Config = Config;

    fn new(config: Config) -> Result<Mslt> {
        if config.stages < 2 {
            return Err(Error::new("there must be at least two stages").in_field("stages"));
        }
        if !(config.joint_fraction > 0.0 && config.joint_fraction < 1.0) {
            return Err(Error::new("must lie between 0 and 1").in_field("joint_fraction"));
        }
        Ok(Mslt { config, blocks_per_stage: 0, begins: Vec::new() })
    }
}

impl GrowthStrategy for Mslt {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (layers, stages) = (run.model.layers, self.config.stages);
        if stages > layers || layers % stages != 0 {
            let wrong = format!("{stages} stages do not divide {layers} layers");
            return Err(Error::new(wrong).in_field("stages"));
        }
        self.blocks_per_stage = layers / stages;
        self.begins = self.lay_out(run.budget.reference_steps)?;
        let phases = (0..=stages).map(|stage| self.planned(stage)).collect();
        let slots = vec!["new_blocks".into()];
        Ok(Plan { slots, phases, ..Plan::fixed_depth(self.blocks_per_stage, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let Ok(stage) = self.begins.binary_search(&context.step) else { return Ok(()) };
        actions.phase(&self.label(stage))?;
        let stack: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        if stage == self.config.stages {
            actions.train(Train::with_shared(stack))?;
        } else if stage > 0 {
            let new = self.copy_topmost(&stack, actions)?;
            let head = self.config.head == Head::Trains;
            actions.train(Train { final_norm: true, head, ..Train::blocks_only(new) })?;
        }
        if stage > 0 && self.config.optimizer == OptimizerState::Reset {
            actions.optimizer(OptimizerRule { which: Which::All, change: OptimizerChange::Reset })?;
        }
        Ok(())
    }

    sapwood_plugin::stateless!();
}

impl Mslt {
    fn lay_out(&self, steps: u64) -> Result<Vec<u64>> {
        let staged = (1.0 - self.config.joint_fraction) * steps as f64;
        let stages = self.config.stages;
        let begins: Vec<u64> =
            (0..=stages).map(|stage| (staged * stage as f64 / stages as f64).round() as u64).collect();
        let each_takes_a_step = begins.windows(2).all(|pair| pair[0] < pair[1]);
        if !each_takes_a_step || begins[stages] >= steps {
            let wrong = format!("{steps} steps are too few for {stages} stages and joint training");
            return Err(Error::new(wrong).in_field("stages"));
        }
        Ok(begins)
    }

    /// Stages from 0; the last one is joint training.
    fn planned(&self, stage: usize) -> PlannedPhase {
        let is_joint = stage == self.config.stages;
        let trains = match self.config.head {
            _ if stage == 0 || is_joint => "all",
            Head::Frozen => "the newest blocks, final norm",
            Head::Trains => "the newest blocks, final norm, head",
        };
        PlannedPhase {
            label: self.label(stage),
            first_step: self.begins[stage],
            steps: self.begins.get(stage + 1).map(|end| end - self.begins[stage]),
            depth: self.blocks_per_stage * (stage + usize::from(!is_joint)),
            trains: trains.into(),
        }
    }

    fn label(&self, stage: usize) -> String {
        if stage == self.config.stages { "joint".into() } else { format!("stage{}", stage + 1) }
    }

    fn copy_topmost(&self, stack: &[LayerId], actions: &mut Actions<'_>) -> Result<Vec<LayerId>> {
        let sources = stack[stack.len().saturating_sub(self.blocks_per_stage)..].to_vec();
        let copied = self.config.optimizer == OptimizerState::Copy;
        actions.insert(Insert {
            above: sources.last().map_or(Above::Embedding, |&top| Above::Layer(top)),
            count: sources.len(),
            slot: "new_blocks".into(),
            sources,
            moments: if copied { MomentsRule::CopyFromSource } else { MomentsRule::Zero },
        })
    }
}

sapwood_plugin::export! {
    strategy Mslt {
        id: "sapwood/mslt",
        summary: "new top blocks train alone, then all jointly (arXiv 2011.13635)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::Mslt;

    fn drive(layers: usize, steps: u64, config: &str) -> String {
        let mut mslt: Mslt = plugin(config).expect("a good configuration");
        SimulatedRun::new(layers, steps).drive(&mut mslt).expect("stages that fit").to_string()
    }

    /// Four equal stages in four fifths of the budget; what is copied is always the topmost.
    #[test]
    fn embeddings_and_head_freeze_with_the_old_blocks_until_all_train_jointly() {
        let config = r#"{ "stages": 4, "head": "frozen", "optimizer": "copy" }"#;
        let wanted = "starts with 2 of at most 8 blocks
before step 0: phase `stage1`
before step 20: phase `stage2`; insert 2 above 1 for new_blocks from 0 1; train blocks 2 3, final norm
before step 40: phase `stage3`; insert 2 above 3 for new_blocks from 2 3; train blocks 4 5, final norm
before step 60: phase `stage4`; insert 2 above 5 for new_blocks from 4 5; train blocks 6 7, final norm
before step 80: phase `joint`; train blocks 0 1 2 3 4 5 6 7, token embedding, position embedding, final norm, head
ends after 100 steps with blocks 0 1 2 3 4 5 6 7
";
        assert_eq!(drive(8, 100, config), wanted);
    }

    #[test]
    fn the_head_may_train_and_the_optimizer_begin_anew() {
        let said =
            drive(4, 20, r#"{ "stages": 2, "head": "trains", "optimizer": "reset", "joint_fraction": 0.5 }"#);
        assert!(said.contains("train blocks 2 3, final norm, head; optimizer Reset of All\n"), "{said}");
        assert!(
            said.contains("before step 10: phase `joint`") && said.matches("Reset").count() == 2,
            "{said}"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (key, value) in [("stages", "1"), ("joint_fraction", "0"), ("joint_fraction", "1")] {
            let rest = if key == "stages" { "" } else { r#""stages": 2, "# };
            let config = format!(r#"{{ {rest}"{key}": {value}, "head": "frozen", "optimizer": "copy" }}"#);
            assert_eq!(plugin::<Mslt>(&config).map(|_| ()).expect_err("refused").field(), Some(key));
        }
        for (layers, steps) in [(10, 100), (2, 100), (8, 4)] {
            let config = r#"{ "stages": 4, "head": "frozen", "optimizer": "copy" }"#;
            let mut mslt: Mslt = plugin(config).expect("a good configuration");
            let error = SimulatedRun::new(layers, steps).drive(&mut mslt).expect_err("refused");
            assert_eq!(error.field(), Some("stages"), "{layers} layers, {steps} steps");
        }
    }
}
