//! Incremental layer-wise training as the code of "On the Effectiveness of Incremental Training of Large
//! Language Models" runs it (Li, Fung and Huang, arXiv 2411.18700 §3).
//!
//! With `L` blocks and `S` stages, stage `s` uses the lowest `floor(s L / S)` blocks, the new ones as the
//! initial model has them. Its phase 1 freezes the blocks of earlier stages, its phase 2 trains all that is in use,
//! for `floor(staged_steps / (2 S))` steps each. One AdamW lives through all stages: what is frozen keeps
//! its moments and its step counter. Then follows continual training of everything, with a fresh AdamW.

use sapwood_plugin::{
    Above, Actions, Error, GrowthStrategy, Insert, LayerId, MomentsRule, OptimizerChange, OptimizerRule,
    Plan, PlannedPhase, Plugin, Result, RunFacts, StepContext, Train, Which,
};
use serde::{Deserialize, Serialize};

/// Stages, freezing, and how long each phase takes.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "stages": 2, "freeze": "blocks_only" }]))]
struct Config {
    /// Number of stages, at most one a block (the paper: 4, 8 and 12).
    stages: usize,
    /// What phase 1 freezes.
    freeze: Freeze,
    /// Steps of all stages together; default: the study's token budget, as in the paper, so that continual
    /// training is what compute saved can still buy.
    #[serde(default)]
    staged_steps: Option<u64>,
    /// Steps of every phase, stage by stage, instead of equal ones: `[[10], [7, 8]]` is a stage with
    /// phase 2 alone, then a stage with both.
    #[serde(default)]
    phase_steps: Option<Vec<Vec<u64>>>,
    /// When AdamW's moments and counters begin anew; the default is the paper's.
    #[serde(default)]
    fresh_optimizer: FreshOptimizer,
}

/// What phase 1 freezes.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Freeze {
    /// The blocks of earlier stages; embeddings, head and final norm train (the paper). Gradients still
    /// cross every frozen block.
    BlocksOnly,
    /// The blocks of earlier stages and the embeddings, the tied head with them: nothing goes back below
    /// the new blocks.
    AllBelow,
    /// Nothing: there is no phase 1, and a stage trains all that is in use (the paper's `no_freezing`).
    None,
}

/// When AdamW's moments and counters begin anew.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum FreshOptimizer {
    /// At the start of continual training alone (the paper).
    #[default]
    AtContinual,
    /// At the start of every phase.
    EachPhase,
    /// Never.
    Never,
}

/// A span in which the same things train.
struct Phase {
    label: String,
    first_step: u64,
    steps: Option<u64>,
    depth: usize,
    /// Blocks of earlier stages that are frozen.
    frozen: usize,
    fresh_optimizer: bool,
}

struct Paper {
    config: Config,
    phases: Vec<Phase>,
}

impl Plugin for Paper {
    type Config = Config;

    fn new(config: Config) -> Result<Paper> {
        if config.stages == 0 {
            return Err(Error::new("there must be at least one stage").in_field("stages"));
        }
        if config.staged_steps.is_some() && config.phase_steps.is_some() {
            return Err(
                Error::new("`staged_steps` and `phase_steps` exclude each other").in_field("staged_steps")
            );
        }
        if let Some(stages) = &config.phase_steps {
            let good = stages.len() == config.stages && stages.iter().all(|s| s.len() == 1 || s.len() == 2);
            if !good {
                let wanted = format!("{} stages of one or two phases are needed", config.stages);
                return Err(Error::new(wanted).in_field("phase_steps"));
            }
            // Two phases cannot begin before the same step.
            if stages.iter().flatten().any(|&steps| steps == 0) {
                return Err(Error::new("a phase takes at least one step").in_field("phase_steps"));
            }
        }
        Ok(Paper { config, phases: Vec::new() })
    }
}

impl Paper {
    /// Lengths of phase 1 and phase 2 of each stage; a stage without phase 1 has one.
    fn lengths(&self, run: &RunFacts) -> Result<Vec<Vec<u64>>> {
        if let Some(lengths) = &self.config.phase_steps {
            return Ok(lengths.clone());
        }
        let stages = self.config.stages as u64;
        let half = self.config.staged_steps.unwrap_or(run.budget.reference_steps) / (2 * stages);
        if half == 0 {
            let (least, given) = (2 * stages, self.config.staged_steps.is_some());
            return Err(Error::new(format!("{stages} stages need at least {least} staged steps"))
                .in_field(if given { "staged_steps" } else { "stages" }));
        }
        let stage = if self.config.freeze == Freeze::None { vec![2 * half] } else { vec![half, half] };
        Ok(vec![stage; self.config.stages])
    }

