//! Hidden layers that become wider: the model has all its blocks from the first step, but its MLPs start with a part of their
//! neurons, and more come at stated shares of the token budget (the MLP axis of CompoundGrow, Gu et al., NAACL 2021, arXiv
//! 2010.12562, and the first of masked structural growth, Yao et al., ICLR 2024, arXiv 2305.02869).
//!
//! How neurons that come are made is the initializer's: `sapwood/net2net` and `sapwood/lemon` keep the function,
//! `sapwood/aki` does not. Before that the MLPs have the first neurons of the run's initial model. Parts and shares have no
//! default here. It takes a host that knows revision 2 of the strategy's interface. The number of heads and the width of
//! the residual stream stay as they are.
//!
//! Do embeddings and head freeze too? No: nothing is ever frozen.

use sapwood_plugin::{
    Actions, Error, GrowthStrategy, MomentsRule, OptimizerChange, OptimizerRule, Plan, PlannedPhase, Plugin,
    Result, RunFacts, StepContext, Which, Widen,
};
use serde::Deserialize;

/// The role of the initializer that makes neurons.
const SLOT: &str = "wider_layers";

/// How wide, when, and what becomes of AdamW.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "parts": [0.25, 0.5, 1.0], "fractions": [0.25, 0.25, 0.5], "optimizer": "copy" }]))]
struct Config {
    /// Shares of the hidden layers' neurons that there are, stage by stage, rising to 1; in whole neurons, rounded.
    parts: Vec<f64>,
    /// Shares of the token budget that each stage takes; they sum to 1.
    fractions: Vec<f64>,
    /// AdamW's moments and counters whenever neurons come.
    optimizer: OptimizerState,
}

/// AdamW's moments and counters whenever neurons come.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OptimizerState {
    /// All begin anew.
    Reset,
    /// Neurons that were there keep theirs, those that come begin with moments of zero.
    Copy,
}

struct WidenLayers {
    config: Config,
    /// Each stage's first step and number of neurons.
    stages: Vec<(u64, usize)>,
}

impl Plugin for WidenLayers {
    type Config = Config;

    fn new(config: Config) -> Result<WidenLayers> {
        let Config { parts, fractions, .. } = &config;
        let rise =
            parts.windows(2).all(|pair| pair[0] < pair[1]) && parts.first().is_some_and(|part| *part > 0.0);
        let sum: f64 = fractions.iter().sum();
        let checks = [
            (
                "parts",
                rise && parts.len() > 1 && parts.last() == Some(&1.0),
                "at least two are needed, rising from above 0 to 1",
            ),
            ("fractions", fractions.len() == parts.len(), "there must be as many shares as `parts`"),
            ("fractions", fractions.iter().all(|share| *share > 0.0), "every share must be positive"),
            ("fractions", (sum - 1.0).abs() <= 1e-9, "the shares must sum to 1"),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, wanted)) => Err(Error::new(wanted).in_field(field)),
            None => Ok(WidenLayers { config, stages: Vec::new() }),
        }
    }
}

