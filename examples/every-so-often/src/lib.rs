//! A growth strategy that starts with one block and adds one every so many steps, until the model is as deep as the
//! study says.

use sapwood_plugin::{
    Above, Actions, Error, GrowthStrategy, Insert, MomentsRule, Plan, Plugin, Result, RunFacts, StepContext,
};
use serde::Deserialize;

/// How often to grow. What stands here is what `sapwood plugin inspect` prints.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "every_steps": 5 }]))]
struct Config {
    /// Steps between two growths.
    every_steps: u64,
}

struct EverySoOften {
    config: Config,
    final_depth: usize,
}

impl Plugin for EverySoOften {
    type Config = Config;

    fn new(config: Config) -> Result<EverySoOften> {
        if config.every_steps == 0 {
            return Err(Error::new("must be at least 1").in_field("every_steps"));
        }
        Ok(EverySoOften { config, final_depth: 0 })
    }
}

impl GrowthStrategy for EverySoOften {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        self.final_depth = run.model.layers;
        Ok(Plan { slots: vec!["new_blocks".into()], ..Plan::fixed_depth(1, run.model.layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let due = context.step > 0 && context.step % self.config.every_steps == 0;
        if due && context.blocks.len() < self.final_depth {
            actions.insert(Insert {
                above: context.blocks.last().map_or(Above::Embedding, |block| Above::Layer(block.id)),
                count: 1,
                slot: "new_blocks".into(),
                sources: vec![],
                moments: MomentsRule::FromInitializer,
            })?;
        }
        Ok(())
    }

    // Every decision follows from the context alone, so a checkpoint has nothing of ours to keep.
    sapwood_plugin::stateless!();
}

sapwood_plugin::export! {
    strategy EverySoOften { id: "example/every-so-often", summary: "adds a block every so many steps" }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::EverySoOften;

    #[test]
    fn it_grows_when_it_is_due_and_stops_at_the_final_depth() {
        let mut strategy = plugin::<EverySoOften>(r#"{ "every_steps": 10 }"#).expect("a good configuration");
        let transcript = SimulatedRun::new(3, 40).drive(&mut strategy).expect("it decides");
        let expected = "\
starts with 1 of at most 3 blocks
before step 10: insert 1 above 0 for new_blocks
before step 20: insert 1 above 1 for new_blocks
ends after 40 steps with blocks 0 1 2
";
        assert_eq!(transcript.to_string(), expected);
    }

    #[test]
    fn a_number_that_makes_no_sense_is_named() {
        let error = plugin::<EverySoOften>(r#"{ "every_steps": 0 }"#).map(|_| ()).expect_err("never");
        assert_eq!((error.message(), error.field()), ("must be at least 1", Some("every_steps")));
    }
}
