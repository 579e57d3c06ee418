//! Blocks freeze one by one from the bottom, at an even pace from a share of the budget on, as Composer's layer freezing
//! has it (`LayerFreezing`): at progress p, the lowest `floor(L level (p - start) / (1 - start))` of L blocks.
//!
//! No growth: what freezing alone saves and costs, beside strategies that freeze and grow. `sapwood/adaptive-freezing` looks
//! at gradients to decide which blocks have settled.
//!
//! Do embeddings and head freeze too? With `embeddings = "freeze"` they do with the first block, and nothing goes back
//! below the lowest block that trains; a tied head, being the token embedding, stands still with them. With `train`
//! they go on, and gradients cross every frozen block. The final norm trains to the end.

use sapwood_plugin::{
    Actions, Error, GrowthStrategy, LayerId, Plan, PlannedPhase, Plugin, Result, RunFacts, StepContext, Train,
};
use serde::Deserialize;

/// From when on, how far, and what becomes of the embeddings.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "embeddings": "freeze" }]))]
struct Config {
    /// What becomes of the embeddings.
    embeddings: Embeddings,
    /// Share of the budget at which freezing begins, below 1 (default, Composer's: 0.5).
    #[serde(default = "one_half")]
    start: f64,
    /// Share of the blocks that are frozen at the end, 0 to 1; one block always trains (default, Composer's: 1).
    #[serde(default = "one")]
    level: f64,
}

fn one_half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}

/// The embeddings once a block is frozen.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Embeddings {
    /// Are frozen with the first block, a tied head with them (Composer, where they are the first layer).
    Freeze,
    /// Train, and the head with them.
    Train,
}

struct FrontFreezing {
    config: Config,
}

impl Plugin for FrontFreezing {
    type Config = Config;

    fn new(config: Config) -> Result<FrontFreezing> {
        if !(0.0..1.0).contains(&config.start) {
            return Err(Error::new("must be 0 or more, and below 1").in_field("start"));
        }
        if !(0.0..=1.0).contains(&config.level) {
            return Err(Error::new("must lie between 0 and 1").in_field("level"));
        }
        Ok(FrontFreezing { config })
    }
}

impl GrowthStrategy for FrontFreezing {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let depth = run.model.layers;
        let phase = PlannedPhase {
            label: "frozen0".into(),
            first_step: 0,
            steps: None,
            depth,
            trains: "all; then fewer and fewer blocks from the bottom".into(),
        };
        Ok(Plan { phases: vec![phase], ..Plan::fixed_depth(depth, depth) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let wanted = self.frozen(context.progress, context.blocks.len());
        let frozen = context.blocks.iter().filter(|block| block.trains == 0).count();
        if context.step == 0 {
            actions.phase("frozen0")?;
        }
        if wanted > frozen {
            let open: Vec<LayerId> = context.blocks[wanted..].iter().map(|block| block.id).collect();
            actions.phase(&format!("frozen{wanted}"))?;
            actions.train(match self.config.embeddings {
                Embeddings::Freeze => Train { final_norm: true, ..Train::blocks_only(open) },
                Embeddings::Train => Train::with_shared(open),
            })?;
        }
        Ok(())
    }

    sapwood_plugin::stateless!();
}

impl FrontFreezing {
    /// Blocks that are frozen at that share of the budget.
    fn frozen(&self, progress: f64, depth: usize) -> usize {
        let Config { start, level, .. } = self.config;
        let share = level * ((progress - start) / (1.0 - start)).max(0.0);
        ((share * depth as f64) as usize).min(depth.saturating_sub(1))
    }
}

sapwood_plugin::export! {
    strategy FrontFreezing {
        id: "sapwood/front-freezing",
        summary: "blocks freeze one by one from the bottom, at an even pace",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::FrontFreezing;

    fn drive(layers: usize, config: &str) -> String {
        let mut freezing: FrontFreezing = plugin(config).expect("a good configuration");
        SimulatedRun::new(layers, 40).drive(&mut freezing).expect("any model").to_string()
    }

    #[test]
    fn four_blocks_freeze_in_the_second_half_embeddings_and_head_with_the_first() {
        let wanted = "starts with 4 of at most 4 blocks
before step 0: phase `frozen0`
before step 25: phase `frozen1`; train blocks 1 2 3, final norm
before step 30: phase `frozen2`; train blocks 2 3, final norm
before step 35: phase `frozen3`; train blocks 3, final norm
ends after 40 steps with blocks 0 1 2 3
";
        assert_eq!(drive(4, r#"{ "embeddings": "freeze" }"#), wanted);
    }

    #[test]
    fn embeddings_and_head_may_train_on_and_not_all_need_freeze() {
        let said = drive(4, r#"{ "embeddings": "train", "start": 0, "level": 0.5 }"#);
        let wanted = "before step 20: phase `frozen1`; \
                      train blocks 1 2 3, token embedding, position embedding, final norm, head\n";
        assert!(said.contains(wanted) && !said.contains("frozen2"), "{said}");
    }

    #[test]
    fn one_block_trains_to_the_end() {
        let freezing: FrontFreezing = plugin(r#"{ "embeddings": "freeze" }"#).expect("a good configuration");
        assert_eq!([0.0, 0.5, 0.75, 1.0].map(|progress| freezing.frozen(progress, 4)), [0, 0, 2, 3]);
        assert_eq!(freezing.frozen(1.0, 0), 0);
    }

    #[test]
    fn interrupted_anywhere_it_goes_on_as_if_nothing_had_happened() {
        let make = || plugin::<FrontFreezing>(r#"{ "embeddings": "freeze", "start": 0.2 }"#);
        let run = SimulatedRun::new(6, 40);
        let whole = run.drive(&mut make().expect("a good configuration")).expect("any model");
        for step in 0..40 {
            assert_eq!(run.drive_interrupted(make, step).expect("a state to go on from"), whole, "{step}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (key, value) in [("start", "1"), ("start", "-0.1"), ("level", "1.1")] {
            let config = format!(r#"{{ "embeddings": "train", "{key}": {value} }}"#);
            let error = plugin::<FrontFreezing>(&config).map(|_| ()).expect_err("refused");
            assert_eq!(error.field(), Some(key));
        }
    }
}