impl GrowthStrategy for WidenLayers {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (layers, hidden) = (run.model.layers, run.model.mlp_width);
        if hidden == 0 {
            return Err(Error::new(
                "this host does not tell how wide hidden layers are; use a newer sapwood",
            ));
        }
        let neurons = self.config.parts.iter().map(|part| (part * hidden as f64).round() as usize);
        let neurons: Vec<usize> = neurons.collect();
        if neurons[0] == 0 || !neurons.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(Error::new(format!("two stages have as many of {hidden} neurons")).in_field("parts"));
        }
        let starts = self.lay_out(run.budget.reference_steps)?;
        self.stages = starts.into_iter().zip(neurons).collect();
        let phase = |(number, &(first_step, neurons)): (usize, &(u64, usize))| PlannedPhase {
            label: label(neurons),
            first_step,
            steps: self.stages.get(number + 1).map(|(end, _)| end - first_step),
            depth: layers,
            trains: format!("all, with {neurons} of {hidden} neurons in each MLP"),
        };
        let phases = self.stages.iter().enumerate().map(phase).collect();
        let (slots, mlp_width) = (vec![SLOT.to_owned()], self.stages.first().map(|(_, neurons)| *neurons));
        Ok(Plan { slots, phases, mlp_width, ..Plan::fixed_depth(layers, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let stage = self.stages.iter().position(|(first_step, _)| *first_step == context.step);
        let Some(stage) = stage else { return Ok(()) };
        let (_, mlp_width) = self.stages[stage];
        if stage > 0 {
            let copied = self.config.optimizer == OptimizerState::Copy;
            let moments = if copied { MomentsRule::CopyFromSource } else { MomentsRule::Zero };
            actions.widen(Widen { mlp_width, slot: SLOT.into(), moments })?;
            if !copied {
                actions.optimizer(OptimizerRule { which: Which::All, change: OptimizerChange::Reset })?;
            }
        }
        actions.phase(&label(mlp_width))
    }

    sapwood_plugin::stateless!();
}

impl WidenLayers {
    /// The first step of each stage; each share's end is rounded on its own, so that roundings do not add up.
    fn lay_out(&self, steps: u64) -> Result<Vec<u64>> {
        let ends = self.config.fractions.iter().scan(0.0, |sum, share| {
            *sum += share;
            Some((*sum * steps as f64).round() as u64)
        });
        let starts: Vec<u64> = std::iter::once(0).chain(ends).take(self.config.parts.len()).collect();
        let rises = starts.windows(2).all(|pair| pair[0] < pair[1]) && starts.last() < Some(&steps);
        if rises {
            Ok(starts)
        } else {
            Err(Error::new("a share is less than one step").in_field("fractions"))
        }
    }
}

fn label(neurons: usize) -> String {
    format!("neurons{neurons}")
}

sapwood_plugin::export! {
    strategy WidenLayers {
        id: "sapwood/widen",
        summary: "no growth in depth; hidden layers become wider (CompoundGrow's MLP axis, arXiv 2010.12562)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::WidenLayers;

    const STAGES: &str =
        r#"{ "parts": [0.25, 0.5, 1.0], "fractions": [0.25, 0.25, 0.5], "optimizer": "copy" }"#;

    fn drive(config: &str, steps: u64) -> sapwood_plugin::Result<String> {
        let mut strategy: WidenLayers = plugin(config)?;
        Ok(SimulatedRun::new(2, steps).drive(&mut strategy)?.to_string())
    }

    /// The simulated model has 128 neurons in each hidden layer.
    #[test]
    fn neurons_come_at_stated_shares() {
        let wanted = "starts with 2 of at most 2 blocks
before step 0: phase `neurons32`
before step 10: widen hidden layers to 64 for wider_layers; phase `neurons64`
before step 20: widen hidden layers to 128 for wider_layers; phase `neurons128`
ends after 40 steps with blocks 0 1
";
        assert_eq!(drive(STAGES, 40).expect("stages that fit"), wanted);
        let reset = drive(&STAGES.replace("copy", "reset"), 40).expect("stages that fit");
        assert_eq!(reset.matches("for wider_layers; optimizer Reset of All;").count(), 2, "{reset}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        let config = |parts: &str, fractions: &str| {
            format!(r#"{{ "parts": {parts}, "fractions": {fractions}, "optimizer": "copy" }}"#)
        };
        for (parts, fractions, steps, field) in [
            ("[1.0]", "[1.0]", 40, "parts"),
            ("[0.5, 0.75]", "[0.5, 0.5]", 40, "parts"),
            ("[0.5, 0.25, 1.0]", "[0.25, 0.25, 0.5]", 40, "parts"),
            ("[0.0, 1.0]", "[0.5, 0.5]", 40, "parts"),
            ("[0.001, 1.0]", "[0.5, 0.5]", 40, "parts"),
            ("[0.5, 1.0]", "[1.0]", 40, "fractions"),
            ("[0.5, 1.0]", "[0.5, 0.6]", 40, "fractions"),
            ("[0.5, 1.0]", "[1.5, -0.5]", 40, "fractions"),
            ("[0.5, 1.0]", "[0.5, 0.5]", 1, "fractions"),
        ] {
            let error = drive(&config(parts, fractions), steps).expect_err("refused");
            assert_eq!(error.field(), Some(field), "{parts} {fractions}");
        }
    }
}
