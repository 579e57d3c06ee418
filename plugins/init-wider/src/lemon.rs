//! Wider hidden layers whose copies go their own ways: neurons that come are copies of neurons drawn at random, and of what goes
//! out of a neuron it keeps the share `kept`; its `n` copies have the rest, the k-th of them `k / (1 + … + n)` of it. The model's
//! function stays as it is, and since no two have the same share, no two have the same gradients (LEMON, Wang et al., ICLR
//! 2024, arXiv 2310.07999, for hidden layers).
//!
//! These shares are ours. LEMON's faster decay of the rate is the strategy's to ask for. It is asked by a strategy that
//! widens, such as `sapwood/widen`; a new block is a copy of its source.

use sapwood_plugin::{Claim, Error, InitContext, LayerInitializer, Plugin, Result, TensorMut};

use crate::{Neurons, Way, fill};

/// How unevenly neurons share.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What a neuron that is copied keeps of its outgoing weights, above 0 and below 1 (default, ours: 0.7).
    #[serde(default = "seven_tenths")]
    kept: f64,
}

fn seven_tenths() -> f64 {
    0.7
}

pub(crate) struct Lemon {
    config: Config,
}

impl Plugin for Lemon {
    type Config = Config;

    fn new(config: Config) -> Result<Lemon> {
        if config.kept > 0.0 && config.kept < 1.0 {
            return Ok(Lemon { config });
        }
        Err(Error::new("must lie between 0 and 1").in_field("kept"))
    }
}

impl Way for Lemon {
    fn share(&self, neuron: usize, neurons: &Neurons) -> f64 {
        let (copies, rank) = (neurons.count(neuron) - 1, neurons.ranks[neuron]);
        match copies {
            0 => 1.0,
            _ if neurons.was_there(neuron) => self.config.kept,
            copies => (1.0 - self.config.kept) * rank as f64 / (copies * (copies + 1) / 2) as f64,
        }
    }
}

impl LayerInitializer for Lemon {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let is_wider = fill(self, context, target)?;
        Ok(if is_wider { Claim::Exact } else { Claim::None })
    }

    sapwood_plugin::stateless!();
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SmallModel, plugin};
    use sapwood_plugin::{Claim, LayerId};

    use super::Lemon;

    #[test]
    fn a_neuron_keeps_its_share_and_the_function_stays() {
        let mut model = SmallModel::new(1);
        let before = model.block(LayerId(0)).expect("it is there").to_vec();
        let mut lemon: Lemon = plugin(r#"{ "kept": 0.75 }"#).expect("a good share");
        let grown = model.widen(&mut lemon, 60).expect("sources");
        assert!(grown.exact_claims_hold() && grown.claims == [Claim::Exact], "{grown:?}");
        let after = model.block(LayerId(0)).expect("it is there");
        for neuron in 0..32 {
            let copies = (32..60).filter(|&copy| after[9][copy] == before[9][neuron]).count();
            let share = |row: usize| after[10][row * 8] / before[10][neuron * 8];
            let wanted = if copies == 0 { 1.0 } else { 0.75 };
            assert!((share(neuron) - wanted).abs() < 1e-6, "neuron {neuron} with {copies} copies");
        }
    }

    #[test]
    fn a_share_of_all_or_nothing_is_refused() {
        for kept in ["0", "1", "-0.5"] {
            let refused =
                plugin::<Lemon>(&format!(r#"{{ "kept": {kept} }}"#)).map(|_| ()).expect_err("no share");
            assert_eq!(refused.field(), Some("kept"));
        }
    }
}
