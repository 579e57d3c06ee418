//! A wider model with neurons, heads and coordinates of the block above: what comes into one that comes is what comes into one
//! of the next block's, and what goes out of it is shared with the one of the same place in its own block, in equal parts
//! (advanced knowledge initialization, AKI, of bert2BERT, Chen et al., ACL 2022, arXiv 2110.07143, as we read it for a
//! decoder). Which neuron it is, is drawn at random; heads, and the coordinates of the stream, repeat in order. Embeddings and
//! norms are repeated.
//!
//! It does not keep the model's function: what it gives up is that copies have the same gradients, as they have with FPI
//! (`sapwood/net2net`). The topmost block has no next one, and takes its own. It is asked by a strategy that widens, such as
//! `sapwood/widen`; a new block is a copy of its source.

use sapwood_plugin::{Claim, InitContext, LayerInitializer, Plugin, Result, TensorMut};

use crate::{Axes, Axis, Way, fill};

/// Takes no option.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {}

pub(crate) struct Aki;

impl Plugin for Aki {
    type Config = Config;

    fn new(_: Config) -> Result<Aki> {
        Ok(Aki)
    }
}

impl Way for Aki {
    fn share(&self, place: usize, axis: &Axis) -> f64 {
        1.0 / axis.count(place) as f64
    }

    fn is_of_above(&self, place: usize, axis: &Axis) -> bool {
        !axis.was_there(place)
    }
}

impl LayerInitializer for Aki {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let axes = Axes::with_drawn_neurons(context, target)?;
        fill(self, &axes, context, target).map(|()| Claim::None)
    }

    sapwood_plugin::stateless!();
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SmallModel, plugin};
    use sapwood_plugin::{LayerId, Widths};

    use super::Aki;

    #[test]
    fn neurons_that_come_are_those_of_the_next_block() {
        let mut model = SmallModel::new(2);
        let block = |model: &SmallModel, layer| model.block(LayerId(layer)).expect("it is there").to_vec();
        let (lower, upper) = (block(&model, 0), block(&model, 1));
        let mut aki: Aki = plugin("{}").expect("the usual");
        let grown = model.widen(&mut aki, Widths { mlp_width: 48, ..model.widths() }).expect("sources");
        assert!(grown.largest_token_loss_change > 1e-3 && grown.not_finite.is_empty(), "{grown:?}");
        let biases = |layer| block(&model, layer)[9].clone();
        assert_eq!(biases(0)[..32], lower[9][..]);
        assert!(biases(0)[32..].iter().all(|bias| upper[9].contains(bias)));
        assert!(biases(1)[32..].iter().all(|bias| upper[9].contains(bias)), "the topmost takes its own");
    }

    /// The stream's coordinates that come are written by the next block's maps, and so are heads that come.
    #[test]
    fn coordinates_and_heads_that_come_are_those_of_the_next_block() {
        let mut model = SmallModel::new(2);
        let block = |model: &SmallModel, layer| model.block(LayerId(layer)).expect("it is there").to_vec();
        let (lower, upper) = (block(&model, 0), block(&model, 1));
        let mut aki: Aki = plugin("{}").expect("the usual");
        let widths = Widths { width: 10, heads: 3, ..model.widths() };
        let grown = model.widen(&mut aki, widths).expect("sources");
        assert!(grown.not_finite.is_empty(), "{grown:?}");
        let after = block(&model, 0);
        // Queries, keys and values of heads of four columns; biases of what attention gives out.
        for part in 0..3 {
            let (own, next) = (&lower[3][8 * part..8 * part + 8], &upper[3][8 * part..8 * part + 4]);
            assert_eq!(after[3][12 * part..12 * part + 12], [own, next].concat());
        }
        assert_eq!(after[5], [&lower[5][..], &upper[5][..2]].concat());
        // Embeddings and norms are repeated.
        assert_eq!(after[0], [&lower[0][..], &lower[0][..2]].concat());
    }
}
