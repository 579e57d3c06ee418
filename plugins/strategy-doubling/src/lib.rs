//! Progressive doubling: the whole stack is doubled again and again, at stated shares of the token budget, and everything
//! trains all the time (StackingBERT, Gong et al., ICML 2019; Kaddour et al., NeurIPS 2023, arXiv 2307.06440, whose code has
//! both orders below).
//!
//! A model of `L` layers and `n` doublings starts with `L / 2^n`. Kaddour et al.'s final configuration goes from 4 to 8
//! to 16 layers after an eighth and three tenths of the budget, with a fresh optimizer each time: the shares
//! `[0.125, 0.175, 0.7]`. Shares have no default here, and neither has the optimizer.
//!
//! With `renew_sources` the initializer also makes each source anew from itself, for initializers that share a block out
//! among its copies (`sapwood/split-residual`); it takes a host that knows revision 2 of the strategy's interface.
//!
//! With `fade_in_fraction` new blocks come in by degrees (masked structural growth, Yao et al., ICLR 2024, arXiv 2305.02869),
//! so that growth leaves the function as it was whatever the initializer; that, too, takes such a host.
//!
//! Do embeddings and head freeze too? No: nothing is ever frozen.

use sapwood_plugin::{
    Above, Actions, Error, FadeIn, GrowthStrategy, Insert, Key, LayerId, MomentsRule, OptimizerChange,
    OptimizerRule, Plan, PlannedPhase, Plugin, Random, Replace, Result, RunFacts, ScheduleChange,
    StepContext, Which, check_shares, stage_starts,
};
use serde::{Deserialize, Serialize};

/// When the stack is doubled, in which order, and what becomes of AdamW and the learning rate.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "fractions": [0.125, 0.175, 0.7], "optimizer": "reset" }]))]
struct Config {
    /// Shares of the token budget that each depth is trained for, from the shallowest to the whole model; they sum to 1.
    fractions: Vec<f64>,
    /// AdamW's moments and counters at each doubling.
    optimizer: OptimizerState,
    /// Where copies go.
    #[serde(default)]
    order: Order,
    /// The learning rate's schedule at each doubling.
    #[serde(default)]
    schedule: Schedule,
    /// Whether each source is made anew too (default: it stays as it is); with `order = "interleave"` alone.
    #[serde(default)]
    renew_sources: bool,
    /// Share of the token budget over which new blocks come in by degrees, below 1 (default: 0, at once).
    #[serde(default)]
    fade_in_fraction: f64,
}

/// AdamW's moments and counters at a doubling.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OptimizerState {
    /// All begin anew (Kaddour et al.).
    Reset,
    /// Copies take over those of their sources; all others go on.
    Copy,
}

/// Where copies go.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// The stack stands on itself: 0 1 becomes 0 1 0 1 (StackingBERT).
    #[default]
    Stack,
    /// Each block stands on itself: 0 1 becomes 0 0 1 1.
    Interleave,
    /// As in `stack`, but each copy is of a block that is drawn at random, all of them once: a control, which tells what
    /// the order of the sources is worth.
    Shuffled,
}

/// The learning rate's schedule at a doubling.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Schedule {
    /// Goes on (ours).
    #[default]
    Keep,
    /// Begins anew over what is left of the budget, warm-up included.
    Restart,
}

struct Doubling {
    config: Config,
    key: Key,
    fade_in: FadeIn,
    /// First steps of all depths but the shallowest.
    grow_at: Vec<u64>,
}

impl Plugin for Doubling {
    type Config = Config;

    fn new(config: Config) -> Result<Doubling> {
        let refuse = |why: &str| Err(Error::new(why).in_field("fractions"));
        // 2^16 is more than the layers of any model.
        if !(2..=17).contains(&config.fractions.len()) {
            return refuse("there must be 2 to 17 shares, one a depth");
        }
        check_shares(&config.fractions).map_err(|error| error.in_field("fractions"))?;
        if config.renew_sources && config.order != Order::Interleave {
            let why =
                "a source shares itself out among copies right beside it: choose order = \"interleave\"";
            return Err(Error::new(why).in_field("renew_sources"));
        }
        if !(0.0..1.0).contains(&config.fade_in_fraction) {
            return Err(Error::new("must be 0 or more, and below 1").in_field("fade_in_fraction"));
        }
        if config.renew_sources && config.fade_in_fraction > 0.0 {
            let why = "a source that shares itself out among copies would be too weak until they are in";
            return Err(Error::new(why).in_field("fade_in_fraction"));
        }
        Ok(Doubling { config, key: Key(0), fade_in: FadeIn::default(), grow_at: Vec::new() })
    }
}

