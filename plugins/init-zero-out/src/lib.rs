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
    initializer ZeroOut { id: "sapwood/zero-out", summary: "new blocks whose branches add nothing at first" }
}
