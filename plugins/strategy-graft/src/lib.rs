//! New blocks set into a model that was trained before, and trained while it stays as it was: a checkpoint is grown
//! (LLaMA-Pro, Wu et al., ACL 2024, arXiv 2401.02415).
//!
//! Before the first step the initial model's `first_layers` blocks get new ones between them, as many as the study's model
//! has more, and none of what was there is trained. LLaMA-Pro puts one above each of equally many groups (`place = "each"`), by
//! the initializer `sapwood/zero-out`, so that the function is what it was; the sources of new blocks are the blocks right
//! below them. With `thaw_after_fraction` everything trains after that share of the token budget, which is ours.
//!
//! `sapwood/gradual` grows in the same way *after* a stage in which the smaller model trains; here there is none, since that
//! model is somebody's and finished.
//!
//! Do embeddings and head freeze too? `freeze` says it: with `all` they do, as in LLaMA-Pro; with `blocks` the embeddings, the
//! final norm and the head train on.

use sapwood_plugin::{
    Above, Actions, Error, GrowthStrategy, Insert, LayerId, MomentsRule, Plan, PlannedPhase, Plugin, Result,
    RunFacts, StepContext, Train,
};
use serde::{Deserialize, Serialize};

/// What is there, where new blocks go, and what trains.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "first_layers": 8, "place": "each", "freeze": "all" }]))]
struct Config {
    /// Blocks of the model that was trained before.
    first_layers: usize,
    /// Where new blocks go.
    place: Place,
    /// What does not train.
    freeze: Freeze,
    /// Share of the token budget after which everything trains, above 0 and below 1 (default: never).
    thaw_after_fraction: Option<f64>,
}

/// Where new blocks go.
#[derive(Clone, Copy, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// One above each of as many groups as there are new blocks, the groups as equal as can be (LLaMA-Pro).
    Each,
    /// On top, copies of the uppermost ones in their order.
    Top,
}

/// What does not train.
#[derive(Clone, Copy, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Freeze {
    /// All that was there, embeddings, final norm and head included (LLaMA-Pro).
    All,
    /// The blocks that were there.
    Blocks,
}

struct Graft {
    config: Config,
    new_blocks: usize,
    thaw_before: Option<u64>,
}

impl Plugin for Graft {
    type Config = Config;

    fn new(config: Config) -> Result<Graft> {
        if config.first_layers == 0 {
            return Err(Error::new("must be at least 1").in_field("first_layers"));
        }
        if config.thaw_after_fraction.is_some_and(|share| !(share > 0.0 && share < 1.0)) {
            return Err(Error::new("must lie between 0 and 1").in_field("thaw_after_fraction"));
        }
        Ok(Graft { config, new_blocks: 0, thaw_before: None })
    }
}

impl GrowthStrategy for Graft {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (layers, first) = (run.model.layers, self.config.first_layers);
        if !(first < layers && layers - first <= first) {
            let wrong = format!("{first} blocks cannot become {layers}: 1 to {first} more are possible");
            return Err(Error::new(wrong).in_field("first_layers"));
        }
        self.new_blocks = layers - first;
        let steps = run.budget.reference_steps;
        self.thaw_before = self.config.thaw_after_fraction.map(|share| (share * steps as f64).round() as u64);
        if self.thaw_before.is_some_and(|step| step == 0 || step >= steps) {
            let wrong =
                format!("{steps} steps are too few: nothing would be trained before it, or nothing after");
            return Err(Error::new(wrong).in_field("thaw_after_fraction"));
        }
        let phase = |label: &str, first_step, steps, trains: &str| PlannedPhase {
            label: label.into(),
            first_step,
            steps,
            depth: layers,
            trains: trains.into(),
        };
        let trains = match self.config.freeze {
            Freeze::All => "new blocks",
            Freeze::Blocks => "new blocks, embeddings, final norm and head",
        };
        let mut phases = vec![phase("graft", 0, self.thaw_before, trains)];
        phases.extend(self.thaw_before.map(|step| phase("thawed", step, None, "all")));
        Ok(Plan { slots: vec!["new_blocks".into()], phases, ..Plan::fixed_depth(first, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let stack: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        if context.step == 0 {
            let new = self.graft(&stack, actions)?;
            actions.train(match self.config.freeze {
                Freeze::All => Train::blocks_only(new),
                Freeze::Blocks => Train::with_shared(new),
            })?;
            return actions.phase("graft");
        }
        if Some(context.step) == self.thaw_before {
            actions.train(Train::with_shared(stack))?;
            return actions.phase("thawed");
        }
        Ok(())
    }

    sapwood_plugin::stateless!();
}

impl Graft {
    fn graft(&self, stack: &[LayerId], actions: &mut Actions<'_>) -> Result<Vec<LayerId>> {
        if stack.len() != self.config.first_layers {
            let there = stack.len();
            return Err(Error::new(format!("there are {there} blocks before the first step"))
                .in_field("first_layers"));
        }
        let mut new = Vec::new();
        for sources in self.sources(stack) {
            let Some(&top) = sources.last() else { continue };
            new.extend(actions.insert(Insert {
                above: Above::Layer(top),
                count: sources.len(),
                slot: "new_blocks".into(),
                sources: sources.to_vec(),
                // There is nothing to copy before the first step.
                moments: MomentsRule::Zero,
            })?);
        }
        Ok(new)
    }

    /// Runs of blocks to be copied; the copies of each stand right above it.
    fn sources<'a>(&self, stack: &'a [LayerId]) -> Vec<&'a [LayerId]> {
        let (old, new) = (stack.len(), self.new_blocks);
        match self.config.place {
            Place::Top => vec![&stack[old - new..]],
            Place::Each => (1..=new).map(|group| group * old / new).map(|end| &stack[end - 1..end]).collect(),
        }
    }
}

