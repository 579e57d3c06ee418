//! New blocks as copies of the blocks that the strategy names as their sources, AdamW state included
//! (StackingBERT, Gong et al., ICML 2019; arXiv 2405.15319).

use sapwood_plugin::{Claim, InitContext, LayerInitializer, MomentsRule, Plugin, Result, TensorMut};

/// Takes no option.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Copy;

impl Plugin for Copy {
    type Config = Config;

    fn new(_: Config) -> Result<Copy> {
        Ok(Copy)
    }
}

impl LayerInitializer for Copy {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        for (new, source) in target.iter_mut().zip(context.source_tensors()?) {
            new.values.copy_from_slice(source.values);
        }
        Ok(Claim::None)
    }

    fn moments(&self) -> MomentsRule {
        MomentsRule::CopyFromSource
    }

    sapwood_plugin::stateless!();
}

sapwood_plugin::export! {
    initializer Copy {
        id: "sapwood/copy",
        summary: "new blocks as copies of their sources",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{Growth, SmallModel};

    use super::Copy;

    #[test]
    fn a_new_block_is_its_source_and_none_is_made_from_nothing() {
        let mut model = SmallModel::new(2);
        let source = model.layers()[0];
        let growth = Growth { position: 2, count: 1, sources: vec![source] };
        let grown = model.grow(&mut Copy, &growth).expect("a source");
        let new = model.layers()[2];
        assert_eq!(model.block(new), model.block(source));
        assert!(grown.largest_token_loss_change > 1e-3, "a second copy is no identity");
        let nothing = Growth { sources: vec![], ..growth };
        assert!(model.grow(&mut Copy, &nothing).is_err());
    }
}
