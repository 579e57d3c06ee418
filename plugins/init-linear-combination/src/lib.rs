//! New blocks as weighted sums of those that are there: every tensor is `Σ_j w_j θ_j`, over blocks `j` that stood before
//! growth, each named by how far above the source it stands. A class of tensors may have a sum of its own.
//!
//! This is LiGO's depth operator (Wang et al., ICLR 2023, arXiv 2303.00980) with weights that are given; LiGO learns
//! them in some steps on the loss, and has separate ones for queries, keys and values, which are one class here. That
//! blocks are named by their distance is ours, since a stack that grows has no fixed number of them. Nothing is
//! normalised: where weights do not sum to one, gains of norms do not stay about one.
//!
//! A single weight of one at distance 0 is a copy, bit for bit; `1 - t` there and `t` at distance 1 is `sapwood/lerp`.
//! AdamW's moments begin at zero in any case: those of several sources cannot be mixed by a rule of revision 1.

use std::collections::BTreeMap;

use sapwood_plugin::{Claim, Error, InitContext, LayerInitializer, Plugin, Result, TensorMut, TensorView};

/// Which blocks, and how much of each.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{
    "weights": [{ "offset": 0, "weight": 1.5 }, { "offset": -1, "weight": -0.5 }]
}]))]
struct Config {
    /// The blocks that are summed: a list of `{ offset = 0, weight = 1.5 }`. `offset` is how many blocks above the source
    /// one stands, below it less than 0, and beyond an end it is the block at that end; `weight` is its factor, -10 to
    /// 10. No offset twice, and not all weights zero.
    weights: Vec<Term>,
    /// The same for classes of tensors that have a sum of their own, by their names, such as `mlp.c_fc.weight`; a name
    /// that no tensor of a block has is refused (default: none has).
    #[serde(default)]
    classes: BTreeMap<String, Vec<Term>>,
}

/// A block's share of a sum.
#[derive(Clone, Copy, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Term {
    /// How many blocks above the source it stands.
    offset: i32,
    /// Its factor.
    weight: f64,
}

struct LinearCombination {
    weights: Vec<Term>,
    classes: BTreeMap<String, Vec<Term>>,
}

impl Plugin for LinearCombination {
    type Config = Config;

    fn new(Config { weights, classes }: Config) -> Result<LinearCombination> {
        let classes = classes.into_iter().map(|(class, terms)| {
            let terms = checked(&format!("classes.{class}"), terms)?;
            Ok((class, terms))
        });
        Ok(LinearCombination {
            weights: checked("weights", weights)?,
            classes: classes.collect::<Result<_>>()?,
        })
    }
}

/// What counts of the terms under that key, from the lowest block up, so that no sum depends on how it is written down.
fn checked(key: &str, mut terms: Vec<Term>) -> Result<Vec<Term>> {
    for (index, term) in terms.iter().enumerate() {
        let Term { offset, weight } = term;
        let refused =
            |field: &str, why: String| Err(Error::new(why).in_field(format!("{key}[{index}].{field}")));
        if !(-10.0..=10.0).contains(weight) {
            return refused("weight", format!("a weight of {weight} does not lie between -10 and 10"));
        }
        if terms[..index].iter().any(|other| other.offset == *offset) {
            return refused("offset", format!("the offset {offset} stands twice in one sum"));
        }
    }
    // Nothing of a block is nothing: zero times an element may still be a zero of the other sign.
    terms.retain(|term| term.weight != 0.0);
    if terms.is_empty() {
        return Err(Error::new("a sum needs a weight that is not zero").in_field(key));
    }
    terms.sort_by_key(|term| term.offset);
    Ok(terms)
}

impl LayerInitializer for LinearCombination {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        context.source_tensors()?;
        if let Some(class) = self.classes.keys().find(|class| target.iter().all(|new| new.class != *class)) {
            let there: Vec<&str> = target.iter().map(|new| new.class).collect();
            let what = format!("a block has no `{class}`, but {}", there.join(", "));
            return Err(Error::new(what).in_field(format!("classes.{class}")));
        }
        if let Some(new) =
            target.iter().zip(context.source_tensors()?).find(|(new, old)| new.shape != old.shape)
        {
            return Err(Error::new(format!(
                "`{}` has another shape than the blocks that are summed up",
                new.0.class
            )));
        }
        for (index, new) in target.iter_mut().enumerate() {
            let terms = self.classes.get(new.class).unwrap_or(&self.weights);
            // Minus zero plus a number is that number with its own bits; plus zero is not, where it is minus zero.
            let mut sums = vec![-0.0; new.values.len()];
            for term in terms {
                let block = tensors_of(term.offset, context);
                for (sum, &value) in sums.iter_mut().zip(block[index].values) {
                    *sum += term.weight * f64::from(value);
                }
            }
            for (new, sum) in new.values.iter_mut().zip(sums) {
                *new = sum as f32;
            }
        }
        Ok(Claim::None)
    }

    sapwood_plugin::stateless!();
}

/// The tensors of the block that many above the source; beyond an end, of the one at that end.
fn tensors_of<'a>(offset: i32, context: &InitContext<'a>) -> &'a [TensorView<'a>] {
    let blocks = context.existing;
    let source = blocks.iter().position(|block| Some(block.id) == context.source).unwrap_or_default();
    let at = source.saturating_add_signed(offset as isize).min(blocks.len() - 1);
    blocks[at].tensors
}