sapwood_plugin::export! {
    strategy Graft {
        id: "sapwood/graft",
        summary: "new blocks set into a finished model, which stays as it was (arXiv 2401.02415)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::Graft;

    fn check(layers: usize, config: &str, wanted: &str) {
        let mut graft: Graft = plugin(config).expect("a good configuration");
        let said = SimulatedRun::new(layers, 20).drive(&mut graft).expect("layers that fit").to_string();
        assert_eq!(said, wanted);
    }

    #[test]
    fn llama_pro_puts_a_block_above_each_group_and_trains_it_alone() {
        check(
            10,
            r#"{ "first_layers": 8, "place": "each", "freeze": "all" }"#,
            "starts with 8 of at most 10 blocks
before step 0: insert 1 above 3 for new_blocks from 3; insert 1 above 7 for new_blocks from 7; train blocks 8 9; phase `graft`
ends after 20 steps with blocks 0 1 2 3 8 4 5 6 7 9
",
        );
    }

    #[test]
    fn groups_need_not_be_equal_and_what_was_there_may_thaw() {
        check(
            5,
            r#"{ "first_layers": 3, "place": "each", "freeze": "blocks", "thaw_after_fraction": 0.5 }"#,
            "starts with 3 of at most 5 blocks
before step 0: insert 1 above 0 for new_blocks from 0; insert 1 above 2 for new_blocks from 2; train blocks 3 4, token embedding, position embedding, final norm, head; phase `graft`
before step 10: train blocks 0 3 1 2 4, token embedding, position embedding, final norm, head; phase `thawed`
ends after 20 steps with blocks 0 3 1 2 4
",
        );
    }

    #[test]
    fn on_top_come_copies_of_the_uppermost_in_their_order() {
        check(
            5,
            r#"{ "first_layers": 3, "place": "top", "freeze": "all" }"#,
            "starts with 3 of at most 5 blocks
before step 0: insert 2 above 2 for new_blocks from 1 2; train blocks 3 4; phase `graft`
ends after 20 steps with blocks 0 1 2 3 4
",
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (config, field) in [
            (r#"{ "first_layers": 0, "place": "top", "freeze": "all" }"#, "first_layers"),
            (
                r#"{ "first_layers": 1, "place": "top", "freeze": "all", "thaw_after_fraction": 1.0 }"#,
                "thaw_after_fraction",
            ),
        ] {
            let error = plugin::<Graft>(config).map(|_| ()).expect_err("it makes no sense");
            assert_eq!(error.field(), Some(field), "{config}");
        }
        for (layers, field, config) in [
            (3, "first_layers", r#"{ "first_layers": 3, "place": "top", "freeze": "all" }"#),
            (7, "first_layers", r#"{ "first_layers": 3, "place": "top", "freeze": "all" }"#),
            (
                4,
                "thaw_after_fraction",
                r#"{ "first_layers": 3, "place": "top", "freeze": "all", "thaw_after_fraction": 0.01 }"#,
            ),
        ] {
            let mut graft: Graft = plugin(config).expect("a good configuration");
            let error = SimulatedRun::new(layers, 20).drive(&mut graft).expect_err("it does not fit");
            assert_eq!(error.field(), Some(field), "{error}");
        }
    }
}
