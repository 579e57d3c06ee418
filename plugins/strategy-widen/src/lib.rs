//! A model that becomes wider: it has all its blocks from the first step, but its MLPs, its attention or its residual stream
//! start with a part of their neurons, heads or coordinates, and more come at stated shares of the token budget (the width of
//! CompoundGrow, Gu et al., NAACL 2021, arXiv 2010.12562; masked structural growth, Yao et al., ICLR 2024, arXiv 2305.02869;
//! and, all of them at once, staged training, Shen et al., ICML 2022, arXiv 2203.06211).
//!
//! How what comes is made is the initializer's: `sapwood/net2net`, `sapwood/lemon` and `sapwood/staged` keep the function,
//! `sapwood/aki` does not. Before that the model has the first neurons, heads and coordinates of the run's initial model; a head
//! is always as wide as in the whole model. Parts and shares have no default here; that hidden layers alone grow is ours. It
//! takes a host that knows revision 2 of the strategy's interface.
//!
//! With `optimizer = "staged"` AdamW's moments are what they would have been had the wider model been there from the start:
//! repeated, the first divided by how many times wider the model is, the second by that squared; only the final norm's are
//! repeated as they are, since its weights are what is divided. That is exact where everything grows by the same whole number and
//! the initializer is `sapwood/staged`.
//!
//! Do embeddings and head freeze too? No: nothing is ever frozen.

use sapwood_plugin::{
    Actions, Error, GrowthStrategy, ModelFacts, OptimizerChange, OptimizerRule, Plan, PlannedPhase, Plugin,
    Result, RunFacts, StepContext, Which, Widen, WidenedMoments, Widths, check_shares, stage_starts,
};
use serde::Deserialize;

/// The role of the initializer that makes what comes.
const SLOT: &str = "wider_layers";

/// What becomes wider, how wide, when, and what becomes of AdamW.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [
    { "parts": [0.25, 0.5, 1.0], "fractions": [0.25, 0.25, 0.5], "optimizer": "copy" },
    { "parts": [0.5, 1.0], "fractions": [0.5, 0.5], "axes": ["hidden_layers", "heads", "stream"], "optimizer": "staged" },
]))]
struct Config {
    /// Shares of what grows that there are, stage by stage, rising to 1; in whole neurons, heads and coordinates, rounded.
    parts: Vec<f64>,
    /// Shares of the token budget that each stage takes; they sum to 1.
    fractions: Vec<f64>,
    /// What grows: `hidden_layers`, `heads`, `stream` (default, ours: hidden layers alone).
    #[serde(default = "hidden_layers")]
    axes: Vec<Axis>,
    /// AdamW's moments and counters whenever the model becomes wider.
    optimizer: OptimizerState,
}

fn hidden_layers() -> Vec<Axis> {
    vec![Axis::HiddenLayers]
}

/// What grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Axis {
    /// The neurons of each MLP's hidden layer.
    HiddenLayers,
    /// The heads of each attention; how wide one is stays.
    Heads,
    /// The residual stream, embeddings and final norm included.
    Stream,
}

/// AdamW's moments and counters whenever the model becomes wider.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OptimizerState {
    /// All begin anew.
    Reset,
    /// What was there keeps its state, what comes begins with moments of zero.
    Copy,
    /// Repeated and divided, as staged training has it.
    Staged,
}

struct WidenModel {
    config: Config,
    /// Each stage's first step and width.
    stages: Vec<(u64, Widths)>,
}

impl Plugin for WidenModel {
    type Config = Config;

    fn new(config: Config) -> Result<WidenModel> {
        let Config { parts, fractions, axes, .. } = &config;
        let rise =
            parts.windows(2).all(|pair| pair[0] < pair[1]) && parts.first().is_some_and(|part| *part > 0.0);
        let mut once = axes.clone();
        once.sort();
        once.dedup();
        let checks = [
            (
                "parts",
                rise && parts.len() > 1 && parts.last() == Some(&1.0),
                "at least two are needed, rising from above 0 to 1",
            ),
            ("axes", !axes.is_empty() && once.len() == axes.len(), "at least one is needed, each once"),
            ("fractions", fractions.len() == parts.len(), "there must be as many shares as `parts`"),
        ];
        if let Some((field, _, wanted)) = checks.into_iter().find(|(_, holds, _)| !holds) {
            return Err(Error::new(wanted).in_field(field));
        }
        check_shares(fractions).map_err(|error| error.in_field("fractions"))?;
        Ok(WidenModel { config, stages: Vec::new() })
    }
}

