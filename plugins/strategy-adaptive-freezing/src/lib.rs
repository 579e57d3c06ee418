//! Adaptive freezing: the whole model is there from the first step, and blocks freeze from below as their gradients become
//! the smallest ones (PipeTransformer, He et al., "Automated Elastic Pipelining for Distributed Training of Transformers",
//! ICML 2021, arXiv 2102.03161). A control for growth: it tells what freezing alone does.
//!
//! Every `interval`, `F` of the `L` blocks being frozen, `F` becomes `min(F + alpha (L - F), l)`, where `l` is the training
//! block with the smallest gradient norm, the lowest block being 1. That the block `l` itself freezes is our reading; at
//! least one block always trains, and nothing thaws.
//!
//! Do embeddings and head freeze too? `shared = "train"`: never, so that gradients cross all frozen blocks and only the
//! gradients of their weights are saved. `shared = "freeze"`: embeddings, the head that is tied to them and the final norm
//! freeze together with the first block, so that nothing is computed below the lowest block that trains; a tied head cannot
//! train while its embedding is frozen.

use sapwood_plugin::{
    Actions, Error, Event, GrowthStrategy, LayerId, Measure, Measured, Plan, PlannedPhase, Plugin, Result,
    RunFacts, Saved, StepContext, Train,
};
use serde::Deserialize;

/// How fast blocks may freeze, how often that is looked at, and whether what they share freezes too.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "shared": "freeze" }]))]
struct Config {
    /// Share of the blocks still training that may freeze at once, above 0, at most 1 (ours: a third).
    #[serde(default = "third")]
    alpha: f64,
    /// How often gradients are looked at, as a share of the study's token budget (ours: 0.02).
    #[serde(default = "fiftieth")]
    interval: f64,
    /// Embeddings, head and final norm.
    shared: Shared,
}

fn third() -> f64 {
    1.0 / 3.0
}

fn fiftieth() -> f64 {
    0.02
}

/// Embeddings, head and final norm.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Shared {
    /// Train always.
    Train,
    /// Freeze with the first block.
    Freeze,
}

struct AdaptiveFreezing {
    config: Config,
    /// How many of the lowest blocks are frozen.
    frozen: usize,
    /// What was told before the coming step.
    measured: Option<Measured>,
}

impl Plugin for AdaptiveFreezing {
    type Config = Config;

    fn new(config: Config) -> Result<AdaptiveFreezing> {
        if !(config.alpha > 0.0 && config.alpha <= 1.0) {
            return Err(Error::new("must lie above 0 and be at most 1").in_field("alpha"));
        }
        if !(config.interval > 0.0 && config.interval < 1.0) {
            return Err(Error::new("must lie between 0 and 1").in_field("interval"));
        }
        Ok(AdaptiveFreezing { config, frozen: 0, measured: None })
    }
}

impl GrowthStrategy for AdaptiveFreezing {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let layers = run.model.layers;
        let steps = self.config.interval * run.budget.reference_steps as f64;
        let measure = Measure { every_steps: (steps.round() as u64).max(1), tensors: true, blocks: false };
        let trains = "all, fewer and fewer from below".to_owned();
        let phase = PlannedPhase { label: "all".into(), first_step: 0, steps: None, depth: layers, trains };
        Ok(Plan { phases: vec![phase], measure: Some(measure), ..Plan::fixed_depth(layers, layers) })
    }

    fn on_event(&mut self, event: &Event, _: &mut Actions<'_>) -> Result<()> {
        // Gradients at initialisation say nothing of what has been learned.
        if let Event::Measured(measured) = event
            && measured.step > 0
        {
            self.measured = Some(measured.clone());
        }
        Ok(())
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        if context.step == 0 {
            actions.phase("all")?;
        }
        let Some(measured) = self.measured.take() else { return Ok(()) };
        let blocks: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        let frozen = self.to_be_frozen(&blocks, &measured);
        if frozen == self.frozen {
            return Ok(());
        }
        self.frozen = frozen;
        actions.phase(&format!("{frozen} frozen"))?;
        let layers = blocks[frozen..].to_vec();
        actions.train(match self.config.shared {
            Shared::Train => Train::with_shared(layers),
            Shared::Freeze => Train::blocks_only(layers),
        })
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &self.frozen)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.frozen = saved.read(1)?;
        Ok(())
    }
}

