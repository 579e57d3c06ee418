//! A few random blocks train at a time: the model is whole from the first step, and for every `K` steps `gamma` of its
//! blocks are drawn, all others frozen (LISA, Pan et al., NeurIPS 2024, arXiv 2403.17919).
//!
//! No growth: what freezing alone saves and costs, beside strategies that freeze and grow. The draw hangs on `seed` and
//! the number of the interval, not on the run's seed, which a strategy is not told: runs of all seeds draw alike. The
//! numbers of blocks and of steps have no default here; the paper uses 2 to 4 blocks.
//!
//! Do embeddings and head freeze too? No: embeddings, final norm and head train all the time, tied or not, so that
//! gradients cross every frozen block. What is saved is the frozen blocks' own gradients and updates.

use sapwood_plugin::{
    Actions, Error, GrowthStrategy, Key, LayerId, OptimizerChange, OptimizerRule, Plan, PlannedPhase, Plugin,
    Random, Result, RunFacts, StepContext, Train, Which,
};
use serde::{Deserialize, Serialize};

/// How many blocks, for how long, and what becomes of AdamW.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "blocks": 2, "every_steps": 20, "seed": 1 }]))]
struct Config {
    /// Blocks that train at a time, gamma; fewer than the model has (the paper: 2 to 4).
    blocks: usize,
    /// Steps between two draws, K.
    every_steps: u64,
    /// Of the draws.
    seed: u64,
    /// AdamW's moments and counters of blocks that are drawn.
    #[serde(default)]
    optimizer: OptimizerState,
}

/// AdamW's moments and counters of blocks that are drawn.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OptimizerState {
    /// Go on from where they were when the block last trained (ours: implementations differ).
    #[default]
    Keep,
    /// Begin anew.
    Reset,
}

struct Lisa {
    config: Config,
}

impl Plugin for Lisa {
    type Config = Config;

    fn new(config: Config) -> Result<Lisa> {
        for (key, value) in [("blocks", config.blocks as u64), ("every_steps", config.every_steps)] {
            if value == 0 {
                return Err(Error::new("must be at least 1").in_field(key));
            }
        }
        Ok(Lisa { config })
    }
}

impl GrowthStrategy for Lisa {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (layers, blocks) = (run.model.layers, self.config.blocks);
        if blocks >= layers {
            return Err(Error::new(format!("{blocks} of {layers} blocks are no choice")).in_field("blocks"));
        }
        let phase = PlannedPhase {
            label: "draw0".into(),
            first_step: 0,
            steps: Some(self.config.every_steps),
            depth: layers,
            trains: format!("{blocks} random blocks, embeddings, final norm, head; then others"),
        };
        Ok(Plan { phases: vec![phase], ..Plan::fixed_depth(layers, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        if !context.step.is_multiple_of(self.config.every_steps) {
            return Ok(());
        }
        let draw = context.step / self.config.every_steps;
        let stack: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        let drawn = self.drawn(draw, &stack);
        actions.phase(&format!("draw{draw}"))?;
        actions.train(Train::with_shared(drawn.clone()))?;
        if draw > 0 && self.config.optimizer == OptimizerState::Reset {
            let (which, change) = (Which::Layers(drawn), OptimizerChange::Reset);
            actions.optimizer(OptimizerRule { which, change })?;
        }
        Ok(())
    }

    sapwood_plugin::stateless!();
}

impl Lisa {
    /// The first of a stack that is shuffled as far as that (Fisher and Yates), from the embeddings up.
    fn drawn(&self, draw: u64, stack: &[LayerId]) -> Vec<LayerId> {
        let mut random = Random::new(Key::of_seed(self.config.seed).named("lisa").numbered(draw));
        let mut places: Vec<usize> = (0..stack.len()).collect();
        let blocks = self.config.blocks.min(stack.len());
        for index in 0..blocks {
            let left = (stack.len() - index) as u64;
            places.swap(index, index + random.below(left) as usize);
        }
        places.truncate(blocks);
        places.sort_unstable();
        places.into_iter().map(|place| stack[place]).collect()
    }
}

sapwood_plugin::export! {
    strategy Lisa { id: "sapwood/lisa", summary: "a few random blocks train at a time (arXiv 2403.17919)" }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};
    use sapwood_plugin::{Action, Train};

    use super::Lisa;

    /// What trains, draw by draw.
    fn draws(layers: usize, steps: u64, config: &str) -> Vec<Train> {
        let mut lisa: Lisa = plugin(config).expect("a good configuration");
        let transcript =
            SimulatedRun::new(layers, steps).drive(&mut lisa).expect("a model that is deep enough");
        let requests = transcript.decisions.into_iter().flat_map(|decision| decision.taken);
        let trains = requests.filter_map(|request| match request {
            Action::Train(train) => Some(train),
            _ => None,
        });
        trains.collect()
    }

    #[test]
    fn every_draw_is_of_so_many_blocks_and_all_shared_tensors_train() {
        let draws = draws(6, 4000, r#"{ "blocks": 2, "every_steps": 4, "seed": 7 }"#);
        assert_eq!(draws.len(), 1000);
        let mut often = [0usize; 6];
        for train in &draws {
            let [lower, upper] = train.layers[..] else { panic!("two blocks, not {:?}", train.layers) };
            assert!(lower < upper && train.token_embedding && train.position_embedding);
            assert!(train.final_norm && train.head && train.classes.is_none());
            often[lower.0 as usize] += 1;
            often[upper.0 as usize] += 1;
        }
        // A third of the draws each; four standard deviations are 60.
        assert!(often.iter().all(|count| count.abs_diff(333) <= 60), "{often:?}");
    }

    #[test]
    fn draws_hang_on_the_seed_and_the_interval() {
        let of =
            |seed: u64| draws(8, 40, &format!(r#"{{ "blocks": 3, "every_steps": 10, "seed": {seed} }}"#));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_ne!(of(1)[0], of(1)[1]);
    }

    #[test]
    fn the_optimizer_of_what_is_drawn_may_begin_anew() {
        let config = r#"{ "blocks": 1, "every_steps": 10, "seed": 1, "optimizer": "reset" }"#;
        let mut lisa: Lisa = plugin(config).expect("a good configuration");
        let said = SimulatedRun::new(3, 20).drive(&mut lisa).expect("a run").to_string();
        assert_eq!(said.matches("optimizer Reset of Layers([LayerId(").count(), 1, "{said}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (blocks, every_steps, field) in [(0, 1, "blocks"), (1, 0, "every_steps")] {
            let config = format!(r#"{{ "blocks": {blocks}, "every_steps": {every_steps}, "seed": 1 }}"#);
            assert_eq!(plugin::<Lisa>(&config).map(|_| ()).expect_err("refused").field(), Some(field));
        }
        let mut lisa: Lisa = plugin(r#"{ "blocks": 4, "every_steps": 1, "seed": 1 }"#).expect("good");
        let error = SimulatedRun::new(4, 10).drive(&mut lisa).expect_err("all of them");
        assert_eq!(error.field(), Some("blocks"));
    }
}