impl GrowthStrategy for WidenModel {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let model = &run.model;
        if model.mlp_width == 0 {
            return Err(Error::new(
                "this host does not tell how wide hidden layers are; use a newer sapwood",
            ));
        }
        let widths: Vec<Widths> = self.config.parts.iter().map(|part| self.at(*part, model)).collect();
        self.check_rising(&widths)?;
        if self.config.optimizer == OptimizerState::Staged {
            check_multiples(&widths)?;
        }
        let starts = stage_starts(&self.config.fractions, run.budget.reference_steps)
            .map_err(|error| error.in_field("fractions"))?;
        self.stages = starts.into_iter().zip(widths).collect();
        let phase = |(number, &(first_step, widths)): (usize, &(u64, Widths))| PlannedPhase {
            label: self.label(widths),
            first_step,
            steps: self.stages.get(number + 1).map(|(end, _)| end - first_step),
            depth: model.layers,
            trains: format!("all, with {widths}"),
        };
        let phases = self.stages.iter().enumerate().map(phase).collect();
        let (slots, widths) = (vec![SLOT.to_owned()], self.stages.first().map(|(_, widths)| *widths));
        Ok(Plan { slots, phases, widths, ..Plan::fixed_depth(model.layers, model.layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let stage = self.stages.iter().position(|(first_step, _)| *first_step == context.step);
        let Some(stage) = stage else { return Ok(()) };
        let (_, widths) = self.stages[stage];
        if stage > 0 {
            let moments = match self.config.optimizer {
                OptimizerState::Reset => WidenedMoments::Zero,
                OptimizerState::Copy => WidenedMoments::Keep,
                OptimizerState::Staged => WidenedMoments::Repeat,
            };
            actions.widen(Widen { widths, slot: SLOT.into(), moments })?;
            for (which, change) in self.optimizer_changes(stage) {
                actions.optimizer(OptimizerRule { which, change })?;
            }
        }
        actions.phase(&self.label(widths))
    }

    sapwood_plugin::stateless!();
}

impl WidenModel {
    /// The model with that part of what grows.
    fn at(&self, part: f64, model: &ModelFacts) -> Widths {
        let of = |axis: Axis, whole: usize| {
            if self.config.axes.contains(&axis) { (part * whole as f64).round() as usize } else { whole }
        };
        let Widths { width, heads, mlp_width } = model.widths();
        Widths {
            width: of(Axis::Stream, width),
            heads: of(Axis::Heads, heads),
            mlp_width: of(Axis::HiddenLayers, mlp_width),
        }
    }

    /// Refuses stages in which something that is to grow does not.
    fn check_rising(&self, widths: &[Widths]) -> Result<()> {
        for axis in &self.config.axes {
            let (what, of): (_, fn(&Widths) -> usize) = match axis {
                Axis::HiddenLayers => ("neurons", |widths| widths.mlp_width),
                Axis::Heads => ("heads", |widths| widths.heads),
                Axis::Stream => ("coordinates", |widths| widths.width),
            };
            let rises = widths.windows(2).all(|pair| of(&pair[0]) < of(&pair[1]));
            if !rises || widths.first().is_some_and(|first| of(first) == 0) {
                let whole = widths.last().map_or(0, of);
                let what = format!("two stages have as many of {whole} {what}, or the first has none");
                return Err(Error::new(what).in_field("parts"));
            }
        }
        Ok(())
    }

    /// What is done to AdamW's states of a stage beside what becomes of the tensors that grow.
    fn optimizer_changes(&self, stage: usize) -> Vec<(Which, OptimizerChange)> {
        match self.config.optimizer {
            OptimizerState::Copy => Vec::new(),
            OptimizerState::Reset => vec![(Which::All, OptimizerChange::Reset)],
            OptimizerState::Staged => {
                let times = self.stages[stage].1.width as f64 / self.stages[stage - 1].1.width as f64;
                let scale = |factor: f64| OptimizerChange::Scale { first: factor, second: factor * factor };
                let norm = |class: &str| (Which::Class(class.into()), scale(times));
                vec![(Which::All, scale(1.0 / times)), norm("ln_f.weight"), norm("ln_f.bias")]
            }
        }
    }

    /// What grows, by how much of it there is.
    fn label(&self, widths: Widths) -> String {
        let of = |axis: &Axis| match axis {
            Axis::HiddenLayers => format!("neurons{}", widths.mlp_width),
            Axis::Heads => format!("heads{}", widths.heads),
            Axis::Stream => format!("stream{}", widths.width),
        };
        self.config.axes.iter().map(of).collect::<Vec<String>>().join("-")
    }
}

/// Refuses stages that are not each the same whole number of times wider in every way.
fn check_multiples(widths: &[Widths]) -> Result<()> {
    for pair in widths.windows(2) {
        let [before, after] = [pair[0].all(), pair[1].all()];
        let times = after[0] / before[0].max(1);
        if before.iter().zip(after).any(|(before, after)| times * before != after) {
            let what = "staged training multiplies stream, heads and hidden layers by the same whole number: grow all of `axes`, \
                        by parts that are";
            return Err(Error::new(what).in_field("optimizer"));
        }
    }
    Ok(())
}

sapwood_plugin::export! {
    strategy WidenModel {
        id: "sapwood/widen",
        summary: "no growth in depth; hidden layers, heads or the stream become wider (arXiv 2010.12562, 2203.06211)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::WidenModel;

    const STAGES: &str =
        r#"{ "parts": [0.25, 0.5, 1.0], "fractions": [0.25, 0.25, 0.5], "optimizer": "copy" }"#;

    fn drive(config: &str, steps: u64) -> sapwood_plugin::Result<String> {
        let mut strategy: WidenModel = plugin(config)?;
        Ok(SimulatedRun::new(2, steps).drive(&mut strategy)?.to_string())
    }

    /// The simulated model has 128 neurons in each hidden layer.
    #[test]
    fn neurons_come_at_stated_shares() {
        let wanted = "starts with 2 of at most 2 blocks
before step 0: phase `neurons32`
before step 10: widen to a stream 32 wide, 4 heads, 64 neurons for wider_layers; phase `neurons64`
before step 20: widen to a stream 32 wide, 4 heads, 128 neurons for wider_layers; phase `neurons128`
ends after 40 steps with blocks 0 1
";
        assert_eq!(drive(STAGES, 40).expect("stages that fit"), wanted);
        let reset = drive(&STAGES.replace("copy", "reset"), 40).expect("stages that fit");
        assert_eq!(reset.matches("for wider_layers; optimizer Reset of All;").count(), 2, "{reset}");
    }

    /// The simulated model's stream is 32 wide, and it has four heads.
    #[test]
    fn a_model_that_doubles_has_halves_and_quarters_of_its_moments_but_in_the_final_norm() {
        let staged = r#"{ "parts": [0.5, 1.0], "fractions": [0.5, 0.5], "optimizer": "staged",
                          "axes": ["stream", "heads", "hidden_layers"] }"#;
        let wanted = "starts with 2 of at most 2 blocks
before step 0: phase `stream16-heads2-neurons64`
before step 20: widen to a stream 32 wide, 4 heads, 128 neurons for wider_layers; \
optimizer Scale { first: 0.5, second: 0.25 } of All; \
optimizer Scale { first: 2.0, second: 4.0 } of Class(\"ln_f.weight\"); \
optimizer Scale { first: 2.0, second: 4.0 } of Class(\"ln_f.bias\"); phase `stream32-heads4-neurons128`
ends after 40 steps with blocks 0 1
";
        assert_eq!(drive(staged, 40).expect("it doubles"), wanted);
        let heads = staged.replace(r#"["stream", "heads", "hidden_layers"]"#, r#"["heads"]"#);
        assert_eq!(drive(&heads, 40).expect_err("heads alone").field(), Some("optimizer"));
        let alone = drive(&heads.replace("staged", "copy"), 40).expect("two heads, then four");
        assert!(alone.contains("widen to a stream 32 wide, 4 heads, 128 neurons"), "{alone}");
        for (parts, field) in [("[0.4, 1.0]", "optimizer"), ("[0.1, 1.0]", "parts")] {
            let error = drive(&staged.replacen("[0.5, 1.0]", parts, 1), 40).expect_err("no whole number");
            assert_eq!(error.field(), Some(field), "{parts}");
        }
        for axes in ["[]", r#"["heads", "heads"]"#] {
            let error = drive(&heads.replace(r#"["heads"]"#, axes), 40).expect_err("nothing, or twice");
            assert_eq!(error.field(), Some("axes"), "{axes}");
        }
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
