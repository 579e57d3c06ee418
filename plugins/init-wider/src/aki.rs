//! Wider hidden layers with neurons of the block above: what comes into a neuron that comes is what comes into one of the next
//! block's, drawn at random, and what goes out of it is shared with the neuron of the same place in its own block, in equal
//! parts (advanced knowledge initialization, AKI, of bert2BERT, Chen et al., ACL 2022, arXiv 2110.07143, as we read it for a
//! hidden layer).
//!
//! It does not keep the model's function: what it gives up is that copies have the same gradients, as they have with FPI
//! (`sapwood/net2net`). The topmost block has no next one, and takes its own neurons. It is asked by a strategy that
//! widens, such as `sapwood/widen`; a new block is a copy of its source.

use sapwood_plugin::{Claim, InitContext, LayerInitializer, Plugin, Result, TensorMut};

use crate::{Neurons, Way, fill};

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
    fn is_of_above(&self, neuron: usize, neurons: &Neurons) -> bool {
        !neurons.was_there(neuron)
    }

    fn share(&self, neuron: usize, neurons: &Neurons) -> f64 {
        1.0 / neurons.count(neuron) as f64
    }
}

impl LayerInitializer for Aki {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        fill(self, context, target).map(|_| Claim::None)
    }

    sapwood_plugin::stateless!();
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::LayerId;
    use sapwood_plugin::testing::{SmallModel, plugin};

    use super::Aki;

    #[test]
    fn neurons_that_come_are_those_of_the_next_block() {
        let mut model = SmallModel::new(2);
        let block = |model: &SmallModel, layer| model.block(LayerId(layer)).expect("it is there").to_vec();
        let (lower, upper) = (block(&model, 0), block(&model, 1));
        let mut aki: Aki = plugin("{}").expect("the usual");
        let grown = model.widen(&mut aki, 48).expect("sources");
        assert!(grown.largest_token_loss_change > 1e-3 && grown.not_finite.is_empty(), "{grown:?}");
        let biases = |layer| block(&model, layer)[9].clone();
        assert_eq!(biases(0)[..32], lower[9][..]);
        assert!(biases(0)[32..].iter().all(|bias| upper[9].contains(bias)));
        assert!(biases(1)[32..].iter().all(|bias| upper[9].contains(bias)), "the topmost takes its own");
    }
}
