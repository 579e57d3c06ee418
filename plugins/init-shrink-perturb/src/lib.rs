//! New blocks as shrunk sources with fresh noise: every matrix is `lambda W + kappa F`, F drawn as GPT-2's initial
//! weights are, so that what was learned still shows while the block can learn as a fresh one does. Norm gains go the same way
//! towards one, biases and shifts towards zero.
//!
//! Shrink and perturb (Ash and Adams, NeurIPS 2020, arXiv 1910.08475), as warm starts of larger models use it
//! (Mallik et al., arXiv 2411.07340). Both defaults, 0.4 and 1, are ours. F is drawn for this growth alone and never
//! read from a checkpoint that the run starts from: it has `init_std`, branch outputs divided by `sqrt(2 L)` for the
//! final depth L. AdamW's moments begin at zero, since the weights that they were measured at are no longer there.

use sapwood_plugin::{Claim, Error, InitContext, LayerInitializer, Plugin, Random, Result, Role, TensorMut};

/// How much of the source stays, and how much is drawn.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Factor of the source's weights, 0 to 1 (default, ours: 0.4).
    #[serde(default = "two_fifths")]
    lambda: f64,
    /// Factor of the fresh weights, 0 to 10 (default, ours: 1).
    #[serde(default = "one")]
    kappa: f64,
}

fn two_fifths() -> f64 {
    0.4
}

fn one() -> f64 {
    1.0
}

struct ShrinkPerturb {
    config: Config,
}

impl Plugin for ShrinkPerturb {
    type Config = Config;

    fn new(config: Config) -> Result<ShrinkPerturb> {
        for (field, value, most) in [("lambda", config.lambda, 1.0), ("kappa", config.kappa, 10.0)] {
            if !(0.0..=most).contains(&value) {
                return Err(Error::new(format!("must lie between 0 and {most}")).in_field(field));
            }
        }
        Ok(ShrinkPerturb { config })
    }
}

impl LayerInitializer for ShrinkPerturb {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let Config { lambda, kappa } = self.config;
        for (new, source) in target.iter_mut().zip(context.source_tensors()?) {
            let (mean, std) = initial_moments(new.role, context);
            let mut random = Random::new(context.key.named("shrink-perturb").named(new.class));
            for (new, &source) in new.values.iter_mut().zip(source.values) {
                let fresh = if std > 0.0 { std * random.normal() } else { 0.0 };
                *new = (lambda * f64::from(source) + (1.0 - lambda) * mean + kappa * fresh) as f32;
            }
        }
        Ok(Claim::None)
    }

    sapwood_plugin::stateless!();
}

/// Mean and standard deviation of a tensor in GPT-2's initial model.
fn initial_moments(role: Role, context: &InitContext<'_>) -> (f64, f64) {
    match role {
        Role::NORM_GAIN => (1.0, 0.0),
        Role::WEIGHT => (0.0, context.init_std),
        Role::BRANCH_OUTPUT_WEIGHT => (0.0, context.init_std / (2.0 * context.final_depth as f64).sqrt()),
        _ => (0.0, 0.0),
    }
}

sapwood_plugin::export! {
    initializer ShrinkPerturb {
        id: "sapwood/shrink-perturb",
        summary: "new blocks as shrunk sources with fresh noise (arXiv 1910.08475)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{Growth, SmallModel, plugin};

    use super::ShrinkPerturb;

    /// A new block and its source.
    fn grown(config: &str) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let mut model = SmallModel::new(2);
        let source = model.layers()[0];
        let mut shrink: ShrinkPerturb = plugin(config).expect("a good configuration");
        model.grow(&mut shrink, &Growth { position: 2, count: 1, sources: vec![source] }).expect("a source");
        let block = |layer| model.block(layer).expect("it is there").to_vec();
        (block(model.layers()[2]), block(source))
    }

    #[test]
    fn gains_go_towards_one_and_biases_towards_zero() {
        let (new, source) = grown(r#"{ "lambda": 0.25 }"#);
        for (gain, shift_or_bias) in [(0, 1), (6, 3), (6, 9)] {
            assert_eq!(new[gain][3], (0.25 * f64::from(source[gain][3]) + 0.75) as f32);
            assert_eq!(new[shift_or_bias][3], 0.25 * source[shift_or_bias][3]);
        }
        assert_ne!(new[8][3], 0.25 * source[8][3], "a matrix has fresh weights beside that");
    }

    #[test]
    fn nothing_of_one_or_nothing_of_the_other_is_left() {
        let (new, source) = grown(r#"{ "lambda": 1, "kappa": 0 }"#);
        assert_eq!(new, source);
        let (new, _) = grown(r#"{ "lambda": 0, "kappa": 0 }"#);
        assert_eq!((new[0][3], new[8][3]), (1.0, 0.0));
    }

    #[test]
    fn factors_out_of_range_are_refused() {
        for (key, value) in [("lambda", "1.5"), ("lambda", "-1"), ("kappa", "-0.5"), ("kappa", "1e300")] {
            let refused = plugin::<ShrinkPerturb>(&format!(r#"{{ "{key}": {value} }}"#)).map(|_| ());
            assert_eq!(refused.expect_err("no factor").field(), Some(key));
        }
    }
}
