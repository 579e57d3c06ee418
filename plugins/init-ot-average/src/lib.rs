//! New blocks halfway between two that are there, once these agree on the order of their parts: every tensor is
//! `(A' + B) / 2`, B being the block right above the source A before growth, and A' the source with its heads and the
//! hidden neurons of its MLP in the order in which they are nearest to B's. The topmost block is its own upper
//! neighbour.
//!
//! Which head or neuron is whose is the permutation `p` with the least `Σ_i ‖a_p(i) - b_i‖²`, found exactly. A neuron
//! is its column of `c_fc`, its bias and its row of `c_proj`; a head is its values' columns of `c_attn` and its rows of
//! `c_proj`. Heads move whole, with their queries, keys and biases, so A' computes what A does: no order means
//! anything to a block. The residual stream is the same above and below, and its basis stays.
//!
//! Fusion of models by optimal transport (Singh and Jaggi, NeurIPS 2020, arXiv 1910.05653), for new blocks as OpT-DeUS
//! makes them (Cao et al., arXiv 2508.08011): halves, and the last map of each branch zero, so that the model's
//! function stays as it is. Ours are the exact matching instead of one that entropy blurs, heads that are matched
//! whole instead of row by row, and that biases are zeroed too, which LLaMA's blocks do not have. AdamW's moments
//! begin at zero: those of two sources cannot be mixed by a rule of revision 1.
//!
//! Matching takes time with the cube of the width: some seconds a block where that is 768.

use std::ops::Range;

use lapjv::{Matrix, lapjv};
use sapwood_plugin::{Claim, Error, InitContext, LayerInitializer, Plugin, Result, TensorMut, TensorView};

/// How blocks are taken apart, and whether the function is kept.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "heads": 2 }]))]
struct Config {
    /// Attention heads of the model, its `model.heads`: weights do not tell where one ends. Too small a number, if it
    /// divides the true one, matches groups of heads; any other that is wrong tears heads apart.
    heads: u32,
    /// Whether the last linear map of each branch is zero instead, bias included, so that the model's function stays
    /// as it is (default, as in OpT-DeUS: yes).
    #[serde(default = "yes")]
    zero_out: bool,
}

fn yes() -> bool {
    true
}

struct OtAverage {
    config: Config,
}

impl Plugin for OtAverage {
    type Config = Config;

    fn new(config: Config) -> Result<OtAverage> {
        if config.heads == 0 {
            return Err(Error::new("heads must be at least 1").in_field("heads"));
        }
        Ok(OtAverage { config })
    }
}

impl LayerInitializer for OtAverage {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let (below, above) = neighbours(context)?;
        let heads = self.config.heads as usize;
        let alignment = match above {
            Some(above) => Alignment::between(below, above, heads)?,
            None => Alignment::as_it_stands(below, heads)?,
        };
        let pairs = below.iter().zip(above.unwrap_or(below));
        for (new, (below, above)) in target.iter_mut().zip(pairs) {
            if self.config.zero_out && new.role.is_branch_output() {
                new.values.fill(0.0);
                continue;
            }
            let aligned = alignment.aligned(below);
            for (new, (&below, &above)) in new.values.iter_mut().zip(aligned.iter().zip(above.values)) {
                *new = (0.5 * (f64::from(below) + f64::from(above))) as f32;
            }
        }
        Ok(if self.config.zero_out { Claim::Exact } else { Claim::None })
    }

    sapwood_plugin::stateless!();
}

/// A block's tensors.
type Tensors<'a> = &'a [TensorView<'a>];

/// The tensors of the source, and of the block that stood right above it; the topmost has none.
fn neighbours<'a>(context: &InitContext<'a>) -> Result<(Tensors<'a>, Option<Tensors<'a>>)> {
    let below = context.source_tensors()?;
    let position = context.existing.iter().position(|block| Some(block.id) == context.source);
    let above = position.and_then(|position| context.existing.get(position + 1));
    Ok((below, above.map(|block| block.tensors)))
}

/// For each head and neuron of the upper block, in its order, the one of the lower block that is its match.
#[derive(Debug, PartialEq)]
struct Alignment {
    heads: Vec<usize>,
    neurons: Vec<usize>,
}

