//! A model several times as wide, in which as many of the model that was there stand beside each other: every map becomes
//! block-diagonal, embeddings and norms are repeated, and the final norm's gain and shift are divided by how many there are, so
//! that the tied head adds up to the logits that were (the width operator of staged training, Shen et al., ICML 2022, arXiv
//! 2203.06211). The model's function stays as it is.
//!
//! Stream, heads and hidden layers have to grow by the same whole number; the paper doubles. Nothing tells the copies apart,
//! and they learn the same for good. The paper also keeps AdamW's moments, halved and quartered: with `sapwood/widen` that is
//! `optimizer = "staged"`. Its code leaves the moments of what is off the diagonal at zero; the gradient there is the same as on
//! it, and here the moments are too. It is asked by a strategy that widens; a new block is a copy of its source.

use sapwood_plugin::{Claim, Error, InitContext, LayerId, LayerInitializer, Plugin, Result, TensorMut};

use crate::{Axes, Axis, Way, fill};

/// Takes no option.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {}

pub(crate) struct Staged;

impl Plugin for Staged {
    type Config = Config;

    fn new(_: Config) -> Result<Staged> {
        Ok(Staged)
    }
}

impl Way for Staged {
    /// Of what goes out, all: only the final norm's coordinates share.
    fn share(&self, _: usize, _: &Axis) -> f64 {
        1.0
    }

    fn head_share(&self, place: usize, axis: &Axis) -> f64 {
        1.0 / axis.count(place) as f64
    }

    fn leads(&self, (from, rows): (usize, &Axis), (to, columns): (usize, &Axis)) -> bool {
        rows.rank(from) == columns.rank(to)
    }
}

impl LayerInitializer for Staged {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let axes = Axes::new(context, target, Axis::repeated)?;
        let all = [&axes.stream, &axes.attention, &axes.hidden];
        let all = &all[..if context.layer == LayerId::SHARED { 1 } else { 3 }];
        if !all.iter().all(|axis| axis.is_whole() && axis.times() == axes.stream.times()) {
            return Err(Error::new(
                "staged training's operator makes stream, heads and hidden layers the same whole number of times wider",
            ));
        }
        fill(self, &axes, context, target)?;
        Ok(if axes.grow() { Claim::Exact } else { Claim::None })
    }

    sapwood_plugin::stateless!();
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SmallModel, plugin};
    use sapwood_plugin::{Claim, LayerId, Widths};

    use super::Staged;

    fn times(model: &SmallModel, factor: usize) -> Widths {
        let Widths { width, heads, mlp_width } = model.widths();
        Widths { width: factor * width, heads: factor * heads, mlp_width: factor * mlp_width }
    }

    #[test]
    fn as_many_models_stand_beside_each_other() {
        for factor in [2, 3] {
            let mut model = SmallModel::new(2);
            let before = model.block(LayerId(0)).expect("it is there").to_vec();
            let mut staged: Staged = plugin("{}").expect("the usual");
            let grown = model.widen(&mut staged, times(&model, factor)).expect("sources");
            assert_eq!(grown.claims, [Claim::Exact; 3]);
            assert!(grown.exact_claims_hold() && grown.not_finite.is_empty(), "{grown:?}");
            let after = model.block(LayerId(0)).expect("it is there");
            for (row, values) in after[8].chunks(32 * factor).enumerate() {
                for (column, value) in values.iter().enumerate() {
                    let same = row / 8 == column / 32;
                    let wanted = if same { before[8][row % 8 * 32 + column % 32] } else { 0.0 };
                    assert_eq!(*value, wanted, "from {row} to {column}");
                }
            }
        }
    }

    #[test]
    fn other_multiples_are_refused() {
        let model = SmallModel::new(1);
        let Widths { width, heads, mlp_width } = model.widths();
        for widths in [
            Widths { mlp_width: 2 * mlp_width, ..model.widths() },
            Widths { width: 2 * width, heads: 2 * heads, mlp_width: 3 * mlp_width },
            Widths { width: width + 1, ..model.widths() },
        ] {
            let mut staged: Staged = plugin("{}").expect("the usual");
            let refused = model.clone().widen(&mut staged, widths).expect_err("no common multiple");
            assert!(refused.to_string().contains("the same whole number of times"), "{refused}");
        }
    }
}
