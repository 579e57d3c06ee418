//! Layer drop: all blocks are there from the first step, but in each step some are left out by chance, which saves
//! their forward and backward pass. The model is never grown; evaluations run all of it, unscaled.
//!
//! Block `l` = 1 … `L`, from the embeddings up, is kept with a probability that a rule gives:
//!
//! | rule | probability of keeping | source |
//! | --- | --- | --- |
//! | `anneal` | `1 - most (l - 1)/(L - 1) (1 - t/T)` | Elhoushi et al., arXiv 2609.05275: most on top, none at the end |
//! | `progressive` | `1 - l/L (1 - θ(t))`, `θ(t) = (1 - keep) exp(-gamma t) + keep` | PLD, Zhang and He, arXiv 2010.13369 |
//! | `linear` | `1 - l/L (1 - keep)` | stochastic depth, Huang et al., arXiv 1603.09382 |
//! | `constant` | `1 - rate` | LayerDrop, Fan et al., arXiv 1909.11556 |
//!
//! `t` are steps, `t/T` is the share of the budget that is spent. Embeddings and head, tied or not, train in every
//! step: nothing is frozen, and a block that is left out keeps its AdamW state and step counter as they are.

use sapwood_plugin::{
    Actions, Error, GrowthStrategy, Key, Pass, Plan, PlannedPhase, Plugin, Random, Result, RunFacts,
    StepContext,
};
use serde::Deserialize;

/// How often blocks are left out, for whom, and whether those that run make up for it.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{
    "drop": { "rule": "anneal", "most": 0.4 }, "granularity": "step", "scale": "none"
}]))]
struct Config {
    /// How often each block is left out.
    drop: Rule,
    /// For whom a block is left out.
    granularity: Granularity,
    /// Whether blocks that run make up for the steps in which they do not.
    scale: Scale,
}

/// How often each block is left out.
#[derive(Clone, Copy, Deserialize, schemars::JsonSchema)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
enum Rule {
    /// More often the higher it stands, and less and less often until the end of the budget.
    Anneal {
        /// How often the top block is left out at first (arXiv 2609.05275: 0.4 at most; the default here).
        #[serde(default = "most")]
        most: f64,
    },
    /// More often the higher it stands, never at first, and more and more often.
    Progressive {
        /// How often the top block is kept in the long run, θ̄ (0.5 in DeepSpeed's code; the default here).
        #[serde(default = "half")]
        keep: f64,
        /// How fast that is reached, γ (0.001 in DeepSpeed's code; the default here).
        #[serde(default = "gamma_per_step")]
        gamma_per_step: f64,
    },
    /// More often the higher it stands, the same at every step.
    Linear {
        /// How often the top block is kept (ours: 0.5).
        #[serde(default = "half")]
        keep: f64,
    },
    /// The same for every block and step.
    Constant {
        /// How often a block is left out (ours: 0.2).
        #[serde(default = "fifth")]
        rate: f64,
    },
}

fn most() -> f64 {
    0.4
}

fn half() -> f64 {
    0.5
}

fn fifth() -> f64 {
    0.2
}

fn gamma_per_step() -> f64 {
    1e-3
}

/// For whom a block is left out.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Granularity {
    /// For all sequences of the step.
    Step,
    /// For each sequence by itself.
    Sequence,
}

/// Whether blocks that run make up for the steps in which they do not.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Scale {
    /// They run as they are (LayerDrop).
    None,
    /// What each of a block's branches adds is divided by the probability of keeping the block (PLD). With one chance for
    /// both branches this is not quite unbiased, since the MLP reads what attention has added (arXiv 2609.05275).
    Inverse,
}

struct LayerDrop {
    config: Config,
    key: Key,
    sequences_per_step: usize,
}

impl Rule {
    fn check(self) -> Result<()> {
        let (field, share) = match self {
            Rule::Anneal { most } => ("drop.most", most),
            Rule::Progressive { gamma_per_step, .. } if !(0.0..=1.0).contains(&gamma_per_step) => {
                return Err(Error::new("must lie between 0 and 1").in_field("drop.gamma_per_step"));
            }
            Rule::Progressive { keep, .. } | Rule::Linear { keep } => ("drop.keep", keep),
            Rule::Constant { rate } => ("drop.rate", rate),
        };
        // A block that is never kept would never train, and its scale would be infinite.
        let kept_now_and_then =
            if field == "drop.keep" { share > 0.0 && share <= 1.0 } else { (0.0..1.0).contains(&share) };
        if kept_now_and_then {
            return Ok(());
        }
        let bounds = if field == "drop.keep" { "above 0, at most 1" } else { "at least 0, below 1" };
        Err(Error::new(format!("must be {bounds}")).in_field(field))
    }