impl Alignment {
    /// The one with the least sum of squared distances.
    ///
    /// # Errors
    /// Blocks that cannot be taken apart into so many heads, or with weights that are no numbers.
    fn between(below: &[TensorView<'_>], above: &[TensorView<'_>], heads: usize) -> Result<Alignment> {
        let (below, above) = (Branches::of(below, heads)?, Branches::of(above, heads)?);
        Ok(Alignment {
            heads: matching(&below.heads()?, &above.heads()?)?,
            neurons: matching(&below.neurons()?, &above.neurons()?)?,
        })
    }

    /// That of a block with itself.
    ///
    /// # Errors
    /// A block that cannot be taken apart into so many heads.
    fn as_it_stands(block: &[TensorView<'_>], heads: usize) -> Result<Alignment> {
        let neurons = Branches::of(block, heads)?.c_fc.columns;
        Ok(Alignment { heads: (0..heads).collect(), neurons: (0..neurons).collect() })
    }

    /// A tensor of the lower block, in the upper block's order.
    fn aligned(&self, tensor: &TensorView<'_>) -> Vec<f32> {
        let stride = tensor.shape.last().map_or(1, |&columns| columns as usize);
        let rows = || (0..tensor.values.len() / stride).collect();
        let columns = || (0..stride).collect();
        let (rows, columns): (Vec<usize>, Vec<usize>) = match tensor.class {
            // Queries, keys and values side by side, each with all heads.
            "attn.c_attn.weight" | "attn.c_attn.bias" => (rows(), moved(&self.heads, 3, stride)),
            "attn.c_proj.weight" => (moved(&self.heads, 1, rows().len()), columns()),
            "mlp.c_fc.weight" | "mlp.c_fc.bias" => (rows(), moved(&self.neurons, 1, stride)),
            "mlp.c_proj.weight" => (moved(&self.neurons, 1, rows().len()), columns()),
            // Norms, and what is added to the residual stream.
            _ => (rows(), columns()),
        };
        let row = |row: &usize| &tensor.values[row * stride..][..stride];
        rows.iter().flat_map(|at| columns.iter().map(move |&column| row(at)[column])).collect()
    }
}

/// Indices into `len` elements, `times` over all parts, when parts come in that order.
fn moved(order: &[usize], times: usize, len: usize) -> Vec<usize> {
    let size = len / times / order.len();
    let starts = (0..times).flat_map(|time| order.iter().map(move |part| (time * order.len() + part) * size));
    starts.flat_map(|start| start..start + size).collect()
}

/// For each row of `above` the row of `below` that it gets, so that the sum of squared distances is least.
///
/// `‖a - b‖² = ‖a‖² + ‖b‖² - 2 a·b`, and lengths add up to the same in every matching: it is the one with the largest
/// sum of products.
fn matching(below: &Matrix<f64>, above: &Matrix<f64>) -> Result<Vec<usize>> {
    let products = above.dot(&below.t());
    let largest = products.iter().fold(0.0, |most: f64, product| most.max(product.abs()));
    if largest == 0.0 {
        return Ok((0..products.nrows()).collect());
    }
    // Of size one, since what `lapjv` takes for equal is not relative to the costs.
    let (rows, _) = lapjv(&(products / -largest))?;
    Ok(rows)
}

/// The linear maps of a block, whose parts have no order.
struct Branches<'a> {
    head_count: usize,
    c_attn: Map<'a>,
    attention_out: Map<'a>,
    c_fc: Map<'a>,
    c_fc_bias: &'a [f32],
    mlp_out: Map<'a>,
}

/// A linear map, `[in, out]`.
struct Map<'a> {
    rows: usize,
    columns: usize,
    values: &'a [f32],
}

