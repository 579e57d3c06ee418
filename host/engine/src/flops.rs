//! What a step costs, term by term. One table, used by the cost accounting and by the checks of
//! engines that count for themselves.
//!
//! Per token, a linear map `[in, out]` costs `2 in out` forward, as much again for the gradient of
//! its input and as much again for the gradient of its weight. Causal attention over `T` positions
//! costs `2 A T (T + 1)` forward per sequence, `A` being all heads' width (scores and values, each `T (T + 1) / 2` pairs of
//! `2 A`); having no weights, its backward is twice that. AdamW costs 12 per parameter. Norms,
//! GELU, softmax and the embedding's gather are not counted.
//!
//! The gradient of an input is due only where something below it trains, the gradient of a weight
//! only where that weight trains.

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

use crate::{
    Branch, Entry, Flops, LayerId, ModelShape, StepPlan, TensorClass, TensorId, TensorRole, Trainable,
};

/// FLOPs of a step by term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlopTerms {
    /// Linear maps of all blocks that ran, frozen ones too.
    pub block_forward: Flops,
    /// Gradients that cross a block's linear maps.
    pub block_input_gradient: Flops,
    /// Gradients of the blocks' weights.
    pub block_weight_gradient: Flops,
    /// Causal attention of all blocks that ran.
    pub attention_forward: Flops,
    /// Its backward, where gradients cross it.
    pub attention_backward: Flops,
    /// The head.
    pub head_forward: Flops,
    /// The gradient that leaves the head downward.
    pub head_input_gradient: Flops,
    /// The gradient of the head's weight.
    pub head_weight_gradient: Flops,
    /// AdamW on all that trains.
    pub optimizer: Flops,
}

impl FlopTerms {
    /// The `exact` ledger: all terms.
    pub fn total(&self) -> Flops {
        self.weight_matmul() + self.attention_forward + self.attention_backward + self.optimizer
    }

    /// The `weight_matmul` ledger: matrix products with weights alone, the closed forms of the
    /// literature (without attention, without the optimizer).
    pub fn weight_matmul(&self) -> Flops {
        self.block_forward
            + self.block_input_gradient
            + self.block_weight_gradient
            + self.head_forward
            + self.head_input_gradient
            + self.head_weight_gradient
    }
}

impl Add for FlopTerms {
    type Output = FlopTerms;
    fn add(self, other: FlopTerms) -> FlopTerms {
        FlopTerms {
            block_forward: self.block_forward + other.block_forward,
            block_input_gradient: self.block_input_gradient + other.block_input_gradient,
            block_weight_gradient: self.block_weight_gradient + other.block_weight_gradient,
            attention_forward: self.attention_forward + other.attention_forward,
            attention_backward: self.attention_backward + other.attention_backward,
            head_forward: self.head_forward + other.head_forward,
            head_input_gradient: self.head_input_gradient + other.head_input_gradient,
            head_weight_gradient: self.head_weight_gradient + other.head_weight_gradient,
            optimizer: self.optimizer + other.optimizer,
        }
    }
}

impl AddAssign for FlopTerms {
    fn add_assign(&mut self, other: FlopTerms) {
        *self = *self + other;
    }
}

/// Exact FLOPs of one optimizer step of GPT-2 blocks over `sequences` rows of `length` tokens.
///
/// `stack` is what runs forward, from the embeddings up; `trainable` is what learns.
pub fn step_flops(
    shape: &ModelShape,
    stack: &[LayerId],
    trainable: &Trainable,
    sequences: usize,
    length: usize,
) -> FlopTerms {
    plan_flops(shape, stack, &StepPlan::new(trainable.clone(), sequences), sequences, length)
}

/// The same of any plan: a block counts as often as it runs, for the sequences that pass through it, and a
/// branch that is gated off not at all. What the plan computes again is no cost of the method and not counted.
pub fn plan_flops(
    shape: &ModelShape,
    stack: &[LayerId],
    plan: &StepPlan,
    sequences: usize,
    length: usize,
) -> FlopTerms {
    let mut terms = FlopTerms::default();
    let trains = |layer: Option<LayerId>, class: &'static str| {
        plan.trainable.contains(TensorId { layer, class: TensorClass(class) })
    };

    // Whether anything trains below the point that the walk has reached: from there on up, gradients
    // have to come back down.
    let mut below = trains(None, "wte.weight") || trains(None, "wpe.weight");
    for entry in plan.execution.running(stack) {
        below = add_entry(&mut terms, shape, &entry, plan, [entry.active(sequences), length], below);
    }
    below |= trains(None, "ln_f.weight") || trains(None, "ln_f.bias");
    let tokens = (sequences * length) as u128;
    let head = 2 * tokens * (shape.width * shape.vocabulary) as u128;
    terms.head_forward.0 = head;
    terms.head_input_gradient.0 = if below { head } else { 0 };
    terms.head_weight_gradient.0 = if trains(None, "wte.weight") { head } else { 0 };

    let trained = plan.trained(shape, stack);
    let tensors = shape.tensors(stack).into_iter().filter(|(tensor, _)| trained.contains(*tensor));
    let parameters: u128 = tensors.map(|(_, spec)| spec.len() as u128).sum();
    terms.optimizer.0 = 12 * parameters;
    terms
}

