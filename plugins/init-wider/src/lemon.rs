//! A wider model whose copies go their own ways: what comes is a copy (of neurons drawn at random; of heads, and of the stream's
//! coordinates, in order), and of what goes out of one it keeps the share `kept`; its `n` copies have the rest, the k-th of them
//! `k / (1 + … + n)` of it. The model's function stays as it is, and since no two have the same share, no two have the same
//! gradients (LEMON, Wang et al., ICLR 2024, arXiv 2310.07999).
//!
//! Where the stream does not become a whole number of times as wide, the coordinates that are left over are the average of all,
//! and gains are multiplied so that a layer norm gives out what it did (LEMON's average expansion); the epsilon within it
//! stays, so that this is no exact claim. The shares are ours. LEMON's faster decay of the rate is the strategy's to ask for.
//! It is asked by a strategy that widens, such as `sapwood/widen`; a new block is a copy of its source.

use sapwood_plugin::{Claim, Error, InitContext, LayerInitializer, Plugin, Result, TensorMut};

use crate::{Axes, Axis, Way, fill};

/// How unevenly neurons share.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What one that is copied keeps of its outgoing weights, above 0 and below 1 (default, ours: 0.7).
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
    fn share(&self, place: usize, axis: &Axis) -> f64 {
        let (copies, rank) = (axis.count(place) - 1, axis.rank(place));
        match copies {
            0 => 1.0,
            _ if axis.was_there(place) => self.config.kept,
            copies => (1.0 - self.config.kept) * rank as f64 / (copies * (copies + 1) / 2) as f64,
        }
    }
}

impl LayerInitializer for Lemon {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let mut axes = Axes::with_drawn_neurons(context, target)?;
        axes.stream = axes.stream.averaging_the_rest();
        fill(self, &axes, context, target)?;
        Ok(match axes.grow() {
            false => Claim::None,
            true if axes.stream.is_whole() => Claim::Exact,
            true => Claim::Approximate,
        })
    }

    sapwood_plugin::stateless!();
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SmallModel, plugin};
    use sapwood_plugin::{Claim, LayerId, Widths};

    use super::Lemon;

    #[test]
    fn a_neuron_keeps_its_share_and_the_function_stays() {
        let mut model = SmallModel::new(1);
        let before = model.block(LayerId(0)).expect("it is there").to_vec();
        let mut lemon: Lemon = plugin(r#"{ "kept": 0.75 }"#).expect("a good share");
        let grown = model.widen(&mut lemon, Widths { mlp_width: 60, ..model.widths() }).expect("sources");
        assert!(grown.exact_claims_hold() && grown.claims == [Claim::Exact], "{grown:?}");
        let after = model.block(LayerId(0)).expect("it is there");
        for neuron in 0..32 {
            let copies = (32..60).filter(|&copy| after[9][copy] == before[9][neuron]).count();
            let share = |row: usize| after[10][row * 8] / before[10][neuron * 8];
            let wanted = if copies == 0 { 1.0 } else { 0.75 };
            assert!((share(neuron) - wanted).abs() < 1e-6, "neuron {neuron} with {copies} copies");
        }
    }

    /// Twice the stream and heads: exact. Half as much again: the rest is the average, and only the norm's epsilon is in the way.
    #[test]
    fn the_stream_repeats_and_what_is_left_is_the_average() {
        let mut lemon: Lemon = plugin("{}").expect("the usual");
        let mut model = SmallModel::new(2);
        let twice = Widths { width: 16, heads: 4, mlp_width: 40 };
        let grown = model.widen(&mut lemon, twice).expect("sources");
        assert!(grown.exact_claims_hold() && grown.claims == [Claim::Exact; 3], "{grown:?}");
        let mut model = SmallModel::new(2);
        let before = model.shared().to_vec();
        let grown = model.widen(&mut lemon, Widths { width: 12, ..model.widths() }).expect("sources");
        assert_eq!(grown.claims, [Claim::Approximate; 3]);
        assert!(grown.largest_token_loss_change < 1e-3 && grown.not_finite.is_empty(), "{grown:?}");
        for (new, old) in model.shared()[0].chunks(12).zip(before[0].chunks(8)) {
            let average = old.iter().map(|&value| f64::from(value)).sum::<f64>() / 8.0;
            assert_eq!(new[..8], *old);
            assert!(new[8..].iter().all(|&value| (f64::from(value) - average).abs() < 1e-7));
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
