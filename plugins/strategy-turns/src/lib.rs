//! Blocks in turn: the whole model is there from the first step, but only a few blocks train at a time, then others. With
//! two at random for 20 steps each and AdamW's states kept it is LISA (Pan et al., arXiv 2403.17919, whose embeddings and
//! head always train), with one after the other for 100 steps and states zeroed BAdam (Luo et al., arXiv 2404.02827). The
//! numbers are ours, the papers' as we recall them.
//!
//! Do embeddings and head freeze too? `shared = "train"`: never (LISA). `shared = "freeze"`: always, the head that is tied to
//! them and the final norm included, so that the blocks alone learn.

use sapwood_plugin::{
    Actions, Error, GrowthStrategy, Key, LayerId, OptimizerChange, OptimizerRule, Plan, PlannedPhase, Plugin,
    Random, Result, RunFacts, StepContext, Train, Which,
};
use serde::Deserialize;

/// How many blocks train, for how long, and which come next.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{
    "blocks": 1, "every_steps": 20, "order": "random", "optimizer": "keep", "shared": "train"
}]))]
struct Config {
    /// Blocks that train at a time.
    blocks: usize,
    /// For how many steps.
    every_steps: u64,
    /// Which come next.
    order: Order,
    /// AdamW's states of blocks whose turn begins.
    optimizer: OptimizerState,
    /// Embeddings, head and final norm.
    shared: Shared,
}

/// Which blocks train next.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// Any, each as likely as any other.
    Random,
    /// Those above the last ones; after the top come the lowest again.
    Ascending,
}

/// AdamW's states of blocks whose turn begins.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OptimizerState {
    /// Go on where they were.
    Keep,
    /// Begin anew.
    Reset,
}

/// Embeddings, head and final norm.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Shared {
    /// Train always.
    Train,
    /// Never train.
    Freeze,
}

struct Turns {
    config: Config,
    key: Key,
}

impl Plugin for Turns {
    type Config = Config;

    fn new(config: Config) -> Result<Turns> {
        let counts = [("blocks", config.blocks == 0), ("every_steps", config.every_steps == 0)];
        match counts.into_iter().find(|(_, none)| *none) {
            Some((field, _)) => Err(Error::new("must be at least 1").in_field(field)),
            None => Ok(Turns { config, key: Key(0) }),
        }
    }
}