    fn lay_out(&self, run: &RunFacts) -> Result<Vec<Phase>> {
        let (layers, stages) = (run.model.layers, self.config.stages);
        if stages > layers {
            let wrong = format!("{stages} stages are more than the model's {layers} layers");
            return Err(Error::new(wrong).in_field("stages"));
        }
        let mut phases = Vec::new();
        let mut first_step = 0;
        for (stage, lengths) in self.lengths(run)?.into_iter().enumerate() {
            for (index, &steps) in lengths.iter().enumerate() {
                let both = lengths.len() == 2;
                let label = if both {
                    format!("stage{}-phase{}", stage + 1, index + 1)
                } else {
                    format!("stage{}", stage + 1)
                };
                let frozen = if both && index == 0 { stage * layers / stages } else { 0 };
                let fresh_optimizer =
                    self.config.fresh_optimizer == FreshOptimizer::EachPhase && first_step > 0;
                let depth = (stage + 1) * layers / stages;
                phases.push(Phase { label, first_step, steps: Some(steps), depth, frozen, fresh_optimizer });
                first_step += steps;
            }
        }
        let fresh_optimizer = self.config.fresh_optimizer != FreshOptimizer::Never;
        phases.push(Phase {
            label: "continual".into(),
            first_step,
            steps: None,
            depth: layers,
            frozen: 0,
            fresh_optimizer,
        });
        Ok(phases)
    }

    fn scope(&self, phase: &Phase, layers: &[LayerId]) -> Train {
        let open = layers[phase.frozen..].to_vec();
        if phase.frozen > 0 && self.config.freeze == Freeze::AllBelow {
            Train { final_norm: true, ..Train::blocks_only(open) }
        } else {
            Train::with_shared(open)
        }
    }

    fn describe(&self, phase: &Phase) -> String {
        match (phase.frozen, self.config.freeze) {
            (0, _) => "all".into(),
            (frozen, Freeze::AllBelow) => {
                format!("blocks {frozen} to {} and the final norm", phase.depth - 1)
            }
            (frozen, _) => format!("blocks {frozen} to {}, embeddings, final norm", phase.depth - 1),
        }
    }
}

impl GrowthStrategy for Paper {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        self.phases = self.lay_out(run)?;
        let planned = |phase: &Phase| PlannedPhase {
            label: phase.label.clone(),
            first_step: phase.first_step,
            steps: phase.steps,
            depth: phase.depth,
            trains: self.describe(phase),
        };
        let phases = self.phases.iter().map(planned).collect();
        let initial = self.phases[0].depth;
        Ok(Plan { slots: vec!["new_blocks".into()], phases, ..Plan::fixed_depth(initial, run.model.layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let Some(phase) = self.phases.iter().find(|phase| phase.first_step == context.step) else {
            return Ok(());
        };
        let mut layers: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        if phase.depth > layers.len() {
            layers.extend(actions.insert(Insert {
                above: layers.last().map_or(Above::Embedding, |&top| Above::Layer(top)),
                count: phase.depth - layers.len(),
                slot: "new_blocks".into(),
                sources: vec![],
                moments: MomentsRule::Zero,
            })?);
        }
        actions.phase(&phase.label)?;
        actions.train(self.scope(phase, &layers))?;
        if phase.fresh_optimizer {
            actions.optimizer(OptimizerRule { which: Which::All, change: OptimizerChange::Reset })?;
        }
        Ok(())
    }

    sapwood_plugin::stateless!();
}

sapwood_plugin::export! {
    strategy Paper {
        id: "sapwood/paper",
        summary: "stages with a frozen and an open phase each, then continual training (arXiv 2411.18700)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::Paper;

    #[test]
    fn two_stages_freeze_what_is_old_and_then_open_it() {
        let config = r#"{ "stages": 2, "freeze": "all_below", "staged_steps": 40 }"#;
        let mut paper: Paper = plugin(config).expect("a good configuration");
        let transcript = SimulatedRun::new(4, 50).drive(&mut paper).expect("stages that fit");
        let wanted = "starts with 2 of at most 4 blocks
before step 0: phase `stage1-phase1`; train blocks 0 1, token embedding, position embedding, final norm, head
before step 10: phase `stage1-phase2`; train blocks 0 1, token embedding, position embedding, final norm, head
before step 20: insert 2 above 1 for new_blocks; phase `stage2-phase1`; train blocks 2 3, final norm
before step 30: phase `stage2-phase2`; train blocks 0 1 2 3, token embedding, position embedding, final norm, head
before step 40: phase `continual`; train blocks 0 1 2 3, token embedding, position embedding, final norm, head; optimizer Reset of All
ends after 50 steps with blocks 0 1 2 3
";
        assert_eq!(transcript.to_string(), wanted);
    }

    #[test]
    fn interrupted_anywhere_it_goes_on_as_if_nothing_had_happened() {
        let make = || plugin::<Paper>(r#"{ "stages": 2, "freeze": "blocks_only", "staged_steps": 16 }"#);
        let run = SimulatedRun::new(4, 20);
        let whole = run.drive(&mut make().expect("a good configuration")).expect("stages that fit");
        for step in 0..20 {
            assert_eq!(run.drive_interrupted(make, step).expect("a state to go on from"), whole, "{step}");
        }
    }
}
