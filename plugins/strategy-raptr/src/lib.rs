//! Random part training: the whole model is there from the first step, but each step runs and trains a random part of its
//! blocks only, a larger one in each stage, and all of them in the last (RaPTr, Panigrahi et al., "Efficient Stagewise
//! Pretraining via Progressive Subnetworks", ICLR 2025, arXiv 2402.05913).
//!
//! The lowest and highest blocks always run; of the others a step takes as many as the stage says, drawn without
//! replacement. Stages are equally long. What a drawn block adds may be multiplied to make up for the steps without it.
//! Embeddings and head, tied or not, train in every step: nothing is frozen, and a block that is left out keeps its AdamW
//! state and step counter. Evaluations run the whole model.

use sapwood_plugin::{
    Actions, Error, GrowthStrategy, Key, LayerId, Pass, Plan, PlannedPhase, Plugin, Random, Result, RunFacts,
    StepContext,
};
use serde::Deserialize;

/// How large the part is in each stage, what is always in it, and how it makes up for the rest.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "scale": "root" }]))]
struct Config {
    /// Share of the blocks that run in each stage, none smaller than the one before, the last 1 (ours: four stages, from
    /// a half to all by sixths).
    #[serde(default = "four_stages")]
    stages: Vec<f64>,
    /// Blocks above the embeddings that always run (the paper's: 1).
    #[serde(default = "one")]
    keep_first: usize,
    /// Blocks below the head that always run (the paper's: 1).
    #[serde(default = "one")]
    keep_last: usize,
    /// How much what a drawn block adds is multiplied, its chance to be drawn being p.
    scale: Scale,
}

fn four_stages() -> Vec<f64> {
    vec![1.0 / 2.0, 2.0 / 3.0, 5.0 / 6.0, 1.0]
}

fn one() -> usize {
    1
}

/// How much what a drawn block adds is multiplied.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Scale {
    /// Not at all.
    None,
    /// By `1/√p`, which keeps the variance of what all blocks add.
    Root,
    /// By `1/p`, which keeps its mean.
    Inverse,
}

impl Scale {
    fn gate(self, chance: f64) -> f32 {
        (match self {
            Scale::None => 1.0,
            Scale::Root => 1.0 / chance.sqrt(),
            Scale::Inverse => 1.0 / chance,
        }) as f32
    }
}

struct Raptr {
    config: Config,
    key: Key,
}

impl Plugin for Raptr {
    type Config = Config;

    fn new(config: Config) -> Result<Raptr> {
        let wrong = |what: &str| Err(Error::new(what).in_field("stages"));
        if config.stages.iter().any(|share| !(*share > 0.0 && *share <= 1.0)) {
            return wrong("shares lie above 0 and are at most 1");
        }
        if !config.stages.is_sorted() {
            return wrong("a stage runs fewer blocks than the one before");
        }
        if config.stages.last() != Some(&1.0) {
            return wrong("the last stage has to run the whole model: end with 1.0");
        }
        if config.stages.len() > 64 {
            return wrong("more than 64 stages");
        }
        Ok(Raptr { config, key: Key(0) })
    }
}

