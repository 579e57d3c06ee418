//! Gradual stacking: in `k` stages the model gets `L / k` blocks more at a time, copies of blocks that it has, each stage
//! longer than the one before (MIDAS, Saunshi et al., NeurIPS 2024, arXiv 2409.19044).
//!
//! Stage i takes the share `i^alpha / (1 + 2^alpha + … + k^alpha)` of the study's token budget (the paper's PROP-alpha), in
//! whole steps by largest remainder. Which blocks are copied is `place`: the last ones as gradual stacking does (Reddi
//! et al., 2023), the middle group as MIDAS does, the exact middle layers as LIDAS does (Kapl et al., arXiv
//! 2512.08819; the index rule is our reading of it), or one after each of several groups as LLaMA-Pro does (Wu et al.,
//! ACL 2024, arXiv 2401.02415). Copies stand right above what they are copied from.
//!
//! With `fade_in_fraction` new blocks come in by degrees (masked structural growth, Yao et al., ICLR 2024, arXiv 2305.02869),
//! so that growth leaves the function as it was whatever the initializer; it takes a host that knows revision 2.
//!
//! Do embeddings and head freeze too? With `freeze = "nothing"` nothing does. With `old_blocks` all that is older than
//! the newest blocks does, embeddings, final norm and the tied head included, as in LLaMA-Pro; with the initializer
//! `sapwood/zero-out` the growth from four stages to five of 40 layers (`first_stage = 4`, `stages = 5`, `place =
//! "each"`) is LLaMA-Pro's from 32 blocks to 40.

use sapwood_plugin::{
    Above, Actions, Error, FadeIn, GrowthStrategy, Insert, LayerId, MomentsRule, Plan, PlannedPhase, Plugin,
    Result, RunFacts, StepContext, Train,
};
use serde::{Deserialize, Serialize};

/// Stages, their lengths, and what is copied where.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "stages": 4, "place": "mid_block" }]))]
struct Config {
    /// Number of stages k; must divide the model's layers.
    stages: usize,
    /// Which blocks are copied, and where to.
    place: Place,
    /// The exponent alpha of the stages' lengths, 0 to 16 (default, ours: 2); 0 makes them equal.
    #[serde(default = "two")]
    alpha: f64,
    /// The stage to begin with, the model being as deep as that stage is (default: 1); those before it take no time.
    #[serde(default = "one")]
    first_stage: usize,
    /// AdamW's moments and counters of new blocks.
    #[serde(default)]
    optimizer: OptimizerState,
    /// What is frozen once the model has grown.
    #[serde(default)]
    freeze: Freeze,
    /// Share of the token budget over which new blocks come in by degrees, below 1 (default: 0, at once).
    #[serde(default)]
    fade_in_fraction: f64,
}

fn two() -> f64 {
    2.0
}

fn one() -> usize {
    1
}

/// Which `L / k` blocks are copied, and where to.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// The last ones, on top (gradual stacking).
    Last,
    /// The middle group of the n that there are, the `ceil(n / 2)`-th, right above itself (MIDAS).
    MidBlock,
    /// The layers in the exact middle, right above themselves, whatever their groups (LIDAS).
    MidLayer,
    /// The top block of each of `L / k` equal groups, right above itself (LLaMA-Pro).
    Each,
}

/// AdamW's moments and counters of new blocks.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OptimizerState {
    /// Those of their sources, as an independent implementation of MIDAS has it; what an initializer has zeroed begins at
    /// zero.
    #[default]
    Copy,
    /// Zero.
    Zero,
}

/// What is frozen once the model has grown.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Freeze {
    /// Nothing (MIDAS).
    #[default]
    Nothing,
    /// All but the newest blocks, embeddings, final norm and head included (LLaMA-Pro).
    OldBlocks,
}

struct Gradual {
    config: Config,
    blocks_per_stage: usize,
    fade_in: FadeIn,
    /// First steps of the stages, from the one that it begins with.
    begins: Vec<u64>,
}

impl Plugin for Gradual {
    type Config = Config;

    fn new(config: Config) -> Result<Gradual> {
        if config.stages < 2 {
            return Err(Error::new("there must be at least two stages").in_field("stages"));
        }
        if !(1..config.stages).contains(&config.first_stage) {
            let wanted = format!("must be 1 to {}, one stage before the last", config.stages - 1);
            return Err(Error::new(wanted).in_field("first_stage"));
        }
        if !(0.0..=16.0).contains(&config.alpha) {
            return Err(Error::new("must lie between 0 and 16").in_field("alpha"));
        }
        if !(0.0..1.0).contains(&config.fade_in_fraction) {
            return Err(Error::new("must be 0 or more, and below 1").in_field("fade_in_fraction"));
        }
        Ok(Gradual { config, blocks_per_stage: 0, fade_in: FadeIn::default(), begins: Vec::new() })
    }
}