sapwood_plugin::export! {
    initializer LinearCombination {
        id: "sapwood/linear-combination",
        summary: "new blocks as weighted sums of those that are there (LiGO, arXiv 2303.00980)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{Growth, SmallModel, plugin};
    use sapwood_plugin::{Error, Result};

    use super::LinearCombination;

    /// Its tensors.
    type Block = Vec<Vec<f32>>;

    /// A model of three blocks, grown at the bottom from the one of that index; its blocks before, and the new one.
    fn grown(config: &str, source: usize) -> Result<([Block; 3], Block)> {
        let mut model = SmallModel::new(3);
        let old = [0, 1, 2].map(|at| model.block(model.layers()[at]).expect("it stands").to_vec());
        let growth = Growth { position: 0, count: 1, sources: vec![model.layers()[source]] };
        model.grow(&mut plugin::<LinearCombination>(config)?, &growth)?;
        let new = model.block(model.layers()[0]).expect("it was inserted").to_vec();
        Ok((old, new))
    }

    /// The new block is that sum of the three.
    fn check(config: &str, source: usize, weights: [f64; 3]) {
        let (old, new) = grown(config, source).expect("a good configuration");
        for (class, new) in new.iter().enumerate() {
            let sum = |i: usize| -> f64 { (0..3).map(|at| weights[at] * f64::from(old[at][class][i])).sum() };
            let wanted: Vec<f32> = (0..new.len()).map(|i| sum(i) as f32).collect();
            assert_eq!(*new, wanted, "{config} from {source}: tensor {class}");
        }
    }

    #[test]
    fn blocks_are_named_by_their_distance_from_the_source() {
        let extrapolated =
            r#"{ "weights": [{ "offset": 0, "weight": 1.5 }, { "offset": -1, "weight": -0.5 }] }"#;
        check(extrapolated, 1, [-0.5, 1.5, 0.0]);
        check(extrapolated, 2, [0.0, -0.5, 1.5]);
        let around = r#"{ "weights": [{ "offset": 1, "weight": 0.25 }, { "offset": -1, "weight": 0.5 }] }"#;
        check(around, 1, [0.5, 0.0, 0.25]);
    }

    #[test]
    fn beyond_an_end_stands_the_block_at_that_end() {
        let ends =
            r#"{ "weights": [{ "offset": -99, "weight": 2 }, { "offset": 2147483647, "weight": -3 }] }"#;
        check(ends, 1, [2.0, 0.0, -3.0]);
        let above = r#"{ "weights": [{ "offset": 0, "weight": 0.75 }, { "offset": 1, "weight": 0.25 }] }"#;
        check(above, 2, [0.0, 0.0, 1.0]);
    }

    #[test]
    fn a_class_may_have_a_sum_of_its_own() {
        let (old, new) = grown(
            r#"{ "weights": [{ "offset": 0, "weight": 1 }],
                 "classes": { "mlp.c_fc.weight": [{ "offset": 1, "weight": 1 }] } }"#,
            1,
        )
        .expect("a class of the block");
        for (class, new) in new.iter().enumerate() {
            assert_eq!(*new, old[if class == 8 { 2 } else { 1 }][class], "tensor {class}");
        }
    }

    #[test]
    fn one_block_alone_keeps_its_bits_whatever_else_has_no_weight() {
        let mut model = SmallModel::new(3);
        // Times minus zero: every element is a zero, half of them with a sign.
        model.scale_blocks(-0.0);
        let growth = Growth { position: 3, count: 1, sources: vec![model.layers()[1]] };
        let config = r#"{ "weights": [{ "offset": -1, "weight": 0 }, { "offset": 0, "weight": 1 }] }"#;
        model.grow(&mut plugin::<LinearCombination>(config).expect("good"), &growth).expect("a source");
        let bits = |at: usize| -> Vec<u32> {
            let block = model.block(model.layers()[at]).expect("it is there");
            block.iter().flatten().map(|value| value.to_bits()).collect()
        };
        assert_eq!(bits(3), bits(1));
        assert!(bits(1).contains(&0) && bits(1).contains(&(1 << 31)), "zeros of both signs");
    }

    #[test]
    fn sums_that_make_no_sense_are_refused() {
        let refusal = |config: &str| -> Error { grown(config, 1).map(|_| ()).expect_err("no such sum") };
        let one = r#"{ "offset": 0, "weight": 1 }"#;
        for (config, field) in [
            (r#"{ "weights": [] }"#.to_owned(), "weights"),
            (r#"{ "weights": [{ "offset": 0, "weight": 0 }] }"#.to_owned(), "weights"),
            (format!(r#"{{ "weights": [{one}, {{ "offset": 1, "weight": -11 }}] }}"#), "weights[1].weight"),
            (format!(r#"{{ "weights": [{one}, {one}] }}"#), "weights[1].offset"),
            (format!(r#"{{ "weights": [{one}], "classes": {{ "ln_1.bias": [] }} }}"#), "classes.ln_1.bias"),
            (format!(r#"{{ "weights": [{one}], "classes": {{ "c_fc": [{one}] }} }}"#), "classes.c_fc"),
        ] {
            assert_eq!(refusal(&config).field(), Some(field), "{config}");
        }
        assert!(refusal("{}").message().contains("weights"));
        let mut model = SmallModel::new(1);
        let mut copy: LinearCombination = plugin(&format!(r#"{{ "weights": [{one}] }}"#)).expect("good");
        let nothing = Growth { position: 1, count: 1, sources: vec![] };
        assert!(model.grow(&mut copy, &nothing).is_err(), "distances from what?");
    }
}