    /// How often the block is kept in a step, of `blocks`, `index` from 0.
    fn keep(self, index: usize, blocks: usize, step: u64, progress: f64) -> f64 {
        let height = (index + 1) as f64 / blocks as f64;
        match self {
            Rule::Anneal { most } if blocks > 1 => {
                1.0 - most * (index as f64 / (blocks - 1) as f64) * (1.0 - progress)
            }
            Rule::Anneal { .. } => 1.0,
            Rule::Progressive { keep, gamma_per_step } => {
                1.0 - height * (1.0 - theta(keep, gamma_per_step, step))
            }
            Rule::Linear { keep } => 1.0 - height * (1.0 - keep),
            Rule::Constant { rate } => 1.0 - rate,
        }
    }
}

/// PLD's schedule of the top block's keeping.
fn theta(keep: f64, gamma_per_step: f64, step: u64) -> f64 {
    // Not the standard library's, which differs between platforms: chances are compared with it.
    (1.0 - keep) * libm::exp(-gamma_per_step * step as f64) + keep
}

impl Plugin for LayerDrop {
    type Config = Config;

    fn new(config: Config) -> Result<LayerDrop> {
        config.drop.check()?;
        Ok(LayerDrop { config, key: Key(0), sequences_per_step: 0 })
    }
}

