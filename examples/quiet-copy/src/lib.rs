//! A layer initializer whose new blocks are copies of their sources, or of the initial model's blocks where the
//! strategy names no source, with the last linear map of each branch multiplied by a number: the smaller it is, the
//! less the model notices at first.

use sapwood_plugin::{Claim, Error, InitContext, LayerInitializer, Plugin, Result, TensorMut};
use serde::Deserialize;

/// How quietly new blocks begin. What stands here is what `sapwood plugin inspect` prints.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "branch_scale": 0.1 }]))]
struct Config {
    /// What the branches are multiplied by: 1 is a plain copy, 0 leaves the model's function as it is.
    branch_scale: f32,
}

struct QuietCopy {
    config: Config,
}

impl Plugin for QuietCopy {
    type Config = Config;

    fn new(config: Config) -> Result<QuietCopy> {
        if !config.branch_scale.is_finite() {
            return Err(Error::new("must be a number").in_field("branch_scale"));
        }
        Ok(QuietCopy { config })
    }
}

impl LayerInitializer for QuietCopy {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let from =
            if context.source.is_some() { context.source_tensors()? } else { context.original_tensors()? };
        let scale = self.config.branch_scale;
        for (new, from) in target.iter_mut().zip(from) {
            new.values.copy_from_slice(from.values);
            if new.role.is_branch_output() {
                new.values.iter_mut().for_each(|value| *value *= scale);
            }
        }
        // A host checks an exact claim on its probe batch, so only what is certain is claimed.
        Ok(if scale == 0.0 { Claim::Exact } else { Claim::None })
    }

    // The same block for the same context: a checkpoint has nothing of ours to keep.
    sapwood_plugin::stateless!();
}

sapwood_plugin::export! {
    initializer QuietCopy { id: "example/quiet-copy", summary: "copies of blocks whose branches begin quietly" }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{Growth, SmallModel, plugin};

    use super::QuietCopy;

    /// The largest change of a token's loss when one block is put on top of three.
    fn change(config: &str) -> f64 {
        let mut initializer = plugin::<QuietCopy>(config).expect("a good configuration");
        let growth = Growth { position: 3, count: 1, sources: vec![] };
        let grown = SmallModel::new(3).grow(&mut initializer, &growth).expect("all that it needs");
        assert!(grown.not_finite.is_empty(), "{:?}", grown.not_finite);
        grown.largest_token_loss_change
    }

    #[test]
    fn the_quieter_the_less_the_model_changes() {
        let (plain, quiet) = (change(r#"{ "branch_scale": 1.0 }"#), change(r#"{ "branch_scale": 0.1 }"#));
        assert!(plain > quiet && quiet > 0.0, "{plain} and {quiet}");
        assert_eq!(change(r#"{ "branch_scale": 0.0 }"#), 0.0);
    }
}