impl GrowthStrategy for Turns {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (layers, blocks) = (run.model.layers, self.config.blocks);
        if blocks > layers {
            return Err(Error::new(format!("the model has {layers} blocks alone")).in_field("blocks"));
        }
        self.key = run.key;
        let trains = format!("{blocks} of {layers} blocks, others every {} steps", self.config.every_steps);
        let phase =
            PlannedPhase { label: "in turn".into(), first_step: 0, steps: None, depth: layers, trains };
        Ok(Plan { phases: vec![phase], ..Plan::fixed_depth(layers, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let turn = context.step / self.config.every_steps;
        if turn * self.config.every_steps != context.step {
            return Ok(());
        }
        let (depth, blocks) = (context.blocks.len(), self.config.blocks);
        if depth < blocks {
            return Err(Error::new(format!("{blocks} blocks are to train, of {depth}")));
        }
        let positions = self.positions(turn, depth);
        let layers: Vec<LayerId> =
            positions.into_iter().map(|position| context.blocks[position].id).collect();
        let names: Vec<String> = layers.iter().map(ToString::to_string).collect();
        actions.phase(&format!("blocks {}", names.join(" ")))?;
        actions.train(match self.config.shared {
            Shared::Train => Train::with_shared(layers.clone()),
            Shared::Freeze => Train::blocks_only(layers.clone()),
        })?;
        if self.config.optimizer == OptimizerState::Keep {
            return Ok(());
        }
        actions.optimizer(OptimizerRule { which: Which::Layers(layers), change: OptimizerChange::Reset })
    }

    sapwood_plugin::stateless!();
}

impl Turns {
    /// Where the blocks stand whose turn it is, from the embeddings up.
    fn positions(&self, turn: u64, depth: usize) -> Vec<usize> {
        let blocks = self.config.blocks;
        let mut positions: Vec<usize> = match self.config.order {
            Order::Ascending => {
                let first = (turn % depth as u64) as usize * blocks;
                (first..first + blocks).map(|position| position % depth).collect()
            }
            Order::Random => {
                let mut random = Random::new(self.key.numbered(turn));
                let mut left: Vec<usize> = (0..depth).collect();
                (0..blocks).map(|_| left.swap_remove(random.below(left.len() as u64) as usize)).collect()
            }
        };
        positions.sort_unstable();
        positions
    }
}

sapwood_plugin::export! {
    strategy Turns {
        id: "sapwood/turns",
        summary: "no growth; a few blocks train at a time, in turn (arXiv 2403.17919, 2404.02827)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, Transcript, plugin};
    use sapwood_plugin::{Action, LayerId};

    use super::Turns;

    const LAYERS: usize = 5;

    fn config(blocks: usize, order: &str, optimizer: &str, shared: &str) -> String {
        format!(
            r#"{{ "blocks": {blocks}, "every_steps": 20, "order": "{order}", "optimizer": "{optimizer}", "shared": "{shared}" }}"#
        )
    }

    fn driven(config: &str, steps: u64) -> Transcript {
        let mut strategy: Turns = plugin(config).expect("a good configuration");
        SimulatedRun::new(LAYERS, steps).drive(&mut strategy).expect("blocks enough")
    }

    /// For each turn its first step and the blocks that train.
    fn turns(transcript: &Transcript) -> Vec<(u64, Vec<LayerId>)> {
        let trained = |action: &Action| match action {
            Action::Train(train) => Some(train.layers.clone()),
            _ => None,
        };
        let decisions = transcript.decisions.iter();
        decisions
            .map(|decision| (decision.step, decision.taken.iter().find_map(trained).expect("a turn")))
            .collect()
    }

    #[test]
    fn in_order_each_block_has_its_turn_and_a_fresh_state() {
        let transcript = driven(&config(2, "ascending", "reset", "freeze"), 120);
        let wanted = [[0, 1], [2, 3], [0, 4], [1, 2], [3, 4], [0, 1]];
        let wanted: Vec<(u64, Vec<LayerId>)> =
            (0..).step_by(20).zip(wanted.map(|ids| ids.map(LayerId).to_vec())).collect();
        assert_eq!(turns(&transcript), wanted);
        let said = transcript.to_string();
        let second = "before step 20: phase `blocks 2 3`; train blocks 2 3; optimizer Reset of Layers([LayerId(2), LayerId(3)])";
        assert!(said.contains(second), "{said}");
    }

    #[test]
    fn at_random_each_block_has_its_turn_as_often_as_any_other() {
        let mut trained = [0u32; LAYERS];
        for (_, layers) in turns(&driven(&config(2, "random", "keep", "train"), 20_000)) {
            assert!(layers.len() == 2 && layers[0] < layers[1], "{layers:?}");
            layers.iter().for_each(|layer| trained[layer.0 as usize] += 1);
        }
        // 2 of 5, a thousand times: a standard deviation is 15.5.
        assert!(trained.iter().all(|&times| times.abs_diff(400) < 62), "{trained:?}");
    }

    #[test]
    fn embeddings_and_head_train_always_or_never() {
        let first = |shared: &str| {
            let said = driven(&config(1, "ascending", "keep", shared), 20).to_string();
            said.lines().nth(1).expect("a turn").to_owned()
        };
        assert_eq!(first("freeze"), "before step 0: phase `blocks 0`; train blocks 0");
        let shared = "token embedding, position embedding, final norm, head";
        assert_eq!(first("train"), format!("before step 0: phase `blocks 0`; train blocks 0, {shared}"));
    }

    #[test]
    fn an_interrupted_run_goes_on_with_the_same_turns() {
        let config = config(2, "random", "reset", "train");
        let make = || plugin::<Turns>(&config);
        let run = SimulatedRun::new(LAYERS, 100);
        let whole = run.drive(&mut make().expect("good")).expect("good");
        for step in [1, 20, 59] {
            assert_eq!(run.drive_interrupted(make, step).expect("good"), whole, "interrupted before {step}");
        }
    }

    #[test]
    fn too_few_or_too_many_blocks_are_refused() {
        let error = plugin::<Turns>(&config(0, "random", "keep", "train")).err().expect("none");
        assert_eq!(error.field(), Some("blocks"));
        let mut many: Turns =
            plugin(&config(6, "random", "keep", "train")).expect("the model is not known yet");
        let error = SimulatedRun::new(LAYERS, 20).drive(&mut many).expect_err("six of five");
        assert_eq!((error.message(), error.field()), ("the model has 5 blocks alone", Some("blocks")));
    }
}