impl GrowthStrategy for Gradual {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (layers, count) = (run.model.layers, self.config.stages);
        if count > layers || layers % count != 0 {
            let wrong = format!("{count} stages do not divide {layers} layers");
            return Err(Error::new(wrong).in_field("stages"));
        }
        self.blocks_per_stage = layers / count;
        self.begins = self.lay_out(run.budget.reference_steps)?;
        let phases = (0..self.begins.len()).map(|index| self.planned(index)).collect();
        let initial = self.config.first_stage * self.blocks_per_stage;
        let fade_in_steps = self.config.fade_in_fraction * run.budget.reference_steps as f64;
        self.fade_in = FadeIn::over(fade_in_steps.round() as u64);
        let (slots, executes) = (vec!["new_blocks".into()], self.fade_in.is_gradual());
        Ok(Plan { slots, phases, executes, ..Plan::fixed_depth(initial, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        self.fade_in.open(context, actions)?;
        let Ok(index) = self.begins.binary_search(&context.step) else { return Ok(()) };
        if index > 0 {
            self.grow(context, actions)?;
        }
        actions.phase(&self.label(index))
    }

    sapwood_plugin::stateless!();
}

impl Gradual {
    fn lay_out(&self, steps: u64) -> Result<Vec<u64>> {
        let stages = self.config.first_stage..=self.config.stages;
        let shares: Vec<f64> = stages.map(|i| libm::pow(i as f64, self.config.alpha)).collect();
        let lengths = split(steps, &shares);
        if lengths.contains(&0) {
            let wrong = format!("{steps} steps are too few: one of the stages would take none");
            return Err(Error::new(wrong).in_field("stages"));
        }
        let begins = lengths.iter().scan(0u64, |next, length| {
            let begin = *next;
            *next = next.saturating_add(*length);
            Some(begin)
        });
        Ok(begins.collect())
    }

    fn planned(&self, index: usize) -> PlannedPhase {
        let first_step = self.begins[index];
        let is_frozen = index > 0 && self.config.freeze == Freeze::OldBlocks;
        PlannedPhase {
            label: self.label(index),
            first_step,
            steps: self.begins.get(index + 1).map(|end| end - first_step),
            depth: (self.config.first_stage + index) * self.blocks_per_stage,
            trains: if is_frozen { "the newest blocks" } else { "all" }.into(),
        }
    }

    fn label(&self, index: usize) -> String {
        format!("stage{}", self.config.first_stage + index)
    }

    fn grow(&self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let stack: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        let copied = self.config.optimizer == OptimizerState::Copy;
        let mut new = Vec::new();
        for sources in self.sources(&stack)? {
            let Some(&top) = sources.last() else { continue };
            new.extend(actions.insert(Insert {
                above: Above::Layer(top),
                count: sources.len(),
                slot: "new_blocks".into(),
                sources: sources.to_vec(),
                moments: if copied { MomentsRule::CopyFromSource } else { MomentsRule::Zero },
            })?);
        }
        self.fade_in.close(&new, actions)?;
        if self.config.freeze == Freeze::OldBlocks {
            actions.train(Train::blocks_only(new))?;
        }
        Ok(())
    }

    /// Runs of blocks to be copied; the copies of each stand right above it.
    fn sources<'a>(&self, stack: &'a [LayerId]) -> Result<Vec<&'a [LayerId]>> {
        let (depth, new) = (stack.len(), self.blocks_per_stage);
        if depth < new {
            return Err(Error::new(format!("{new} blocks cannot be copied from a stack of {depth}")));
        }
        let from = match self.config.place {
            Place::Last => depth - new,
            Place::MidBlock => ((depth / new).div_ceil(2) - 1) * new,
            Place::MidLayer => (depth - new) / 2,
            Place::Each => {
                return Ok(stack.chunks(depth / new).map(|group| &group[group.len() - 1..]).collect());
            }
        };
        Ok(vec![&stack[from..from + new]])
    }
}

/// Whole steps in these proportions that sum to `steps`: what rounding down leaves goes to the largest remainders.
fn split(steps: u64, shares: &[f64]) -> Vec<u64> {
    let sum: f64 = shares.iter().sum();
    let exact: Vec<f64> = shares.iter().map(|share| steps as f64 * (share / sum)).collect();
    let mut whole: Vec<u64> = exact.iter().map(|exact| *exact as u64).collect();
    let left = whole.iter().fold(steps, |left, part| left.saturating_sub(*part));
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    for &index in order.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        whole[index] += 1;
    }
    whole
}

