//! New blocks that leave the model's function as it is: the last linear map of each branch, bias included,
//! is zero, so that the branch adds nothing to the residual stream until it has learned to. All other
//! tensors are those of the source block, or of the initial model where there is no source.

use sapwood_plugin::{Claim, InitContext, LayerInitializer, Plugin, Result, TensorMut};

/// Takes no option.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

struct ZeroOut;

impl Plugin for ZeroOut {
    type Config = Config;

    fn new(_: Config) -> Result<ZeroOut> {
        Ok(ZeroOut)
    }
}

impl LayerInitializer for ZeroOut {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let from =
            if context.source.is_some() { context.source_tensors()? } else { context.original_tensors()? };
        for (new, from) in target.iter_mut().zip(from) {
            if new.role.is_branch_output() {
                new.values.fill(0.0);
            } else {
                new.values.copy_from_slice(from.values);
            }
        }
        Ok(Claim::Exact)
    }

    sapwood_plugin::stateless!();
}

sapwood_plugin::export! {
    initializer ZeroOut {
        id: "sapwood/zero-out",
        summary: "new blocks whose branches add nothing at first",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{Growth, SmallModel};

    use super::ZeroOut;

    #[test]
    fn the_function_stays_as_it_is_wherever_blocks_go() {
        for position in 0..=3 {
            for sources in [vec![], SmallModel::new(3).layers()[..2].to_vec()] {
                let mut model = SmallModel::new(3);
                let growth = Growth { position, count: 2, sources };
                let grown = model.grow(&mut ZeroOut, &growth).expect("all that it needs");
                assert_eq!(grown.largest_token_loss_change, 0.0, "{growth:?}");
                assert!(grown.not_finite.is_empty(), "{growth:?}: {:?}", grown.not_finite);
            }
        }
    }
}