impl<'a> Branches<'a> {
    fn of(block: &[TensorView<'a>], head_count: usize) -> Result<Branches<'a>> {
        let branches = Branches {
            head_count,
            c_attn: map(block, "attn.c_attn.weight")?,
            attention_out: map(block, "attn.c_proj.weight")?,
            c_fc: map(block, "mlp.c_fc.weight")?,
            c_fc_bias: tensor(block, "mlp.c_fc.bias")?.values,
            mlp_out: map(block, "mlp.c_proj.weight")?,
        };
        let (width, neurons) = (branches.attention_out.rows, branches.mlp_out.rows);
        let fits = branches.c_attn.columns == 3 * width
            && [branches.c_fc.columns, branches.c_fc_bias.len()] == [neurons; 2];
        if !fits {
            return Err(Error::new("the maps of a block do not fit each other as those of GPT-2's do"));
        }
        if head_count == 0 || !width.is_multiple_of(head_count) {
            let what = format!("{head_count} heads do not divide a width of {width}");
            return Err(Error::new(what).in_field("heads"));
        }
        Ok(branches)
    }

    /// Heads, one a row: what makes their values, and what becomes of these.
    fn heads(&self) -> Result<Matrix<f64>> {
        let (width, count) = (self.attention_out.rows, self.head_count);
        parts(count, |head| {
            let its = head * width / count..(head + 1) * width / count;
            let values = its.start + 2 * width..its.end + 2 * width;
            self.c_attn.columns(values).chain(self.attention_out.rows(its))
        })
    }

    /// Neurons, one a row: what makes them active, and what becomes of that.
    fn neurons(&self) -> Result<Matrix<f64>> {
        parts(self.mlp_out.rows, |neuron| {
            let its = neuron..neuron + 1;
            let bias = self.c_fc_bias[neuron];
            self.c_fc.columns(its.clone()).chain([bias]).chain(self.mlp_out.rows(its))
        })
    }
}

/// The elements of so many parts, one part a row.
fn parts<I: Iterator<Item = f32>>(count: usize, elements: impl Fn(usize) -> I) -> Result<Matrix<f64>> {
    let elements: Vec<f64> = (0..count).flat_map(elements).map(f64::from).collect();
    if !elements.iter().all(|element| element.is_finite()) {
        return Err(Error::new("blocks cannot be matched, since not all of their weights are finite"));
    }
    Ok(Matrix::from_shape_vec((count, elements.len() / count.max(1)), elements)?)
}

impl<'a> Map<'a> {
    fn rows(&self, rows: Range<usize>) -> impl Iterator<Item = f32> + use<'a> {
        self.values[rows.start * self.columns..rows.end * self.columns].iter().copied()
    }

    fn columns(&self, columns: Range<usize>) -> impl Iterator<Item = f32> + use<'a> {
        let (values, stride) = (self.values, self.columns);
        columns.flat_map(move |column| values.iter().skip(column).step_by(stride).copied())
    }
}

fn tensor<'a>(block: &[TensorView<'a>], class: &str) -> Result<TensorView<'a>> {
    let found = block.iter().find(|tensor| tensor.class == class);
    found.copied().ok_or_else(|| Error::new(format!("blocks are not GPT-2's: they have no `{class}`")))
}

fn map<'a>(block: &[TensorView<'a>], class: &str) -> Result<Map<'a>> {
    let TensorView { shape, values, .. } = tensor(block, class)?;
    match *shape {
        [rows, columns] if rows > 0 && columns > 0 && rows * columns == values.len() as u64 => {
            Ok(Map { rows: rows as usize, columns: columns as usize, values })
        }
        _ => Err(Error::new(format!("`{class}` of a block is no matrix, but {shape:?}"))),
    }
}

