//! The baseline: all blocks from the first step, everything trains, nothing ever changes.

use sapwood_plugin::{
    Actions, Error, GrowthStrategy, Plan, PlannedPhase, Plugin, Result, RunFacts, StepContext,
};

/// How deep the model is.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Blocks, at most as many as the model has (default: all). Fewer are a control: whether a model that stays small does
    /// as well with the same budget, so that there was no need to grow.
    layers: Option<usize>,
}

struct Baseline {
    layers: Option<usize>,
}

impl Plugin for Baseline {
    type Config = Config;

    fn new(config: Config) -> Result<Baseline> {
        Ok(Baseline { layers: config.layers })
    }
}

impl GrowthStrategy for Baseline {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (layers, depth) = (run.model.layers, self.layers.unwrap_or(run.model.layers));
        if depth > layers {
            return Err(Error::new(format!("the model has {layers} blocks alone")).in_field("layers"));
        }
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
    strategy Baseline {
        id: "sapwood/baseline",
        summary: "the whole model from the first step to the last",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::Baseline;

    fn depths(config: &str) -> sapwood_plugin::Result<Vec<usize>> {
        let mut baseline: Baseline = plugin(config)?;
        Ok(SimulatedRun::new(4, 3).drive(&mut baseline)?.depths)
    }

    #[test]
    fn it_is_as_deep_as_the_model_or_as_is_asked_throughout() {
        assert_eq!(depths("{}").expect("the usual"), [4; 3]);
        assert_eq!(depths(r#"{ "layers": 2 }"#).expect("a smaller one"), [2; 3]);
        let error = depths(r#"{ "layers": 5 }"#).expect_err("there are four");
        assert_eq!((error.message(), error.field()), ("the model has 4 blocks alone", Some("layers")));
    }
}
