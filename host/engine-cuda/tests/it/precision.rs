//! TF32 and bfloat16: kernels beside f64 that is rounded where the device rounds, so that what is left is f32's own rounding; and
//! what rounding does to a curve of losses.

use engine::{
    AdamW, Edit, Engine, LayerId, LayerIndex, Model, ModelShape, Precision, StepPlan, TensorId, TokenBatch,
    Trainable, Wait, contract,
};
use engine_cuda::Cuda;
use engine_native::proof::{self, Rounded};
use engine_native::{Kernels, Reference, Step};

use super::trajectory;
use crate::emulated::{Emulated, Order};

/// As for kernels in f32.
const TOLERANCE: f64 = 1e-5;
/// From a number in bfloat16 to the next one, in parts of the smaller: where f32's rounding makes one fall to the other side.
const STEP_OF_BF16: f64 = 1.0 / 128.0;

#[test]
fn every_kernel_in_bf16_does_what_its_rounded_twin_does() {
    let orders = [Order::Rising, Order::Falling].map(|order| Emulated::of(order, Precision::Bf16));
    let [Some(rising), Some(falling)] = orders else { return };
    let agreements = proof::kernels_in_bf16(&[Cuda::on(rising), Cuda::on(falling)]);
    for proof::Agreement { what, place, deviation } in &agreements {
        assert!(*deviation <= STEP_OF_BF16, "{what}, {place}: off by {deviation:e}");
    }
    // A number that falls to the other side is the exception; but attention has a weight for each pair of rows, and rounds them all.
    let others: Vec<_> = agreements.iter().filter(|agreement| agreement.what != "attention").collect();
    let apart = others.iter().filter(|agreement| agreement.deviation > TOLERANCE).count();
    assert!(6 * apart < others.len(), "{apart} of {}", others.len());
}

/// A number is rounded twice where the twin rounds it once, before its bias and after.
#[test]
fn what_a_library_cannot_do_with_a_product_is_done_after_it() {
    let plain = |precision| Emulated::of(Order::Rising, precision).map(Emulated::without_fusion);
    let (Some(bf16), Some(fp32)) = (plain(Precision::Bf16), plain(Precision::Fp32)) else { return };
    for proof::Agreement { what, place, deviation } in proof::kernels_in_bf16(&[Cuda::on(bf16)]) {
        assert!(deviation <= STEP_OF_BF16, "{what}, {place}: off by {deviation:e}");
    }
    for proof::Agreement { what, place, deviation } in proof::kernels(&[Cuda::on(fp32)]) {
        assert!(deviation <= TOLERANCE, "{what}, {place}: off by {deviation:e}");
    }
}

#[test]
fn attention_on_tensor_cores_does_what_its_plain_kernels_do() {
    let orders = [Order::Rising, Order::Falling].map(|order| Emulated::of(order, Precision::Bf16));
    let [Some(oracle), Some(driver)] = orders else { return };
    let oracle = Cuda::with_plain_attention(oracle);
    let agreements = proof::attention_beside(&oracle, &[Cuda::on(driver)]);
    for proof::Agreement { what, place, deviation } in &agreements {
        assert!(*deviation <= STEP_OF_BF16, "{what}, {place}: off by {deviation:e}");
    }
    assert!(agreements.iter().any(|agreement| agreement.deviation > TOLERANCE), "both are the same kernels");
}

#[test]
fn attention_does_not_depend_on_the_order_of_threads() {
    for precision in [Precision::Fp32, Precision::Bf16] {
        let orders = [Order::Rising, Order::Falling].map(|order| Emulated::of(order, precision));
        let [Some(rising), Some(falling)] = orders else { return };
        for proof::Agreement { place, deviation, .. } in
            proof::attention_beside(&Cuda::on(rising), &[Cuda::on(falling)])
        {
            assert_eq!(deviation, 0.0, "{place}");
        }
    }
}

#[test]
fn products_in_tf32_are_off_by_no_more_than_its_rounding_and_those_in_f32_by_less() {
    let off = |precision| {
        let device = Cuda::on(Emulated::of(Order::Rising, precision)?);
        proof::positive_products(std::slice::from_ref(&device)).first().map(|agreement| agreement.deviation)
    };
    let (Some(tf32), Some(fp32)) = (off(Precision::Tf32), off(Precision::Fp32)) else { return };
    assert!(fp32 < 1e-6 && tf32 > 1e-5 && tf32 <= 2.0 / 1024.0, "{fp32:e}, {tf32:e}");
}

