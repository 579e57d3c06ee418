//! New blocks that leave the model's function as it is because their norms say nothing: gains, shifts and every bias
//! are zero, so that both branches map zero to zero, the attention since its values are zero and the MLP since
//! GELU(0) = 0. All matrices are those of the source block, or of the initial model where there is no source.
//!
//! This is the identity layer of depth growth in staged training (Shen et al., ICML 2022, arXiv 2203.06211), whose
//! published code makes matrices the identity; ours keep the source's or the drawn ones. At the first update gains,
//! shifts and biases learn, at the second everything does.

use sapwood_plugin::{Claim, InitContext, LayerInitializer, Plugin, Result, Role, TensorMut};

/// Takes no option.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

struct LnZero;

impl Plugin for LnZero {
    type Config = Config;

    fn new(_: Config) -> Result<LnZero> {
        Ok(LnZero)
    }
}

impl LayerInitializer for LnZero {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let from =
            if context.source.is_some() { context.source_tensors()? } else { context.original_tensors()? };
        for (new, from) in target.iter_mut().zip(from) {
            if is_matrix(new.role) {
                new.values.copy_from_slice(from.values);
            } else {
                new.values.fill(0.0);
            }
        }
        Ok(Claim::Exact)
    }

    sapwood_plugin::stateless!();
}

fn is_matrix(role: Role) -> bool {
    role == Role::WEIGHT || role == Role::BRANCH_OUTPUT_WEIGHT
}

sapwood_plugin::export! {
    initializer LnZero {
        id: "sapwood/ln-zero",
        summary: "new blocks whose norms are zero at first",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{Growth, SmallModel};

    use super::LnZero;

    #[test]
    fn the_function_stays_as_it_is_and_matrices_are_the_sources() {
        let mut model = SmallModel::new(3);
        let sources = vec![model.layers()[2]];
        let grown = model.grow(&mut LnZero, &Growth { position: 1, count: 1, sources }).expect("a source");
        assert_eq!(grown.largest_token_loss_change, 0.0);
        let [_, new, _, source] = model.layers()[..] else { panic!("four blocks") };
        let (new, source) = (model.block(new).expect("it is there"), model.block(source).expect("so is it"));
        for (new, source) in new.iter().zip(source) {
            assert!(new == source || new.iter().all(|&value| value == 0.0), "neither the source's nor zero");
        }
        assert_eq!(new.iter().zip(source).filter(|(new, source)| new == source).count(), 4);
    }
}