sapwood_plugin::export! {
    strategy Gradual {
        id: "sapwood/gradual",
        summary: "stages of growing length, copies in the middle (arXiv 2409.19044)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, Transcript, plugin};

    use super::{Gradual, split};

    fn drive(layers: usize, steps: u64, config: &str) -> Transcript {
        let mut gradual: Gradual = plugin(config).expect("a good configuration");
        SimulatedRun::new(layers, steps).drive(&mut gradual).expect("stages that fit")
    }

    /// PROP-alpha's lengths are whole and sum to the budget.
    #[test]
    fn lengths_are_in_proportion_and_sum_to_the_budget() {
        assert_eq!(split(100, &[1.0, 2.0, 3.0, 4.0]), [10, 20, 30, 40]);
        assert_eq!(split(100, &[1.0, 4.0, 9.0, 16.0]), [3, 13, 30, 54]);
        for steps in [7, 1000, 12_345, 10_000_000] {
            for alpha in [0.0, 0.5, 1.0, 2.0, 3.0] {
                let shares: Vec<f64> = (1..=6).map(|i| f64::from(i).powf(alpha)).collect();
                assert_eq!(split(steps, &shares).iter().sum::<u64>(), steps, "{steps} steps, alpha {alpha}");
            }
        }
    }

    /// Depth over time as a share of the final one, which is what such a schedule saves: by stages and alpha.
    #[test]
    fn average_depths_are_those_of_prop_alpha() {
        for (stages, alpha, wanted) in
            [(4, 1, 0.75), (4, 2, 0.833), (6, 1, 0.722), (6, 2, 0.808), (6, 3, 0.86)]
        {
            let config = format!(r#"{{ "stages": {stages}, "alpha": {alpha}, "place": "mid_block" }}"#);
            let depths = drive(12, 6000, &config).depths;
            let average = depths.iter().sum::<usize>() as f64 / (12 * depths.len()) as f64;
            assert!((average - wanted).abs() < 1e-3, "{stages} stages, alpha {alpha}: {average}");
        }
    }

    /// What the last of three stages is made of.
    fn check_place(layers: usize, place: &str, wanted: &str) {
        let config = format!(r#"{{ "stages": 3, "alpha": 1, "place": "{place}" }}"#);
        let transcript = drive(layers, 60, &config).to_string();
        assert!(transcript.contains(&format!("step 30: {wanted}; phase `stage3`")), "{place}: {transcript}");
    }

    #[test]
    fn copies_are_of_the_blocks_that_the_methods_name() {
        check_place(12, "last", "insert 4 above 7 for new_blocks from 4 5 6 7");
        check_place(12, "mid_block", "insert 4 above 3 for new_blocks from 0 1 2 3");
        check_place(12, "mid_layer", "insert 4 above 5 for new_blocks from 2 3 4 5");
        // Block 2 has come to stand above 0 and 3 above 1, so these are the tops of two groups of two.
        let each = [2, 3].map(|id| format!("insert 1 above {id} for new_blocks from {id}"));
        check_place(6, "each", &each.join("; "));
    }

    #[test]
    fn llama_pro_trains_new_blocks_alone_and_no_embedding_or_head() {
        let config =
            r#"{ "stages": 5, "first_stage": 4, "place": "each", "freeze": "old_blocks", "alpha": 0 }"#;
        let wanted = "starts with 8 of at most 10 blocks
before step 0: phase `stage4`
before step 10: insert 1 above 3 for new_blocks from 3; insert 1 above 7 for new_blocks from 7; train blocks 8 9; phase `stage5`
ends after 20 steps with blocks 0 1 2 3 8 4 5 6 7 9
";
        assert_eq!(drive(10, 20, config).to_string(), wanted);
    }

    #[test]
    fn new_blocks_come_in_by_degrees_where_that_is_asked() {
        let config = r#"{ "stages": 2, "place": "last", "alpha": 0, "fade_in_fraction": 0.1 }"#;
        let said = drive(2, 40, config).to_string();
        let wanted = "before step 20: insert 1 above 0 for new_blocks from 0; gate 1(0 0); phase `stage2`
before step 21: gate 1(0.25 0.25)
before step 22: gate 1(0.5 0.5)
before step 23: gate 1(0.75 0.75)
before step 24: gate 1(1 1)
ends";
        assert!(said.contains(wanted), "{said}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (config, field) in [
            (r#"{ "stages": 1, "place": "last" }"#, "stages"),
            (r#"{ "stages": 3, "place": "last", "first_stage": 3 }"#, "first_stage"),
            (r#"{ "stages": 3, "place": "last", "alpha": -1 }"#, "alpha"),
        ] {
            let error = plugin::<Gradual>(config).map(|_| ()).expect_err("refused");
            assert_eq!(error.field(), Some(field), "{config}");
        }
        for (layers, steps) in [(10, 100), (2, 100), (9, 2)] {
            let mut gradual: Gradual = plugin(r#"{ "stages": 3, "place": "last" }"#).expect("good");
            let error = SimulatedRun::new(layers, steps).drive(&mut gradual).expect_err("refused");
            assert_eq!(error.field(), Some("stages"), "{layers} layers, {steps} steps");
        }
    }
}