/// Through growth, freezing and thawing. A number that falls to the other side moves a loss by far less than a step of its own.
#[test]
fn steps_in_bf16_follow_those_of_the_rounded_twin() {
    let Some(driver) = Emulated::of(Order::Rising, Precision::Bf16) else { return };
    let shape = contract::tiny_shape();
    let (ours, after) = trajectory::run(&mut Step::new(&shape, Cuda::on(driver)).expect("the shape is good"));
    let (theirs, _) = trajectory::run(&mut Step::new(&shape, Rounded).expect("the shape is good"));
    for (step, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let loss = (ours.loss_nats_per_token / theirs.loss_nats_per_token - 1.0).abs();
        let norm = (ours.gradient_norm / theirs.gradient_norm - 1.0).abs();
        let most = STEP_OF_BF16 / 16.0;
        assert!(loss <= most && norm <= 4.0 * most, "step {step}: loss {loss:e}, norm {norm:e}");
    }
    let other_order = Emulated::of(Order::Falling, Precision::Bf16).expect("it was there");
    let again = trajectory::run(&mut Step::new(&shape, Cuda::on(other_order)).expect("the shape is good"));
    assert_eq!((ours, after), again, "no bit depends on the order of threads");
}

/// The noise is what another draw of the first weights does.
#[test]
fn a_curve_of_losses_in_bf16_lies_within_the_noise() {
    let seeds = [1, 2, 3];
    let exact = seeds.map(|seed| last_losses(Reference, seed));
    let rounded = seeds.map(|seed| last_losses(Rounded, seed));
    let spread =
        exact.iter().copied().fold(f64::MIN, f64::max) - exact.iter().copied().fold(f64::MAX, f64::min);
    for (exact, rounded) in exact.iter().zip(&rounded) {
        assert!((exact - rounded).abs() < spread / 4.0, "{exact} and {rounded}; among seeds {spread}");
        assert!(exact != rounded, "nothing was rounded");
    }
}

/// The mean loss of the last 50 of 200 steps.
fn last_losses<K: Kernels>(kernels: K, seed: u64) -> f64 {
    let shape = ModelShape { layers: 2, ..contract::tiny_shape() };
    let mut engine = Step::new(&shape, kernels).expect("the shape is good");
    let varied = |len: usize, of: u64| -> Vec<f32> {
        contract::varied_weights(len, 1000 * seed + of).iter().map(|x| 0.2 * x).collect()
    };
    let filled = |spec: &engine::TensorSpec, of: u64| match spec.role {
        engine::TensorRole::NormGain => vec![1.0; spec.len()],
        _ => varied(spec.len(), of),
    };
    for (i, spec) in shape.shared_tensors().into_iter().enumerate() {
        engine.write(TensorId::shared(spec.class), &filled(&spec, i as u64)).expect("it has this size");
    }
    for layer in 0..2 {
        let specs = shape.block_tensors().into_iter().enumerate();
        let weights =
            specs.map(|(i, spec)| (spec.class, filled(&spec, 100 * (layer + 1) + i as u64))).collect();
        let edit = Edit::Insert { at: LayerIndex(layer as usize), layer: LayerId(layer), weights };
        engine.edit(edit).expect("the layer is new");
    }
    let all = Trainable::all(&shape, &engine.layers());
    let update = AdamW { rate: 3e-3, weight_decay: 0.1, clip_norm: Some(1.0), ..AdamW::NOTHING };
    let losses = (0..200).map(|step| {
        engine.step(&batch(&shape, step), &StepPlan::new(all.clone(), 4)).expect("a good batch");
        engine.optimize(&update).expect("a healthy device");
        let outcome = engine.outcome(Wait::ForAll).expect("a healthy device").expect("a step was made");
        outcome.loss_nats_per_token
    });
    losses.skip(150).sum::<f64>() / 50.0
}

/// Squares, of which the next one can be told in part.
fn batch(shape: &ModelShape, step: u64) -> TokenBatch {
    let (sequences, length) = (4, shape.context);
    let first = step * (sequences * (length + 1)) as u64;
    let tokens = (first..first + (sequences * (length + 1)) as u64)
        .map(|i| (i * i % 11 % shape.vocabulary as u64) as u32);
    TokenBatch::new(tokens.collect(), sequences, length)
}
