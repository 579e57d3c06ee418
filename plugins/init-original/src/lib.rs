//! New blocks as the run's initial model has them: drawn from the seed as block k of a model of the final
//! depth would have been, so that a grown block and the baseline's block of the same birth are equal.

use sapwood_plugin::{Claim, InitContext, LayerInitializer, Plugin, Result, TensorMut};

/// Takes no option.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Original;

impl Plugin for Original {
    type Config = Config;

    fn new(_: Config) -> Result<Original> {
        Ok(Original)
    }
}

impl LayerInitializer for Original {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        for (new, original) in target.iter_mut().zip(context.original_tensors()?) {
            new.values.copy_from_slice(original.values);
        }
        Ok(Claim::None)
    }

    sapwood_plugin::stateless!();
}

sapwood_plugin::export! {
    initializer Original {
        id: "sapwood/original",
        summary: "new blocks as the run's initial model has them",
        page: include_str!("lib.rs"),
    }
}