impl GrowthStrategy for Raptr {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let layers = run.model.layers;
        let always = self.config.keep_first.saturating_add(self.config.keep_last);
        if always > self.part(0, layers) {
            let part = self.part(0, layers);
            let what =
                format!("{always} blocks are always to run, but the first stage runs {part} of {layers}");
            return Err(Error::new(what).in_field("stages"));
        }
        self.key = run.key;
        let phases = (0..self.config.stages.len()).map(|stage| self.announced(stage, run)).collect();
        Ok(Plan { phases, executes: true, ..Plan::fixed_depth(layers, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let stage = self.stage_at(context.progress);
        if context.phase != label(stage) {
            actions.phase(&label(stage))?;
        }
        let blocks: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        let part = self.part(stage, blocks.len());
        if part == blocks.len() {
            return actions.execute_whole_stack();
        }
        actions.execute(self.passes(&blocks, part, context.step))
    }

    sapwood_plugin::stateless!();
}

impl Raptr {
    /// Stages are equal shares of the budget.
    fn stage_at(&self, progress: f64) -> usize {
        let stages = self.config.stages.len();
        ((progress * stages as f64) as usize).min(stages - 1)
    }

    /// Blocks that run in a stage.
    fn part(&self, stage: usize, layers: usize) -> usize {
        (self.config.stages[stage] * layers as f64).round() as usize
    }

    fn announced(&self, stage: usize, run: &RunFacts) -> PlannedPhase {
        let (stages, steps) = (self.config.stages.len() as u64, run.budget.reference_steps);
        let first = |stage: u64| (steps * stage).div_ceil(stages);
        let last = stage as u64 + 1 == stages;
        let trains = format!("{} of {} blocks", self.part(stage, run.model.layers), run.model.layers);
        PlannedPhase {
            label: label(stage),
            first_step: first(stage as u64),
            steps: (!last).then(|| first(stage as u64 + 1) - first(stage as u64)),
            depth: run.model.layers,
            trains,
        }
    }

    /// The part that a step runs, in the order of the stack.
    fn passes(&self, blocks: &[LayerId], part: usize, step: u64) -> Vec<Pass> {
        let (first, last) = (self.config.keep_first, blocks.len() - self.config.keep_last);
        let (middle, wanted) = (last - first, part - self.config.keep_first - self.config.keep_last);
        let drawn = draw(middle, wanted, &mut Random::new(self.key.numbered(step)));
        let gate = self.config.scale.gate(wanted as f64 / middle as f64);
        let pass =
            |(index, &layer): (usize, &LayerId)| match index.checked_sub(first).filter(|&at| at < middle) {
                None => Some(Pass::whole(layer)),
                Some(at) => {
                    drawn[at].then(|| Pass { attention_gate: gate, mlp_gate: gate, ..Pass::whole(layer) })
                }
            };
        blocks.iter().enumerate().filter_map(pass).collect()
    }
}

/// Which of `count` are among `wanted` drawn without replacement, each set as likely as any other (selection sampling,
/// Knuth, The Art of Computer Programming 2, §3.4.2, algorithm S).
fn draw(count: usize, wanted: usize, random: &mut Random) -> Vec<bool> {
    let mut missing = wanted as u64;
    let choose = |index: usize| {
        let chosen = random.below((count - index) as u64) < missing;
        missing -= u64::from(chosen);
        chosen
    };
    (0..count).map(choose).collect()
}

fn label(stage: usize) -> String {
    format!("stage {}", stage + 1)
}

sapwood_plugin::export! {
    strategy Raptr {
        id: "sapwood/raptr",
        summary: "trains random parts of the depth, larger by stages (arXiv 2402.05913)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, Transcript, plugin};
    use sapwood_plugin::{Action, LayerId, Pass};

    use super::Raptr;

    const LAYERS: usize = 12;
    const STEPS: u64 = 4000;

    fn driven(config: &str) -> Transcript {
        let mut raptr: Raptr = plugin(config).expect("a good configuration");
        SimulatedRun::new(LAYERS, STEPS).drive(&mut raptr).expect("a model deep enough")
    }

    /// What ran in each step.
    fn passes(transcript: &Transcript) -> Vec<Vec<Pass>> {
        let whole: Vec<Pass> = (0..LAYERS as u64).map(|id| Pass::whole(LayerId(id))).collect();
        let of_action = |action: &Action| match action {
            Action::Execute(passes) => Some(passes.clone()),
            Action::ExecuteWholeStack => Some(whole.clone()),
            _ => None,
        };
        let steps = transcript.decisions.iter();
        steps.filter_map(|decision| decision.taken.iter().find_map(of_action)).collect()
    }

    #[test]
    fn four_stages_of_a_half_to_all_blocks_with_the_ends_always_there() {
        let transcript = driven(r#"{ "scale": "none" }"#);
        let steps = passes(&transcript);
        assert_eq!(steps.len() as u64, STEPS);
        for (stage, wanted) in [6, 8, 10, 12].into_iter().enumerate() {
            for step in &steps[stage * 1000..(stage + 1) * 1000] {
                assert_eq!(step.len(), wanted, "stage {stage}");
                assert_eq!((step[0].layer.0, step[wanted - 1].layer.0), (0, 11));
                assert!(step.is_sorted_by_key(|pass| pass.layer), "out of order");
            }
        }
        let labels: Vec<(u64, &str)> = transcript.phases();
        assert_eq!(labels, [(0, "stage 1"), (1000, "stage 2"), (2000, "stage 3"), (3000, "stage 4")]);
        let announced: Vec<u64> = transcript.plan.phases.iter().map(|phase| phase.first_step).collect();
        assert_eq!(announced, [0, 1000, 2000, 3000]);
        // A quarter of the blocks' work over the run, as the mean of the shares has it.
        let ran: usize = steps.iter().map(Vec::len).sum();
        assert_eq!(ran * 4, LAYERS * STEPS as usize * 3);
    }

    #[test]
    fn every_block_between_the_ends_is_drawn_as_often_as_any_other() {
        let steps = passes(&driven(r#"{ "scale": "none" }"#));
        let mut ran = [0u32; LAYERS];
        for pass in steps[..1000].iter().flatten() {
            ran[pass.layer.0 as usize] += 1;
        }
        // 4 of 10, a thousand times: a standard deviation is 15.5.
        assert!(ran[1..11].iter().all(|&times| times.abs_diff(400) < 62), "{ran:?}");
        let sets: std::collections::BTreeSet<Vec<u64>> =
            steps[..1000].iter().map(|step| step.iter().map(|pass| pass.layer.0).collect()).collect();
        assert!(sets.len() > 150, "{} of 210 sets were drawn", sets.len());
    }

    #[test]
    fn drawn_blocks_are_scaled_by_their_chance_and_the_ends_are_not() {
        let check = |scale: &str, wanted: f32| {
            let steps = passes(&driven(&format!(r#"{{ "scale": "{scale}" }}"#)));
            let gates: Vec<f32> = steps[0].iter().map(|pass| pass.mlp_gate).collect();
            assert_eq!(gates, [1.0, wanted, wanted, wanted, wanted, 1.0], "{scale}");
            assert!(steps[3999].iter().all(|pass| pass.mlp_gate == 1.0), "the whole model is not scaled");
        };
        check("none", 1.0);
        check("root", (1.0 / 0.4f64.sqrt()) as f32);
        check("inverse", 2.5);
    }

    #[test]
    fn an_interrupted_run_draws_what_it_would_have_drawn() {
        let make = || plugin::<Raptr>(r#"{ "scale": "root" }"#);
        let run = SimulatedRun::new(LAYERS, 40);
        let whole = run.drive(&mut make().expect("good")).expect("good");
        for step in [1, 10, 39] {
            assert_eq!(run.drive_interrupted(make, step).expect("good"), whole, "interrupted before {step}");
        }
    }

    #[test]
    fn nothing_is_frozen() {
        let transcript = driven(r#"{ "scale": "root" }"#);
        let mut actions = transcript.decisions.iter().flat_map(|decision| &decision.taken);
        assert!(!actions.any(|action| matches!(action, Action::Train(_) | Action::Optimizer(_))));
        assert_eq!(transcript.refusals().count(), 0);
    }

    #[test]
    fn stages_that_make_no_sense_are_refused() {
        let check = |stages: &str, wanted: &str| {
            let config = format!(r#"{{ "stages": {stages}, "scale": "none" }}"#);
            let mut raptr = match plugin::<Raptr>(&config) {
                Ok(raptr) => raptr,
                Err(error) => return assert_eq!((error.message(), error.field()), (wanted, Some("stages"))),
            };
            let error = SimulatedRun::new(LAYERS, STEPS).drive(&mut raptr).expect_err("too few blocks");
            assert_eq!((error.message(), error.field()), (wanted, Some("stages")));
        };
        check("[0.5, 0.9]", "the last stage has to run the whole model: end with 1.0");
        check("[]", "the last stage has to run the whole model: end with 1.0");
        check("[0.9, 0.5, 1.0]", "a stage runs fewer blocks than the one before");
        check("[0.0, 1.0]", "shares lie above 0 and are at most 1");
        check("[0.1, 1.0]", "2 blocks are always to run, but the first stage runs 1 of 12");
    }
}
