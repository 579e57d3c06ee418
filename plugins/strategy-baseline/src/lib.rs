//! The baseline: all blocks from the first step, everything trains, nothing ever changes.

use sapwood_plugin::{Actions, GrowthStrategy, Plan, PlannedPhase, Plugin, Result, RunFacts, StepContext};

/// Takes no option.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Baseline;

impl Plugin for Baseline {
    type Config = Config;

    fn new(_: Config) -> Result<Baseline> {
        Ok(Baseline)
    }
}

impl GrowthStrategy for Baseline {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let depth = run.model.layers;
        let whole =
            PlannedPhase { label: "all".into(), first_step: 0, steps: None, depth, trains: "all".into() };
        Ok(Plan { phases: vec![whole], ..Plan::fixed_depth(depth, depth) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        if context.step == 0 {
            actions.phase("all")?;
        }
        Ok(())
    }

    sapwood_plugin::stateless!();
}

sapwood_plugin::export! {
    strategy Baseline { id: "sapwood/baseline", summary: "the whole model from the first step to the last" }
}