sapwood_plugin::export! {
    initializer OtAverage {
        id: "sapwood/ot-average",
        summary: "new blocks between two neighbours, heads and neurons matched first (arXiv 2508.08011)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{Growth, SmallModel, plugin};
    use sapwood_plugin::{Key, Random, Role};

    use super::*;

    /// A model of two blocks, grown above both from the block of that index.
    fn grown(config: &str, source: usize) -> Result<(SmallModel, Claim, f64)> {
        let mut model = SmallModel::new(2);
        let growth = Growth { position: 2, count: 1, sources: vec![model.layers()[source]] };
        let grown = model.grow(&mut plugin::<OtAverage>(config)?, &growth)?;
        assert_eq!(grown.not_finite, [""; 0]);
        Ok((model, grown.claims[0], grown.largest_token_loss_change))
    }

    fn block(model: &SmallModel, at: usize) -> &[Vec<f32>] {
        model.block(model.layers()[at]).expect("it is there")
    }

    #[test]
    fn the_function_stays_as_it_is_unless_the_last_maps_are_averaged_too() {
        let (model, claim, change) = grown(r#"{ "heads": 2 }"#, 0).expect("a source");
        assert!(claim == Claim::Exact && change == 0.0, "{change}");
        for last in [4, 5, 10, 11] {
            assert!(block(&model, 2)[last].iter().all(|&weight| weight == 0.0));
        }
        let (_, claim, change) = grown(r#"{ "heads": 2, "zero_out": false }"#, 0).expect("a source");
        assert!(claim == Claim::None && change > 1e-3, "{change}");
    }

    #[test]
    fn what_has_no_order_is_halfway_and_what_has_is_nearer_than_halfway() {
        let (model, ..) = grown(r#"{ "heads": 2, "zero_out": false }"#, 0).expect("a source");
        let [below, above, new] = [0, 1, 2].map(|at| block(&model, at));
        for unmoved in [0, 1, 5, 6, 7, 11] {
            let half = |(&a, &b): (&f32, &f32)| (0.5 * (f64::from(a) + f64::from(b))) as f32;
            let between: Vec<f32> = below[unmoved].iter().zip(&above[unmoved]).map(half).collect();
            assert_eq!(new[unmoved], between, "tensor {unmoved}");
        }
        let distance = |of: &dyn Fn(usize, usize) -> f32| {
            let tensors =
                [8, 9, 10].into_iter().flat_map(|class| (0..above[class].len()).map(move |i| (class, i)));
            tensors.map(|(class, i)| f64::from(of(class, i) - above[class][i]).powi(2)).sum::<f64>()
        };
        let matched = distance(&|class, i| new[class][i]);
        let plain = distance(&|class, i| 0.5 * (below[class][i] + above[class][i]));
        assert!(matched < 0.9 * plain, "{matched} against {plain}");
    }

    #[test]
    fn the_topmost_block_is_its_own_neighbour() {
        let (model, ..) = grown(r#"{ "heads": 4, "zero_out": false }"#, 1).expect("a source");
        assert_eq!(block(&model, 2), block(&model, 1));
    }

    #[test]
    fn numbers_of_heads_that_make_no_sense_are_refused() {
        let refusal = |config: &str| grown(config, 1).map(|_| ()).expect_err("no such number");
        assert_eq!(refusal(r#"{ "heads": 0 }"#).field(), Some("heads"));
        assert_eq!(refusal(r#"{ "heads": 3 }"#).field(), Some("heads"));
        assert!(refusal("{}").message().contains("heads"), "the model's number has to be said");
    }

    /// GPT-2's classes, with their shapes in a model 8 wide.
    const CLASSES: [(&str, &[u64]); 12] = [
        ("ln_1.weight", &[8]),
        ("ln_1.bias", &[8]),
        ("attn.c_attn.weight", &[8, 24]),
        ("attn.c_attn.bias", &[24]),
        ("attn.c_proj.weight", &[8, 8]),
        ("attn.c_proj.bias", &[8]),
        ("ln_2.weight", &[8]),
        ("ln_2.bias", &[8]),
        ("mlp.c_fc.weight", &[8, 32]),
        ("mlp.c_fc.bias", &[32]),
        ("mlp.c_proj.weight", &[32, 8]),
        ("mlp.c_proj.bias", &[8]),
    ];

    fn views(block: &[Vec<f32>]) -> Vec<TensorView<'_>> {
        let tensors = CLASSES.iter().zip(block);
        tensors
            .map(|(&(class, shape), values)| TensorView { class, role: Role::WEIGHT, shape, values })
            .collect()
    }

    /// The blocks of a model.
    fn blocks() -> [Vec<Vec<f32>>; 2] {
        let model = SmallModel::new(2);
        [0, 1].map(|at| model.block(model.layers()[at]).expect("it stands").to_vec())
    }

    #[test]
    fn a_block_in_another_order_is_put_into_the_order_that_it_had() {
        let [block, _] = blocks();
        let order =
            Alignment { heads: vec![2, 0, 3, 1], neurons: (0..32).map(|i| (5 * i + 3) % 32).collect() };
        let other: Vec<Vec<f32>> = views(&block).iter().map(|tensor| order.aligned(tensor)).collect();
        assert_ne!(other, block);
        let back = Alignment::between(&views(&other), &views(&block), 4).expect("finite blocks");
        let aligned: Vec<Vec<f32>> = views(&other).iter().map(|tensor| back.aligned(tensor)).collect();
        assert_eq!(aligned, block);
        assert_eq!(back.heads, [1, 3, 0, 2], "the inverse");
    }

    #[test]
    fn heads_move_in_queries_keys_and_values_and_neurons_on_both_sides() {
        let [block, _] = blocks();
        let order = Alignment { heads: vec![1, 0], neurons: (0..32).rev().collect() };
        let moved: Vec<Vec<f32>> = views(&block).iter().map(|tensor| order.aligned(tensor)).collect();
        for third in [0, 8, 16] {
            assert_eq!(moved[3][third..third + 4], block[3][third + 4..third + 8], "biases of c_attn");
            assert_eq!(moved[2][24 + third], block[2][24 + third + 4], "the second row of c_attn");
        }
        assert_eq!(moved[4][..32], block[4][32..], "rows of c_proj");
        assert_eq!([moved[8][32], moved[9][0]], [block[8][63], block[9][31]], "columns of c_fc");
        assert_eq!(moved[10][..8], block[10][31 * 8..], "rows of c_proj");
        for unmoved in [0, 1, 5, 6, 7, 11] {
            assert_eq!(moved[unmoved], block[unmoved]);
        }
    }

    /// The least sum of squared distances over all orders, by trying each.
    fn least(below: &Matrix<f64>, above: &Matrix<f64>) -> f64 {
        fn of(order: &mut Vec<usize>, at: usize, distance: &dyn Fn(usize, usize) -> f64) -> f64 {
            let tries = at..order.len();
            let sums = tries.map(|other| {
                order.swap(at, other);
                let sum = distance(order[at], at) + of(order, at + 1, distance);
                order.swap(at, other);
                sum
            });
            sums.reduce(f64::min).unwrap_or(0.0)
        }
        of(&mut (0..above.nrows()).collect(), 0, &|from, to| distance(below, from, above, to))
    }

    fn distance(below: &Matrix<f64>, from: usize, above: &Matrix<f64>, to: usize) -> f64 {
        let pairs = below.row(from).into_iter().zip(above.row(to));
        pairs.map(|(a, b)| (a - b) * (a - b)).sum()
    }

    #[test]
    fn no_order_is_nearer_than_the_one_that_is_found() {
        for number in 0..60 {
            let mut random = Random::new(Key::of_seed(5).numbered(number));
            // From many orders of magnitude, and with whole numbers so that some are equally near.
            let size = 10f64.powi(number as i32 % 12 - 6);
            let whole = number % 5 == 0;
            let mut draw = |_| if whole { random.normal().round() } else { size * random.normal() };
            let mut block = || {
                let elements = (0..7 * 3).map(&mut draw).collect();
                Matrix::from_shape_vec((7, 3), elements).expect("as many as it takes")
            };
            let (below, above) = (block(), block());
            let mut found = matching(&below, &above).expect("finite costs");
            let sum: f64 =
                found.iter().enumerate().map(|(to, &from)| distance(&below, from, &above, to)).sum();
            let least = least(&below, &above);
            assert!(sum <= least * (1.0 + 1e-9), "{number}: {sum}, but {least} can be had");
            found.sort_unstable();
            assert_eq!(found, [0, 1, 2, 3, 4, 5, 6], "each once");
        }
    }

    #[test]
    fn where_every_order_is_as_near_blocks_stay_as_they_stand() {
        let zero = vec![vec![0.0; 256]; 12];
        let zero = views(&zero).into_iter().map(|tensor| {
            let len = tensor.shape.iter().product::<u64>() as usize;
            TensorView { values: &tensor.values[..len], ..tensor }
        });
        let zero: Vec<TensorView<'_>> = zero.collect();
        let found = Alignment::between(&zero, &zero, 2).expect("a block");
        assert_eq!(found, Alignment::as_it_stands(&zero, 2).expect("a block"));
    }

    #[test]
    fn what_cannot_be_taken_apart_is_refused() {
        let [block, other] = blocks();
        let refusal = |block: &[Vec<f32>], heads| {
            Alignment::between(&views(block), &views(&other), heads).expect_err("no such block")
        };
        let error = refusal(&block, 3);
        assert_eq!((error.message(), error.field()), ("3 heads do not divide a width of 8", Some("heads")));
        let mut diverged = block.clone();
        diverged[8][5] = f32::NAN;
        assert!(refusal(&diverged, 2).message().contains("not all of their weights are finite"));
        let mut short = block.clone();
        short[10].pop();
        assert!(refusal(&short, 2).message().contains("`mlp.c_proj.weight` of a block is no matrix"));
        let error = Alignment::between(&views(&block)[..8], &views(&other), 2).expect_err("no MLP");
        assert_eq!(error.message(), "blocks are not GPT-2's: they have no `mlp.c_fc.weight`");
    }
}
