//! One growth late in training: a model of no or one layer until most of the budget is spent, then the whole depth at
//! once, at the same learning rate (Bu, "Deep progressive training", arXiv 2511.04981).
//!
//! The paper grows at the share tau of the budget, 0.8 at most, while the rate is still high, which a schedule of warm-up,
//! stable rate and decay (2 % and 10 %) leaves room for. Under a cosine the grown model does not catch up from tau = 0.5
//! on: a strategy is told whether the rate is constant and nothing more, so that a growth that late under any other
//! schedule is refused until `decaying_rate = "accept"` says that it is meant. New blocks begin without moments, all
//! others go on. The default tau of 0.6 is ours.
//!
//! From no layer the new blocks are the initializer's own, as in the paper's zero-layer model (`sapwood/original`). From one
//! or more they have sources. The paper found copies of the last layer alone to be worse, and zeroed outputs to be bad.
//!
//! Do embeddings and head freeze too? No: nothing is ever frozen.

use sapwood_plugin::{
    Above, Actions, Error, GrowthStrategy, Insert, LayerId, MomentsRule, Plan, PlannedPhase, Plugin, Result,
    RunFacts, StepContext,
};
use serde::{Deserialize, Serialize};

/// Sources are listed one by one: a model with more layers than that is a mistake, and too much to list.
const MOST_LAYERS: usize = 1 << 16;

/// From which depth, when, and in which order.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "first_layers": 1 }]))]
struct Config {
    /// Layers before growth (the paper: 0 or 1).
    first_layers: usize,
    /// Share of the token budget before growth, between 0 and 1 (default, ours: 0.6; the paper goes to 0.8).
    #[serde(default = "three_fifths")]
    tau: f64,
    /// Where copies go, and of what they are copies.
    #[serde(default)]
    order: Order,
    /// What a growth from half of the budget on does where the rate is not constant.
    #[serde(default)]
    decaying_rate: DecayingRate,
}

fn three_fifths() -> f64 {
    0.6
}

/// Where copies go, and of what they are copies.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// The stack again and again, on top.
    #[default]
    Stack,
    /// Copies of each block right above it, as many of each as there can be, the lower ones first.
    Interleave,
}

/// A growth from half of the budget on where the learning rate is not constant.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum DecayingRate {
    /// Is refused before the first step.
    #[default]
    Refuse,
    /// Is meant, as under a schedule that stays high until its last tenth.
    Accept,
}

struct Late {
    config: Config,
    grow_at: u64,
    final_depth: usize,
}

impl Plugin for Late {
    type Config = Config;

    fn new(config: Config) -> Result<Late> {
        if !(config.tau > 0.0 && config.tau < 1.0) {
            return Err(Error::new("must lie between 0 and 1").in_field("tau"));
        }
        Ok(Late { config, grow_at: 0, final_depth: 0 })
    }
}