impl GrowthStrategy for Doubling {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (layers, factor) = (run.model.layers, 1 << self.doublings());
        if layers % factor != 0 {
            let wrong = format!(
                "{} doublings make {factor} of one, which does not divide {layers} layers",
                self.doublings()
            );
            return Err(Error::new(wrong).in_field("fractions"));
        }
        let starts = stage_starts(&self.config.fractions, run.budget.reference_steps);
        self.grow_at = starts.map_err(|error| error.in_field("fractions"))?.split_off(1);
        self.key = run.key;
        let fade_in_steps = self.config.fade_in_fraction * run.budget.reference_steps as f64;
        self.fade_in = FadeIn::over(fade_in_steps.round() as u64);
        let phases = (0..=self.doublings()).map(|done| self.planned(done, layers / factor)).collect();
        let (slots, executes) = (vec!["new_blocks".into()], self.fade_in.is_gradual());
        Ok(Plan { slots, phases, executes, ..Plan::fixed_depth(layers / factor, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        if context.step == 0 {
            return actions.phase(&label(context.blocks.len()));
        }
        self.fade_in.open(context, actions)?;
        if self.grow_at.contains(&context.step) {
            self.double(context, actions)?;
            actions.phase(&label(2 * context.blocks.len()))?;
        }
        Ok(())
    }

    sapwood_plugin::stateless!();
}

impl Doubling {
    fn doublings(&self) -> usize {
        self.config.fractions.len() - 1
    }

    fn planned(&self, done: usize, initial_depth: usize) -> PlannedPhase {
        let first_step = if done == 0 { 0 } else { self.grow_at[done - 1] };
        let depth = initial_depth << done;
        let steps = self.grow_at.get(done).map(|end| end - first_step);
        PlannedPhase { label: label(depth), first_step, steps, depth, trains: "all".into() }
    }

    /// The same blocks in an order that hangs on seed and step alone.
    fn shuffled(&self, stack: &[LayerId], step: u64) -> Vec<LayerId> {
        let mut random = Random::new(self.key.numbered(step));
        let mut left = stack.to_vec();
        stack.iter().map(|_| left.swap_remove(random.below(left.len() as u64) as usize)).collect()
    }

    fn double(&self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let stack: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        let shuffled = self.shuffled(&stack, context.step);
        let runs = match self.config.order {
            Order::Shuffled => shuffled.chunks(stack.len().max(1)),
            Order::Stack => stack.chunks(stack.len().max(1)),
            Order::Interleave => stack.chunks(1),
        };
        let copied = self.config.optimizer == OptimizerState::Copy;
        let moments = if copied { MomentsRule::CopyFromSource } else { MomentsRule::Zero };
        let mut new = Vec::new();
        for sources in runs {
            let below = if self.config.order == Order::Interleave { sources.last() } else { stack.last() };
            new.extend(actions.insert(Insert {
                above: below.map_or(Above::Embedding, |&top| Above::Layer(top)),
                count: sources.len(),
                slot: "new_blocks".into(),
                sources: sources.to_vec(),
                moments,
            })?);
        }
        self.fade_in.close(&new, actions)?;
        if self.config.renew_sources {
            let (layers, sources, slot) = (stack.clone(), stack.clone(), "new_blocks".into());
            actions.replace(Replace { layers, slot, sources, moments })?;
        }
        if !copied {
            actions.optimizer(OptimizerRule { which: Which::All, change: OptimizerChange::Reset })?;
        }
        if self.config.schedule == Schedule::Restart {
            actions.schedule(ScheduleChange::Restart)?;
        }
        Ok(())
    }
}

fn label(depth: usize) -> String {
    format!("depth{depth}")
}

sapwood_plugin::export! {
    strategy Doubling {
        id: "sapwood/doubling",
        summary: "the stack is doubled again and again (StackingBERT)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::Doubling;

    fn drive(layers: usize, steps: u64, config: &str) -> String {
        let mut doubling: Doubling = plugin(config).expect("a good configuration");
        SimulatedRun::new(layers, steps).drive(&mut doubling).expect("depths that fit").to_string()
    }

    /// 4, 8 and 16 layers, doubled after an eighth and three tenths.
    #[test]
    fn boundaries_are_where_kaddours_configuration_puts_them() {
        let config = r#"{ "fractions": [0.125, 0.175, 0.7], "optimizer": "reset" }"#;
        let wanted = "starts with 4 of at most 16 blocks
before step 0: phase `depth4`
before step 5000: insert 4 above 3 for new_blocks from 0 1 2 3; optimizer Reset of All; phase `depth8`
before step 12000: insert 8 above 7 for new_blocks from 0 1 2 3 4 5 6 7; optimizer Reset of All; phase `depth16`
ends after 40000 steps with blocks 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
";
        assert_eq!(drive(16, 40_000, config), wanted);
    }

    #[test]
    fn interleaved_each_block_stands_on_itself() {
        let config = r#"{ "fractions": [0.5, 0.5], "optimizer": "copy", "order": "interleave", "schedule": "restart" }"#;
        let wanted = "starts with 2 of at most 4 blocks
before step 0: phase `depth2`
before step 10: insert 1 above 0 for new_blocks from 0; insert 1 above 1 for new_blocks from 1; schedule Restart; phase `depth4`
ends after 20 steps with blocks 0 2 1 3
";
        assert_eq!(drive(4, 20, config), wanted);
    }

    #[test]
    fn sources_are_made_anew_where_that_is_asked() {
        let config = r#"{ "fractions": [0.5, 0.5], "optimizer": "copy", "order": "interleave", "renew_sources": true }"#;
        let said = drive(4, 20, config);
        let wanted =
            "insert 1 above 1 for new_blocks from 1; replace 0 1 for new_blocks from 0 1; phase `depth4`";
        assert!(said.contains(wanted), "{said}");
        let stacked = config.replace("interleave", "stack");
        let error = plugin::<Doubling>(&stacked).map(|_| ()).expect_err("copies stand elsewhere");
        assert_eq!(error.field(), Some("renew_sources"));
    }

    #[test]
    fn shuffled_each_block_is_copied_once_in_an_order_of_the_seed() {
        let config = r#"{ "fractions": [0.5, 0.5], "optimizer": "copy", "order": "shuffled" }"#;
        let said = drive(16, 20, config);
        let line = said.lines().find(|line| line.starts_with("before step 10:")).expect("it grows");
        let from = line.split("from ").nth(1).and_then(|rest| rest.split(';').next()).expect("sources");
        let mut sources: Vec<u64> = from.split(' ').map(|id| id.parse().expect("a number")).collect();
        assert!(line.contains("insert 8 above 7 ") && sources != (0..8).collect::<Vec<_>>(), "{line}");
        sources.sort_unstable();
        assert_eq!(sources, (0..8).collect::<Vec<_>>());
        assert_eq!(said, drive(16, 20, config));
    }

    #[test]
    fn copies_come_in_by_degrees_where_that_is_asked() {
        let config = r#"{ "fractions": [0.5, 0.5], "optimizer": "copy", "fade_in_fraction": 0.05 }"#;
        let said = drive(2, 40, config);
        let wanted = "from 0; gate 1(0 0); phase `depth2`
before step 21: gate 1(0.5 0.5)
before step 22: gate 1(1 1)
ends";
        assert!(said.contains(wanted), "{said}");
        let renewing = r#"{ "fractions": [0.5, 0.5], "optimizer": "copy", "order": "interleave", "renew_sources": true, "fade_in_fraction": 0.1 }"#;
        let error = plugin::<Doubling>(renewing).map(|_| ()).expect_err("half of a source is missing");
        assert_eq!(error.field(), Some("fade_in_fraction"));
    }

    /// Everything trains, embeddings and the tied head too: it never asks for anything else.
    #[test]
    fn nothing_is_ever_frozen() {
        let said = drive(8, 80, r#"{ "fractions": [0.2, 0.2, 0.2, 0.4], "optimizer": "copy" }"#);
        assert!(!said.contains("train") && said.contains("depth8"), "{said}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for fractions in ["[1.0]", "[0.5, 0.6]", "[0.5, 0.0, 0.5]", "[1.5, -0.5]"] {
            let config = format!(r#"{{ "fractions": {fractions}, "optimizer": "copy" }}"#);
            let error = plugin::<Doubling>(&config).map(|_| ()).expect_err("refused");
            assert_eq!(error.field(), Some("fractions"), "{fractions}");
        }
        for (layers, steps) in [(6, 100), (2, 100), (12, 3)] {
            let config = r#"{ "fractions": [0.125, 0.175, 0.7], "optimizer": "reset" }"#;
            let mut doubling: Doubling = plugin(config).expect("a good configuration");
            let error = SimulatedRun::new(layers, steps).drive(&mut doubling).expect_err("refused");
            assert_eq!(error.field(), Some("fractions"), "{layers} layers, {steps} steps");
        }
    }
}