/// One run of a block; answers whether gradients have to come back to above it.
fn add_entry(
    terms: &mut FlopTerms,
    shape: &ModelShape,
    entry: &Entry,
    plan: &StepPlan,
    [sequences, length]: [usize; 2],
    mut below: bool,
) -> bool {
    let tokens = (sequences * length) as u128;
    let attention = 2 * (shape.attention_width() * length * (length + 1) * sequences) as u128;
    for spec in shape.block_tensors() {
        if entry.gate(Branch::of(spec.class)) == 0.0 {
            continue;
        }
        let here = plan.trainable.contains(TensorId::block(entry.layer, spec.class));
        if spec.shape.len() == 2 {
            let product = 2 * tokens * spec.len() as u128;
            terms.block_forward.0 += product;
            terms.block_input_gradient.0 += if below { product } else { 0 };
            terms.block_weight_gradient.0 += if here { product } else { 0 };
        }
        below |= here;
        // Attention stands between the biases of `c_attn` and the first branch output.
        if spec.role == TensorRole::Bias && spec.class.0 == "attn.c_attn.bias" {
            terms.attention_forward.0 += attention;
            terms.attention_backward.0 += if below { 2 * attention } else { 0 };
        }
    }
    below
}

/// The paper's cost model (arXiv 2411.18700 §3): every block that runs costs one layer's forward, every
/// block that trains as much again for its backward; head, attention and crossed frozen blocks are free.
pub fn step_flops_li2024(
    shape: &ModelShape,
    stack: &[LayerId],
    trainable: &Trainable,
    sequences: usize,
    length: usize,
) -> Flops {
    let layer_forward: usize =
        shape.block_tensors().iter().filter(|spec| spec.shape.len() == 2).map(|spec| 2 * spec.len()).sum();
    let passes = stack.len() + stack.iter().filter(|&&layer| trainable.touches(layer)).count();
    Flops((sequences * length * layer_forward * passes) as u128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockKind;

    /// GPT-2 124M as the paper trains it.
    fn gpt2() -> ModelShape {
        ModelShape {
            layers: 12,
            width: 768,
            heads: 12,
            context: 1024,
            vocabulary: 50_304,
            init_std: 0.02,
            norm_epsilon: 1e-5,
            mlp_width: None,
            head_width: None,
            block: BlockKind::GPT2,
        }
    }

    fn ids(range: std::ops::Range<u64>) -> Vec<LayerId> {
        range.map(LayerId).collect()
    }

    /// Trainable set of the paper's phase 1: the newest blocks and all that is shared.
    fn newest(shape: &ModelShape, depth: u64, new: u64) -> Trainable {
        let stack = ids(0..depth);
        Trainable::all(shape, &stack)
            .iter()
            .filter(|tensor| tensor.layer.is_none_or(|layer| layer.0 >= depth - new))
            .collect()
    }

    /// Mean cost of a staged step over that of a full step, in the ledger that `of` picks.
    fn staged_ratio(stages: u64, of: impl Fn(&FlopTerms) -> f64) -> f64 {
        let shape = gpt2();
        let full = ids(0..12);
        let baseline = of(&step_flops(&shape, &full, &Trainable::all(&shape, &full), 1, 1024));
        let new = 12 / stages;
        let staged: f64 = (1..=stages)
            .map(|stage| {
                let stack = ids(0..stage * new);
                let all = Trainable::all(&shape, &stack);
                let phase1 = newest(&shape, stage * new, new);
                let cost = |scope: &Trainable| of(&step_flops(&shape, &stack, scope, 1, 1024));
                0.5 * (cost(&phase1) + cost(&all))
            })
            .sum();
        staged / stages as f64 / baseline
    }

    #[test]
    fn the_papers_code_as_it_runs_costs_what_its_closed_form_says() {
        let blocks_only =
            |t: &FlopTerms| (t.block_forward + t.block_input_gradient + t.block_weight_gradient).as_f64();
        for stages in [2, 4, 6, 12] {
            let closed_form = (5.0 * stages as f64 + 7.0) / (12.0 * stages as f64);
            assert!((staged_ratio(stages, blocks_only) - closed_form).abs() < 1e-12, "S = {stages}");
        }
    }

    #[test]
    fn head_and_causal_attention_raise_the_ratio_to_the_published_figures() {
        let with_head = |t: &FlopTerms| t.weight_matmul().as_f64();
        let with_attention =
            |t: &FlopTerms| (t.weight_matmul() + t.attention_forward + t.attention_backward).as_f64();
        let rounded = |ratio: f64| (ratio * 1000.0).round() / 1000.0;
        assert_eq!(rounded(staged_ratio(4, with_head)), 0.699);
        assert_eq!(rounded(staged_ratio(12, with_head)), 0.632);
        assert_eq!(rounded(staged_ratio(4, with_attention)), 0.694);
        assert_eq!(rounded(staged_ratio(12, with_attention)), 0.626);
    }

    #[test]
    fn the_papers_own_model_gives_its_own_ratio() {
        let shape = gpt2();
        let full = ids(0..12);
        let baseline = step_flops_li2024(&shape, &full, &Trainable::all(&shape, &full), 1, 1024).as_f64();
        for stages in [2, 4, 12] {
            let new = 12 / stages;
            let staged: f64 = (1..=stages)
                .map(|stage| {
                    let stack = ids(0..stage * new);
                    let cost = |scope: &Trainable| step_flops_li2024(&shape, &stack, scope, 1, 1024).as_f64();
                    0.5 * (cost(&newest(&shape, stage * new, new)) + cost(&Trainable::all(&shape, &stack)))
                })
                .sum();
            let ratio = staged / stages as f64 / baseline;
            let published = (3.0 * stages as f64 + 5.0) / (8.0 * stages as f64);
            assert!((ratio - published).abs() < 1e-12, "S = {stages}: {ratio} against {published}");
        }
    }

    #[test]
    fn with_frozen_embeddings_nothing_goes_back_below_the_lowest_trainable_block() {
        let shape = gpt2();
        let stack = ids(0..12);
        let top: Trainable = Trainable::all(&shape, &stack)
            .iter()
            .filter(|tensor| tensor.layer.is_some_and(|layer| layer.0 >= 9))
            .collect();
        let terms = step_flops(&shape, &stack, &top, 1, 1024);
        assert_eq!(terms.block_input_gradient.0 * 4, terms.block_forward.0);
        assert_eq!(terms.attention_backward.0 * 4, terms.attention_forward.0 * 2);
        assert_eq!(terms.head_weight_gradient, Flops(0));
    }

    /// What `torch.utils.flop_counter` said of the same model (tests/golden/flops/make_golden.py).
    #[test]
    fn pytorchs_counter_counts_the_same_products_in_five_scopes() {
        let golden = include_str!("../../../tests/golden/flops/golden.json");
        let golden: Counted = serde_json::from_str(golden).expect("the file that the script wrote");
        let size = |key: &str| golden.model[key];
        let shape = ModelShape {
            layers: size("layers"),
            width: size("width"),
            heads: size("heads"),
            context: size("context"),
            vocabulary: size("vocabulary"),
            ..gpt2()
        };
        let stack = ids(0..shape.layers as u64);
        assert_eq!(golden.scopes.len(), 5);
        for scope in &golden.scopes {
            let trains = |tensor: &TensorId| match tensor.layer {
                Some(layer) => scope.blocks.contains(&layer.0),
                None if tensor.class.0.starts_with("ln_f") => scope.final_norm,
                None => scope.embeddings,
            };
            let trainable = Trainable::all(&shape, &stack).iter().filter(trains).collect();
            let terms = step_flops(&shape, &stack, &trainable, golden.sequences, shape.context);
            assert_eq!(terms.weight_matmul().0, scope.products, "{}", scope.name);
            // The counter knows no mask: T * T pairs instead of the causal T (T + 1) / 2.
            let attention = (terms.attention_forward + terms.attention_backward).0;
            let (pairs, causal_twice) = (shape.context as u128, shape.context as u128 + 1);
            assert_eq!(attention * 2 * pairs, scope.attention * causal_twice, "{}", scope.name);
        }
    }

    #[derive(Deserialize)]
    struct Counted {
        model: std::collections::BTreeMap<String, usize>,
        sequences: usize,
        scopes: Vec<CountedScope>,
    }

    #[derive(Deserialize)]
    struct CountedScope {
        name: String,
        blocks: Vec<u64>,
        embeddings: bool,
        final_norm: bool,
        products: u128,
        attention: u128,
    }
}
