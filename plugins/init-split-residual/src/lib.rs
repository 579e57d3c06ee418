//! Blocks that share out what their source adds: each of its `copies`, the source itself included, is the source with the
//! last linear map of each branch, bias included, divided by their number. Two halves one after the other,
//! `x + f(x)/2 + f(x + f(x)/2)/2`, differ from `x + f(x)` by the square of what a block adds only, where two whole copies
//! differ by what it adds.
//!
//! So the source has to be made anew too, and its copies have to stand right beside it: of the strategies here
//! `sapwood/doubling` does both with `order = "interleave", renew_sources = true`. The gradient of a divided weight is as
//! large as before, so AdamW's moments are copied as they are. The idea of halves is that of residual networks as steps of
//! an integration (Chang et al., ICLR 2018, arXiv 1710.10348); the rule for transformer blocks is ours.

use sapwood_plugin::{Claim, Error, InitContext, LayerInitializer, MomentsRule, Plugin, Result, TensorMut};

/// Among how many blocks a source is shared out.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "copies": 2 }]))]
struct Config {
    /// How many blocks there are of one once the model has grown, itself included, 1 to 64; 1 is a plain copy.
    copies: u32,
}

struct SplitResidual {
    copies: u32,
}

impl Plugin for SplitResidual {
    type Config = Config;

    fn new(Config { copies }: Config) -> Result<SplitResidual> {
        if !(1..=64).contains(&copies) {
            return Err(Error::new("must be 1 to 64").in_field("copies"));
        }
        Ok(SplitResidual { copies })
    }
}

impl LayerInitializer for SplitResidual {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        for (new, source) in target.iter_mut().zip(context.source_tensors()?) {
            let copies = if new.role.is_branch_output() { self.copies as f32 } else { 1.0 };
            for (new, source) in new.values.iter_mut().zip(source.values) {
                *new = source / copies;
            }
        }
        Ok(if self.copies == 1 { Claim::None } else { Claim::Approximate })
    }

    fn moments(&self) -> MomentsRule {
        MomentsRule::CopyFromSource
    }

    sapwood_plugin::stateless!();
}

sapwood_plugin::export! {
    initializer SplitResidual {
        id: "sapwood/split-residual",
        summary: "blocks that share out what their source adds among its copies",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{Growth, SmallModel, plugin};

    use super::SplitResidual;

    #[test]
    fn branch_outputs_are_divided_and_nothing_else_is() {
        let mut model = SmallModel::new(2);
        let source = model.layers()[1];
        let growth = Growth { position: 2, count: 1, sources: vec![source] };
        let mut thirds: SplitResidual = plugin(r#"{ "copies": 3 }"#).expect("a good configuration");
        model.grow(&mut thirds, &growth).expect("a source");
        let new = model.layers()[2];
        let (old, new) =
            (model.block(source).expect("it stands"), model.block(new).expect("it was inserted"));
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            // `c_proj` of attention and MLP, weights and biases, in the order of a block's tensors.
            let divided = [4, 5, 10, 11].contains(&index);
            let wanted: Vec<f32> = old.iter().map(|&w| if divided { w / 3.0 } else { w }).collect();
            assert_eq!(*new, wanted, "tensor {index}");
        }
    }

    #[test]
    fn numbers_of_copies_that_make_no_sense_are_refused() {
        for copies in ["0", "65"] {
            let error = plugin::<SplitResidual>(&format!(r#"{{ "copies": {copies} }}"#)).err();
            assert_eq!(error.expect("refused").field(), Some("copies"), "{copies}");
        }
    }
}