impl GrowthStrategy for Late {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (layers, first) = (run.model.layers, self.config.first_layers);
        if layers > MOST_LAYERS {
            return Err(Error::new(format!(
                "{layers} layers are more than the {MOST_LAYERS} that it can grow to"
            )));
        }
        if first >= layers {
            return Err(Error::new(format!("{first} layers leave nothing to grow of {layers}"))
                .in_field("first_layers"));
        }
        self.check_rate(run)?;
        let steps = run.budget.reference_steps;
        (self.grow_at, self.final_depth) = ((self.config.tau * steps as f64).round() as u64, layers);
        if self.grow_at == 0 || self.grow_at >= steps {
            let wrong =
                format!("growth before step {} of {steps} leaves one side without a step", self.grow_at);
            return Err(Error::new(wrong).in_field("tau"));
        }
        let phase = |label: &str, first_step, steps, depth| PlannedPhase {
            label: label.into(),
            first_step,
            steps,
            depth,
            trains: "all".into(),
        };
        let phases =
            vec![phase("shallow", 0, Some(self.grow_at), first), phase("whole", self.grow_at, None, layers)];
        Ok(Plan { slots: vec!["new_blocks".into()], phases, ..Plan::fixed_depth(first, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        if context.step == 0 {
            actions.phase("shallow")?;
        }
        if context.step == self.grow_at {
            self.grow(context, actions)?;
            actions.phase("whole")?;
        }
        Ok(())
    }

    sapwood_plugin::stateless!();
}

impl Late {
    fn check_rate(&self, run: &RunFacts) -> Result<()> {
        let late = self.config.tau >= 0.5 && !run.constant_rate;
        if late && self.config.decaying_rate == DecayingRate::Refuse {
            let what = "half of the budget before growth leaves new blocks too little of a rate that falls; \
                        if it stays high, say `decaying_rate = \"accept\"`";
            return Err(Error::new(what).in_field("tau"));
        }
        Ok(())
    }

    fn grow(&self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let stack: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        let new = self.final_depth.saturating_sub(stack.len());
        let Some(&top) = stack.last() else {
            return insert(actions, Above::Embedding, new, vec![]);
        };
        match self.config.order {
            Order::Stack => {
                let sources: Vec<LayerId> = stack.iter().copied().cycle().take(new).collect();
                insert(actions, Above::Layer(top), new, sources)
            }
            Order::Interleave => {
                for (index, &layer) in stack.iter().enumerate() {
                    let count = share(new, stack.len(), index);
                    insert(actions, Above::Layer(layer), count, vec![layer; count])?;
                }
                Ok(())
            }
        }
    }
}

/// How many of `count` things the `index`-th of `parts` gets where the first ones get one more.
fn share(count: usize, parts: usize, index: usize) -> usize {
    count / parts + usize::from(index < count % parts)
}

fn insert(actions: &mut Actions<'_>, above: Above, count: usize, sources: Vec<LayerId>) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let (slot, moments) = ("new_blocks".into(), MomentsRule::Zero);
    actions.insert(Insert { above, count, slot, sources, moments }).map(|_| ())
}

sapwood_plugin::export! {
    strategy Late {
        id: "sapwood/late",
        summary: "one growth to the whole depth, late in training (arXiv 2511.04981)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::Late;

    fn drive(run: &SimulatedRun, config: &str) -> sapwood_plugin::Result<String> {
        let mut late: Late = plugin(config).expect("a good configuration");
        run.drive(&mut late).map(|transcript| transcript.to_string())
    }

    fn check(config: &str, wanted: &str) {
        let said = drive(&SimulatedRun::new(5, 20), config).expect("a run that it takes");
        assert!(said.contains(&format!("{wanted}; phase `whole`")), "{config}: {said}");
    }

    #[test]
    fn it_grows_once_at_tau_from_what_is_there() {
        let zero = r#"{ "first_layers": 0, "tau": 0.8 }"#;
        let wanted = "starts with 0 of at most 5 blocks
before step 0: phase `shallow`
before step 16: insert 5 above the embedding for new_blocks; phase `whole`
ends after 20 steps with blocks 0 1 2 3 4
";
        assert_eq!(drive(&SimulatedRun::new(5, 20), zero).expect("a run that it takes"), wanted);
        check(r#"{ "first_layers": 1 }"#, "before step 12: insert 4 above 0 for new_blocks from 0 0 0 0");
        check(r#"{ "first_layers": 2 }"#, "before step 12: insert 3 above 1 for new_blocks from 0 1 0");
        check(
            r#"{ "first_layers": 2, "order": "interleave" }"#,
            "insert 2 above 0 for new_blocks from 0 0; insert 1 above 1 for new_blocks from 1",
        );
    }

    /// The paper's finding under a cosine: from half of the budget on.
    #[test]
    fn what_comes_too_late_under_a_falling_rate_is_refused() {
        let mut run = SimulatedRun::new(5, 20);
        run.facts.constant_rate = false;
        for tau in ["0.5", "0.6"] {
            let config = format!(r#"{{ "first_layers": 1, "tau": {tau} }}"#);
            assert_eq!(drive(&run, &config).expect_err("too late").field(), Some("tau"));
        }
        drive(&run, r#"{ "first_layers": 1, "tau": 0.45 }"#).expect("early enough");
        drive(&run, r#"{ "first_layers": 1, "decaying_rate": "accept" }"#).expect("it is meant");
    }

    /// Everything trains, embeddings and the tied head too: it never asks for anything else.
    #[test]
    fn nothing_is_ever_frozen() {
        let said = drive(&SimulatedRun::new(5, 20), r#"{ "first_layers": 1 }"#).expect("a run");
        assert!(!said.contains("train"), "{said}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for tau in ["0", "1", "-0.5", "7"] {
            let config = format!(r#"{{ "first_layers": 1, "tau": {tau} }}"#);
            assert_eq!(plugin::<Late>(&config).map(|_| ()).expect_err("refused").field(), Some("tau"));
        }
        let deep = drive(&SimulatedRun::new(5, 20), r#"{ "first_layers": 5 }"#).expect_err("nothing to grow");
        assert_eq!(deep.field(), Some("first_layers"));
        let short = drive(&SimulatedRun::new(5, 1), r#"{ "first_layers": 1 }"#).expect_err("one step");
        assert_eq!(short.field(), Some("tau"));
    }
}