impl AdaptiveFreezing {
    fn to_be_frozen(&self, blocks: &[LayerId], measured: &Measured) -> usize {
        let training = blocks.len().saturating_sub(self.frozen);
        let most = self.frozen + (self.config.alpha * training as f64) as usize;
        let norm = |(index, &layer): (usize, &LayerId)| Some((index, measured.gradient_norm(layer)?));
        let norms = blocks.iter().enumerate().skip(self.frozen).filter_map(norm);
        // Of equal ones the lowest.
        let smallest = norms.reduce(|least, other| if other.1 < least.1 { other } else { least });
        let wanted = smallest.map_or(self.frozen, |(index, _)| most.min(index + 1));
        wanted.min(blocks.len().saturating_sub(1)).max(self.frozen)
    }
}

sapwood_plugin::export! {
    strategy AdaptiveFreezing {
        id: "sapwood/adaptive-freezing",
        summary: "no growth; blocks freeze from below as their gradients shrink (arXiv 2102.03161)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, Transcript, plugin};

    use super::AdaptiveFreezing;

    /// Six blocks over 500 steps: gradients are looked at every ten steps, and told two steps later.
    fn run(gradient_norms: &[f64]) -> SimulatedRun {
        SimulatedRun { gradient_norms: gradient_norms.to_vec(), ..SimulatedRun::new(6, 500) }
    }

    fn driven(gradient_norms: &[f64], config: &str) -> Transcript {
        let mut strategy: AdaptiveFreezing = plugin(config).expect("a good configuration");
        run(gradient_norms).drive(&mut strategy).expect("a model with blocks")
    }

    #[test]
    fn a_third_of_what_trains_freezes_at_most_and_not_beyond_the_smallest_gradient() {
        // The third block's is the smallest; when it is frozen the lowest of equal ones is next.
        let transcript = driven(&[1.0, 1.0, 0.2, 1.0, 1.0, 1.0], r#"{ "shared": "train" }"#);
        let phases = transcript.phases();
        // min(0 + 6/3, 3), min(2 + 4/3, 3), min(3 + 3/3, 4), then a third of two blocks is none.
        assert_eq!(phases, [(0, "all"), (12, "2 frozen"), (22, "3 frozen"), (32, "4 frozen")]);
        assert_eq!(driven(&[0.1], r#"{ "shared": "train" }"#).phases()[1], (12, "1 frozen"), "not beyond it");
    }

    #[test]
    fn one_block_always_trains() {
        let transcript = driven(&[], r#"{ "alpha": 1.0, "shared": "freeze" }"#);
        assert_eq!(transcript.phases().last(), Some(&(52, "5 frozen")));
        assert_eq!(transcript.refusals().count(), 0);
    }

    #[test]
    fn embeddings_and_head_go_on_or_freeze_with_the_first_block() {
        let said = |shared: &str| {
            let transcript = driven(&[1.0, 1.0, 0.2], &format!(r#"{{ "shared": "{shared}" }}"#)).to_string();
            transcript
                .lines()
                .find(|line| line.starts_with("before step 12: "))
                .expect("it freezes")
                .to_owned()
        };
        let frozen = "before step 12: phase `2 frozen`; train blocks 2 3 4 5";
        assert_eq!(said("freeze"), frozen);
        assert_eq!(said("train"), format!("{frozen}, token embedding, position embedding, final norm, head"));
    }

    #[test]
    fn an_interrupted_run_freezes_the_same() {
        let make = || plugin::<AdaptiveFreezing>(r#"{ "shared": "freeze" }"#);
        let run = run(&[1.0, 1.0, 0.2]);
        let whole = run.drive(&mut make().expect("good")).expect("good");
        for step in [1, 11, 12, 13, 25] {
            assert_eq!(run.drive_interrupted(make, step).expect("good"), whole, "interrupted before {step}");
        }
    }

    #[test]
    fn shares_out_of_range_are_refused_by_their_field() {
        for (config, field) in [
            (r#"{ "alpha": 0.0, "shared": "train" }"#, "alpha"),
            (r#"{ "alpha": 1.5, "shared": "train" }"#, "alpha"),
            (r#"{ "interval": 1.0, "shared": "train" }"#, "interval"),
        ] {
            let error = plugin::<AdaptiveFreezing>(config).err().expect("out of range");
            assert_eq!(error.field(), Some(field), "{config}");
        }
    }
}
