//! New blocks as copies of their sources with a little noise, so that copies part at once: every matrix is
//! `W + eta rms(W) e` with e drawn from N(0, 1), rms taken over the matrix; norms and biases are the source's own bits.
//!
//! Growth of mixtures of experts gives duplicated experts noise of 1 % of the standard deviation (Wang et al., arXiv
//! 2510.08008), and LiGO's code starts its depth operator from stacked copies with noise of 0.03 (Wang et al., ICLR 2023,
//! arXiv 2303.00980, `stackbert_noisy`). The default, 1 % of each matrix's rms, is ours. AdamW's moments and counters are the
//! source's: noise this small does not make them wrong.

use sapwood_plugin::{
    Claim, Error, InitContext, LayerInitializer, MomentsRule, Plugin, Random, Result, Role, TensorMut,
};

/// How much noise.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Standard deviation of the noise as a share of each matrix's root mean square; 0 is a copy (default, ours: 0.01).
    #[serde(default = "one_percent")]
    eta: f64,
}

fn one_percent() -> f64 {
    0.01
}

struct CopyNoise {
    config: Config,
}

impl Plugin for CopyNoise {
    type Config = Config;

    fn new(config: Config) -> Result<CopyNoise> {
        if !(0.0..=1.0).contains(&config.eta) {
            return Err(Error::new("must lie between 0 and 1").in_field("eta"));
        }
        Ok(CopyNoise { config })
    }
}

impl LayerInitializer for CopyNoise {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        for (new, source) in target.iter_mut().zip(context.source_tensors()?) {
            new.values.copy_from_slice(source.values);
            if is_matrix(new.role) {
                let std = self.config.eta * root_mean_square(source.values);
                let mut random = Random::new(context.key.named("copy-noise").named(new.class));
                for value in new.values.iter_mut() {
                    *value = (f64::from(*value) + std * random.normal()) as f32;
                }
            }
        }
        Ok(Claim::None)
    }

    fn moments(&self) -> MomentsRule {
        MomentsRule::CopyFromSource
    }

    sapwood_plugin::stateless!();
}

fn is_matrix(role: Role) -> bool {
    role == Role::WEIGHT || role == Role::BRANCH_OUTPUT_WEIGHT
}

fn root_mean_square(values: &[f32]) -> f64 {
    let squares: f64 = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    (squares / values.len().max(1) as f64).sqrt()
}

sapwood_plugin::export! {
    initializer CopyNoise {
        id: "sapwood/copy-noise",
        summary: "new blocks as copies of their sources with a little noise",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{Growth, SmallModel, plugin};

    use super::CopyNoise;

    #[test]
    fn matrices_have_noise_and_all_else_is_copied() {
        let mut model = SmallModel::new(2);
        let source = model.layers()[0];
        let mut noise: CopyNoise = plugin("{}").expect("a good configuration");
        model.grow(&mut noise, &Growth { position: 2, count: 1, sources: vec![source] }).expect("a source");
        let (new, source) = (model.block(model.layers()[2]), model.block(source));
        let pairs = new.expect("it is there").iter().zip(source.expect("so is it"));
        let noisy: Vec<bool> = pairs.map(|(new, source)| new != source).collect();
        let matrices = [2, 4, 8, 10];
        assert_eq!(noisy, (0..12).map(|index| matrices.contains(&index)).collect::<Vec<_>>());
    }

    #[test]
    fn noise_that_is_no_share_is_refused() {
        for eta in ["-0.01", "2"] {
            let refused = plugin::<CopyNoise>(&format!(r#"{{ "eta": {eta} }}"#)).map(|_| ());
            assert_eq!(refused.expect_err("no share").field(), Some("eta"));
        }
    }
}
