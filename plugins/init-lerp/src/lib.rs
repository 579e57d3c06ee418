//! New blocks between two that are there: every tensor is `(1 - t) A + t B`, A being the source block and B the one
//! right above it before growth; the topmost block is its own upper neighbour.
//!
//! A mean of neighbours is a special case of LiGO's depth operator, which learns the shares (Wang et al., ICLR
//! 2023, arXiv 2303.00980). The share of one half is ours. Nothing aligns neurons or heads first, so that the mean
//! of two blocks need not do what either does. AdamW's moments begin at zero: those of two sources cannot be mixed
//! by a rule of revision 1.

use sapwood_plugin::{Claim, Error, InitContext, LayerInitializer, Plugin, Result, TensorMut, TensorView};

/// How far up, and whether the function is kept.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Share of the block above the source, 0 to 1; 0 is a copy of the source (default, ours: 0.5).
    #[serde(default = "half")]
    t: f64,
    /// Whether the last linear map of each branch is zero instead, bias included, so that the model's function stays
    /// as it is (default: no).
    #[serde(default)]
    zero_out: bool,
}

fn half() -> f64 {
    0.5
}

struct Lerp {
    config: Config,
}

impl Plugin for Lerp {
    type Config = Config;

    fn new(config: Config) -> Result<Lerp> {
        if !(0.0..=1.0).contains(&config.t) {
            return Err(Error::new("must lie between 0 and 1").in_field("t"));
        }
        Ok(Lerp { config })
    }
}

impl LayerInitializer for Lerp {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let (below, above) = neighbours(context)?;
        for (new, (below, above)) in target.iter_mut().zip(below.iter().zip(above)) {
            if self.config.zero_out && new.role.is_branch_output() {
                new.values.fill(0.0);
                continue;
            }
            for (new, (&below, &above)) in new.values.iter_mut().zip(below.values.iter().zip(above.values)) {
                *new = mix(below, above, self.config.t);
            }
        }
        Ok(if self.config.zero_out { Claim::Exact } else { Claim::None })
    }

    sapwood_plugin::stateless!();
}

/// The tensors of the source, and of the block that stood right above it.
fn neighbours<'a>(context: &InitContext<'a>) -> Result<(&'a [TensorView<'a>], &'a [TensorView<'a>])> {
    let below = context.source_tensors()?;
    let position = context.existing.iter().position(|block| Some(block.id) == context.source);
    let above = position.and_then(|position| context.existing.get(position + 1));
    Ok((below, above.map_or(below, |block| block.tensors)))
}

/// In f64, so that `t` of 0 and 1 give a neighbour's own bits.
fn mix(below: f32, above: f32, t: f64) -> f32 {
    ((1.0 - t) * f64::from(below) + t * f64::from(above)) as f32
}

sapwood_plugin::export! {
    initializer Lerp {
        id: "sapwood/lerp",
        summary: "new blocks between their source and the block above it",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{Growth, SmallModel, plugin};

    use super::Lerp;

    /// The first weight of the new block's MLP, and of the two that it is made from.
    fn weights(config: &str, source: usize) -> [f32; 3] {
        let mut model = SmallModel::new(3);
        let old = model.layers();
        let sources = vec![old[source]];
        let mut lerp: Lerp = plugin(config).expect("a good configuration");
        model.grow(&mut lerp, &Growth { position: 1, count: 1, sources }).expect("a source");
        let weight = |layer| model.block(layer).expect("it is there")[8][0];
        [weight(model.layers()[1]), weight(old[source]), weight(old[(source + 1).min(2)])]
    }

    #[test]
    fn a_new_block_lies_between_its_source_and_the_block_above_that() {
        let [new, below, above] = weights(r#"{ "t": 0.25 }"#, 1);
        assert_eq!(new, (0.75 * f64::from(below) + 0.25 * f64::from(above)) as f32);
        let [new, below, above] = weights("{}", 0);
        assert_eq!(new, (0.5 * f64::from(below) + 0.5 * f64::from(above)) as f32);
        let [new, top, _] = weights(r#"{ "t": 0.25 }"#, 2);
        assert_eq!(new, top, "there is none above the topmost");
    }

    #[test]
    fn a_share_beyond_the_neighbours_is_refused() {
        for t in ["-0.1", "1.5"] {
            let refused = plugin::<Lerp>(&format!(r#"{{ "t": {t} }}"#)).map(|_| ()).expect_err("no share");
            assert_eq!(refused.field(), Some("t"));
        }
    }
}