impl GrowthStrategy for LayerDrop {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let layers = run.model.layers;
        self.key = run.key;
        self.sequences_per_step =
            usize::try_from(run.tokens_per_step).unwrap_or(usize::MAX) / run.model.context.max(1);
        let trains = "all that runs".to_owned();
        let phase =
            PlannedPhase { label: "dropping".into(), first_step: 0, steps: None, depth: layers, trains };
        Ok(Plan { phases: vec![phase], executes: true, ..Plan::fixed_depth(layers, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        if context.step == 0 {
            actions.phase("dropping")?;
        }
        let mut random = Random::new(self.key.numbered(context.step));
        let blocks = context.blocks.len();
        let kept = context.blocks.iter().enumerate().filter_map(|(index, block)| {
            let keep = self.config.drop.keep(index, blocks, context.step, context.progress);
            self.pass(Pass::whole(block.id), keep, &mut random)
        });
        let passes: Vec<Pass> = kept.collect();
        let whole = context.blocks.iter().map(|block| Pass::whole(block.id));
        if passes.iter().cloned().eq(whole) { actions.execute_whole_stack() } else { actions.execute(passes) }
    }

    sapwood_plugin::stateless!();
}

impl LayerDrop {
    /// A block's pass in this step; `None` where nobody passes through it.
    fn pass(&self, whole: Pass, keep: f64, random: &mut Random) -> Option<Pass> {
        let gate = if self.config.scale == Scale::Inverse { (1.0 / keep) as f32 } else { 1.0 };
        let scaled = Pass { attention_gate: gate, mlp_gate: gate, ..whole };
        if self.config.granularity == Granularity::Step {
            return (random.uniform() < keep).then_some(scaled);
        }
        let mask: Vec<bool> = (0..self.sequences_per_step).map(|_| random.uniform() < keep).collect();
        let everybody = mask.iter().all(|&runs| runs);
        mask.contains(&true).then(|| Pass { sequences: (!everybody).then_some(mask), ..scaled })
    }
}

sapwood_plugin::export! {
    strategy LayerDrop {
        id: "sapwood/layer-drop",
        summary: "leaves blocks out of steps by chance (arXiv 2010.13369, 2609.05275)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, Transcript, plugin};
    use sapwood_plugin::{Action, Key, LayerId};

    use super::{LayerDrop, Rule, theta};

    const LAYERS: usize = 6;
    const STEPS: u64 = 4000;

    fn config(drop: &str, granularity: &str, scale: &str) -> String {
        format!(r#"{{ "drop": {drop}, "granularity": "{granularity}", "scale": "{scale}" }}"#)
    }

    fn driven(config: &str) -> Transcript {
        let mut strategy: LayerDrop = plugin(config).expect("a good configuration");
        SimulatedRun::new(LAYERS, STEPS).drive(&mut strategy).expect("a model with blocks")
    }

    /// For every block the share of steps (or of their sequences) in which it ran.
    fn shares(transcript: &Transcript) -> Vec<f64> {
        let mut ran = [0.0; LAYERS];
        for decision in &transcript.decisions {
            for action in &decision.taken {
                match action {
                    Action::Execute(passes) => passes.iter().for_each(|pass| {
                        let through = |mask: &Vec<bool>| {
                            mask.iter().filter(|&&runs| runs).count() as f64 / mask.len() as f64
                        };
                        ran[pass.layer.0 as usize] += pass.sequences.as_ref().map_or(1.0, through);
                    }),
                    Action::ExecuteWholeStack => ran.iter_mut().for_each(|steps| *steps += 1.0),
                    _ => {}
                }
            }
        }
        ran.iter().map(|steps| steps / STEPS as f64).collect()
    }

    fn check(drop: &str, wanted: [f64; LAYERS]) {
        for granularity in ["step", "sequence"] {
            let shares = shares(&driven(&config(drop, granularity, "none")));
            for (found, wanted) in shares.iter().zip(wanted) {
                // Four standard deviations of a share of 4000 steps.
                let tolerance = 4.0 * (0.25 / STEPS as f64).sqrt();
                assert!((found - wanted).abs() <= tolerance, "{drop}, {granularity}: {shares:?}");
            }
        }
    }

    #[test]
    fn each_rule_keeps_blocks_as_often_as_its_source_says() {
        // The mean over the budget is half of what is left out at first.
        check(r#"{ "rule": "anneal", "most": 0.4 }"#, [1.0, 0.96, 0.92, 0.88, 0.84, 0.80]);
        check(r#"{ "rule": "linear", "keep": 0.4 }"#, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]);
        check(r#"{ "rule": "constant", "rate": 0.2 }"#, [0.8; LAYERS]);
        // θ's mean over the run: the integral of its exponential, here over four time constants.
        let mean = 0.5 + 0.5 * (1.0 - (-4.0f64).exp()) / 4.0;
        let progressive = std::array::from_fn(|index| 1.0 - (index + 1) as f64 / 6.0 * (1.0 - mean));
        check(r#"{ "rule": "progressive", "keep": 0.5, "gamma_per_step": 0.001 }"#, progressive);
    }

    #[test]
    fn a_quarter_of_the_highest_share_is_saved_by_annealing() {
        let shares = shares(&driven(&config(r#"{ "rule": "anneal" }"#, "step", "none")));
        let saved = 1.0 - shares.iter().sum::<f64>() / LAYERS as f64;
        assert!((saved - 0.4 / 4.0).abs() < 0.01, "arXiv 2609.05275 saves a quarter of `most`, not {saved}");
    }

    #[test]
    fn theta_is_the_one_of_deepspeeds_code() {
        assert_eq!(theta(0.5, 1e-3, 0), 1.0);
        assert!((theta(0.5, 1e-3, 1000) - 0.683_939_720_585_721).abs() < 1e-12);
        assert!((theta(0.5, 1e-3, 1_000_000) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn nothing_is_left_out_at_the_end_of_annealing_nor_at_the_start_of_the_progressive_rule() {
        let anneal = Rule::Anneal { most: 0.9 };
        let progressive = Rule::Progressive { keep: 0.1, gamma_per_step: 1e-3 };
        for index in 0..LAYERS {
            assert_eq!(anneal.keep(index, LAYERS, 9, 1.0), 1.0);
            assert_eq!(progressive.keep(index, LAYERS, 0, 0.0), 1.0);
        }
        assert_eq!(anneal.keep(0, 1, 0, 0.0), 1.0, "a block alone stays");
    }

    #[test]
    fn blocks_that_run_make_up_for_the_rest_where_that_is_asked() {
        let transcript = driven(&config(r#"{ "rule": "constant", "rate": 0.2 }"#, "step", "inverse"));
        let passes = transcript.decisions.iter().flat_map(|decision| &decision.taken);
        let gates = passes.filter_map(|action| match action {
            Action::Execute(passes) => passes.first().map(|pass| (pass.attention_gate, pass.mlp_gate)),
            _ => None,
        });
        let mut gates: Vec<(f32, f32)> = gates.collect();
        gates.dedup();
        assert_eq!(gates, [(1.25, 1.25)]);
    }

    #[test]
    fn chance_depends_on_the_seed_and_the_step_alone() {
        let config = config(r#"{ "rule": "constant" }"#, "sequence", "none");
        let make = || plugin::<LayerDrop>(&config);
        let run = SimulatedRun::new(LAYERS, 40);
        let whole = run.drive(&mut make().expect("good")).expect("good");
        for step in [1, 17, 39] {
            assert_eq!(run.drive_interrupted(make, step).expect("good"), whole, "interrupted before {step}");
        }
        let mut other = SimulatedRun::new(LAYERS, 40);
        other.facts.key = Key::of_seed(2);
        assert_ne!(other.drive(&mut make().expect("good")).expect("good").decisions, whole.decisions);
    }

    #[test]
    fn nothing_is_frozen_and_nothing_grows() {
        let transcript = driven(&config(r#"{ "rule": "linear" }"#, "step", "none"));
        assert!(transcript.depths.iter().all(|&depth| depth == LAYERS));
        assert_eq!(transcript.layers, (0..LAYERS as u64).map(LayerId).collect::<Vec<_>>());
        let mut actions = transcript.decisions.iter().flat_map(|decision| &decision.taken);
        assert!(!actions.any(|action| matches!(action, Action::Train(_) | Action::Optimizer(_))));
        assert_eq!(transcript.refusals().count(), 0);
    }

    #[test]
    fn chances_out_of_range_are_refused_by_their_field() {
        let check = |drop: &str, field: &str| {
            let error = plugin::<LayerDrop>(&config(drop, "step", "none")).err().expect("out of range");
            assert_eq!(error.field(), Some(field), "{drop}: {error}");
        };
        check(r#"{ "rule": "anneal", "most": 1.0 }"#, "drop.most");
        check(r#"{ "rule": "linear", "keep": 0.0 }"#, "drop.keep");
        check(r#"{ "rule": "progressive", "gamma_per_step": -1.0 }"#, "drop.gamma_per_step");
        check(r#"{ "rule": "constant", "rate": -0.1 }"#, "drop.rate");
    }
}
