//! A wider model, piece by piece: what comes is a copy (of neurons drawn at random; of heads, and of the stream's coordinates,
//! in order), and one and its copies share what goes out of them in equal parts, so that the model's function stays as it is
//! (Net2WiderNet, Chen et al., ICLR 2016, arXiv 1511.05641; function-preserving initialization, FPI, of bert2BERT, Chen et al.,
//! ACL 2022, arXiv 2110.07143). A stream that does not become a whole number of times as wide has other layer norms, and the
//! function does not stay.
//!
//! Copies that share in equal parts have the same gradients for good: Net2Net adds a little noise to what comes into them,
//! which gives the function up. It is off by default here; `sapwood/lemon` shares unevenly instead. It is asked by a strategy
//! that widens, such as `sapwood/widen`; a new block is a copy of its source.

use sapwood_plugin::{Claim, Error, InitContext, LayerInitializer, Plugin, Result, TensorMut};

use crate::{Axes, Axis, Way, add_noise, fill};

/// Whether copies are kept apart.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Noise on what comes into copies, as a share of the matrix's root mean square, 0 to 1 (default: 0, none).
    #[serde(default)]
    noise: f64,
}

pub(crate) struct Net2Net {
    config: Config,
}

impl Plugin for Net2Net {
    type Config = Config;

    fn new(config: Config) -> Result<Net2Net> {
        if !(0.0..=1.0).contains(&config.noise) {
            return Err(Error::new("must lie between 0 and 1").in_field("noise"));
        }
        Ok(Net2Net { config })
    }
}

impl Way for Net2Net {
    fn share(&self, place: usize, axis: &Axis) -> f64 {
        1.0 / axis.count(place) as f64
    }
}

impl LayerInitializer for Net2Net {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let axes = Axes::with_drawn_neurons(context, target)?;
        fill(self, &axes, context, target)?;
        if !axes.grow() || !axes.stream.is_whole() {
            return Ok(Claim::None);
        }
        if self.config.noise == 0.0 {
            return Ok(Claim::Exact);
        }
        add_noise(context, &axes, target, self.config.noise);
        Ok(Claim::Approximate)
    }

    sapwood_plugin::stateless!();
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SmallModel, plugin};
    use sapwood_plugin::{Claim, LayerId, Widths};

    use super::Net2Net;

    #[test]
    fn copies_share_what_goes_out_and_the_function_stays() {
        let mut model = SmallModel::new(2);
        let before = model.block(LayerId(1)).expect("it is there").to_vec();
        let mut net2net: Net2Net = plugin("{}").expect("the usual");
        let grown = model.widen(&mut net2net, Widths { mlp_width: 75, ..model.widths() }).expect("sources");
        assert_eq!(grown.claims, [Claim::Exact; 2]);
        assert!(grown.exact_claims_hold() && grown.not_finite.is_empty(), "{grown:?}");
        let after = model.block(LayerId(1)).expect("it is there");
        assert_eq!((after[9].len(), after[11].clone()), (75, before[11].clone()));
        assert_eq!(after[9][..32], before[9][..], "those that were there keep their place");
        // What goes out of a neuron and its copies sums up to what went out of it.
        let outgoing = |tensors: &[Vec<f32>], neuron: usize| tensors[10][neuron * 8..neuron * 8 + 8].to_vec();
        for neuron in 0..32 {
            let copies = (0..75).filter(|&other| after[9][other] == before[9][neuron]);
            let sum = copies.fold(vec![0.0f64; 8], |sum, copy| {
                sum.iter().zip(outgoing(after, copy)).map(|(sum, value)| sum + f64::from(value)).collect()
            });
            let wanted = outgoing(&before, neuron);
            assert!(sum.iter().zip(wanted).all(|(sum, wanted)| (sum - f64::from(wanted)).abs() < 1e-6));
        }
    }

    /// Any number of heads, and a stream that is a whole number of times as wide, keep the function; layer norms see to it that
    /// any other stream does not.
    #[test]
    fn heads_and_whole_multiples_of_the_stream_keep_the_function() {
        let mut net2net: Net2Net = plugin("{}").expect("the usual");
        for (width, heads, mlp_width) in [(8, 3, 32), (16, 2, 32), (24, 7, 50)] {
            let mut model = SmallModel::new(2);
            let grown = model.widen(&mut net2net, Widths { width, heads, mlp_width }).expect("sources");
            assert!(grown.claims.iter().all(|claim| *claim == Claim::Exact), "{width} {heads}: {grown:?}");
            assert!(grown.exact_claims_hold() && grown.not_finite.is_empty(), "{width} {heads}: {grown:?}");
        }
        let mut model = SmallModel::new(2);
        let grown = model.widen(&mut net2net, Widths { width: 12, ..model.widths() }).expect("sources");
        assert_eq!(grown.claims, [Claim::None; 3]);
        assert!(grown.largest_token_loss_change > 1e-3, "{grown:?}");
    }

    #[test]
    fn noise_moves_copies_alone_and_gives_the_function_up() {
        let mut model = SmallModel::new(1);
        let before = model.block(LayerId(0)).expect("it is there").to_vec();
        let mut noisy: Net2Net = plugin(r#"{ "noise": 0.1 }"#).expect("a good share");
        let grown = model.widen(&mut noisy, Widths { mlp_width: 40, ..model.widths() }).expect("sources");
        assert_eq!(grown.claims, [Claim::Approximate]);
        assert!(grown.largest_token_loss_change > 1e-4, "{grown:?}");
        let after = model.block(LayerId(0)).expect("it is there");
        for (new, old) in after[8].chunks(40).zip(before[8].chunks(32)) {
            assert_eq!(&new[..32], old);
            assert!(new[32..].iter().all(|value| !old.contains(value)));
        }
    }

    #[test]
    fn a_share_beyond_the_whole_is_refused() {
        for noise in ["-0.1", "1.5"] {
            let refused =
                plugin::<Net2Net>(&format!(r#"{{ "noise": {noise} }}"#)).map(|_| ()).expect_err("no share");
            assert_eq!(refused.field(), Some("noise"));
        }
    }
}
