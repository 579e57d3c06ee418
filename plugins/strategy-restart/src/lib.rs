//! A control: the whole model from the first step, which is given once, without any growth, what methods that grow give it
//! beside the growth: a schedule that begins anew, with its warm-up, or an optimizer that begins anew.
//!
//! A way of growing that restarts the rate or resets AdamW has that in its result, too. What is left of it against this
//! control, with the same moment and the same choices, is the growth's own.
//!
//! Do embeddings and head freeze too? No: nothing is ever frozen.

use sapwood_plugin::{
    Actions, Error, GrowthStrategy, OptimizerChange, OptimizerRule, Plan, PlannedPhase, Plugin, Result,
    RunFacts, ScheduleChange, StepContext, Which,
};
use serde::Deserialize;

/// When, and what begins anew.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "at_fractions": [0.1], "schedule": "restart", "optimizer": "reset" }]))]
struct Config {
    /// Shares of the token budget at which it happens, rising, between 0 and 1.
    at_fractions: Vec<f64>,
    /// The learning rate's schedule.
    schedule: Schedule,
    /// AdamW's moments and counters.
    optimizer: OptimizerState,
}

/// The learning rate's schedule.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Schedule {
    /// Goes on.
    Keep,
    /// Begins anew over what is left of the budget, warm-up included.
    Restart,
}

/// AdamW's moments and counters.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OptimizerState {
    /// Go on.
    Keep,
    /// All begin anew.
    Reset,
}

struct Restart {
    config: Config,
    at_steps: Vec<u64>,
}

impl Plugin for Restart {
    type Config = Config;

    fn new(config: Config) -> Result<Restart> {
        let Config { at_fractions, schedule, optimizer } = &config;
        let inside = at_fractions.iter().all(|share| *share > 0.0 && *share < 1.0);
        if at_fractions.is_empty() || !inside || !at_fractions.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(Error::new("must be rising shares between 0 and 1").in_field("at_fractions"));
        }
        if (*schedule, *optimizer) == (Schedule::Keep, OptimizerState::Keep) {
            let what = "nothing begins anew: that is sapwood/baseline";
            return Err(Error::new(what).in_field("schedule"));
        }
        Ok(Restart { config, at_steps: Vec::new() })
    }
}

impl GrowthStrategy for Restart {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (depth, steps) = (run.model.layers, run.budget.reference_steps);
        let shares = self.config.at_fractions.iter();
        self.at_steps = shares.map(|share| (share * steps as f64).round() as u64).collect();
        let mut bounds = std::iter::once(&0).chain(&self.at_steps).zip(self.at_steps.iter().chain([&steps]));
        if !bounds.all(|(first, end)| first < end) {
            return Err(Error::new("a share is less than one step").in_field("at_fractions"));
        }
        let phase = |(number, first_step): (usize, &u64)| PlannedPhase {
            label: label(number),
            first_step: *first_step,
            steps: self.at_steps.get(number).map(|end| end - first_step),
            depth,
            trains: "all".into(),
        };
        let phases = std::iter::once(&0).chain(&self.at_steps).enumerate().map(phase).collect();
        Ok(Plan { phases, ..Plan::fixed_depth(depth, depth) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        if context.step == 0 {
            actions.phase(&label(0))?;
        }
        if let Some(number) = self.at_steps.iter().position(|&step| step == context.step) {
            actions.phase(&label(number + 1))?;
            if self.config.optimizer == OptimizerState::Reset {
                actions.optimizer(OptimizerRule { which: Which::All, change: OptimizerChange::Reset })?;
            }
            if self.config.schedule == Schedule::Restart {
                actions.schedule(ScheduleChange::Restart)?;
            }
        }
        Ok(())
    }

    sapwood_plugin::stateless!();
}

fn label(number: usize) -> String {
    format!("start{number}")
}

sapwood_plugin::export! {
    strategy Restart {
        id: "sapwood/restart",
        summary: "a control: no growth, but schedule or optimizer begin anew",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::Restart;

    fn drive(config: &str, steps: u64) -> sapwood_plugin::Result<String> {
        let mut strategy: Restart = plugin(config)?;
        Ok(SimulatedRun::new(2, steps).drive(&mut strategy)?.to_string())
    }

    #[test]
    fn what_was_chosen_begins_anew_when_it_should() {
        let both = r#"{ "at_fractions": [0.25, 0.5], "schedule": "restart", "optimizer": "reset" }"#;
        let wanted = "starts with 2 of at most 2 blocks
before step 0: phase `start0`
before step 10: phase `start1`; optimizer Reset of All; schedule Restart
before step 20: phase `start2`; optimizer Reset of All; schedule Restart
ends after 40 steps with blocks 0 1
";
        assert_eq!(drive(both, 40).expect("a good configuration"), wanted);
        let one = r#"{ "at_fractions": [0.5], "schedule": "keep", "optimizer": "reset" }"#;
        assert!(!drive(one, 40).expect("a good configuration").contains("schedule"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        let config = |shares: &str, schedule: &str| {
            format!(r#"{{ "at_fractions": {shares}, "schedule": "{schedule}", "optimizer": "keep" }}"#)
        };
        for (shares, schedule, steps, field) in [
            ("[]", "restart", 40, "at_fractions"),
            ("[0.5, 0.5]", "restart", 40, "at_fractions"),
            ("[1.0]", "restart", 40, "at_fractions"),
            ("[0.01]", "restart", 40, "at_fractions"),
            ("[0.5]", "keep", 40, "schedule"),
        ] {
            let error = drive(&config(shares, schedule), steps).expect_err("refused");
            assert_eq!(error.field(), Some(field), "{shares} {schedule}");
        }
    }
}
