//! What new blocks do to the model's function, wherever they go, in f32 and in f64; and that they can learn.

use engine::{
    AdamW, Engine, Execution, LayerId, ModelShape, Part, Snapshot, StepPlan, TensorRole, TokenBatch,
    Trainable, Wait,
};
use engine_native::Device;
use plugin_host::api::testing::Growth;
use plugin_host::api::{Claim, LayerInitializer};

use super::bed::{Bed, DEPTH, Grown, from_library, growth};
use super::controls::Wrong;

/// Batches of two sequences each that a function is looked at with.
const BATCHES: u32 = 8;

/// How far one model is from another.
#[derive(Debug)]
pub(super) struct Jump {
    /// Largest change of a logit, over the largest logit.
    pub(super) logits: f64,
    /// Largest change of a batch's mean loss, in nats.
    pub(super) loss_nats: f64,
}

/// Logits and mean losses of the batches.
fn seen(shape: &ModelShape, state: &Snapshot, device: Device) -> (Vec<f32>, Vec<f64>) {
    let mut engine = engine_native::build(shape, device).expect("a good shape");
    state.restore(&mut *engine).expect("a whole state");
    let (mut logits, mut losses) = (Vec::new(), Vec::new());
    for number in 0..BATCHES {
        let batch = batch(shape, number);
        let inputs: Vec<u32> = batch.inputs(0, 1).collect();
        logits.extend(engine.logits(&inputs, &Execution::WholeStack).expect("tokens of the vocabulary"));
        losses.push(loss(shape, &mut *engine, &batch));
    }
    (logits, losses)
}

fn batch(shape: &ModelShape, number: u32) -> TokenBatch {
    batch_of(shape, |i| i * i * 5 + i * (number + 3) + number)
}

/// Two rows of the context's length.
pub(super) fn batch_of(shape: &ModelShape, id: impl Fn(u32) -> u32) -> TokenBatch {
    let ids = 0..2 * (shape.context as u32 + 1);
    TokenBatch::new(ids.map(|i| id(i) % shape.vocabulary as u32).collect(), 2, shape.context)
}

/// The mean loss in the device's own numbers, which evaluations round to f32: of a step that updates nothing.
pub(super) fn loss(shape: &ModelShape, engine: &mut dyn Engine, batch: &TokenBatch) -> f64 {
    let plan = StepPlan::new(Trainable::all(shape, &engine.layers()), 2);
    engine.step(batch, &plan).expect("a good batch");
    let still = AdamW::NOTHING;
    engine.optimize(&still).expect("a step was taken");
    let outcome = engine.outcome(Wait::ForAll).expect("it was optimized").expect("one is there");
    outcome.loss_nats_per_token
}

pub(super) fn jump(shape: &ModelShape, grown: &Grown, device: Device) -> Jump {
    let (before, after) = (seen(shape, &grown.before, device), seen(shape, &grown.after, device));
    let change = before.0.iter().zip(&after.0).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    let largest = before.0.iter().map(|logit| f64::from(logit.abs())).fold(0.0, f64::max);
    let losses = before.1.iter().zip(&after.1).map(|(a, b)| (a - b).abs());
    Jump { logits: change / largest, loss_nats: losses.fold(0.0, f64::max) }
}

/// Whether a growth left the function as it was: in f32 up to rounding, in f64 to its last digits.
fn preserves_function(shape: &ModelShape, grown: &Grown) -> Result<(), Jump> {
    let bounds = [(Device::Cpu { threads: None }, 1e-5, 1e-6), (Device::Reference, 1e-5, 1e-12)];
    for (device, logits, loss_nats) in bounds {
        let jump = jump(shape, grown, device);
        // Not the other way round: what is no number is no success.
        if !(jump.logits <= logits && jump.loss_nats <= loss_nats) {
            return Err(jump);
        }
    }
    Ok(())
}

/// Two new blocks at every place of a stack of three, with sources (not those beside it) and without.
fn everywhere(sources: &[&[u64]]) -> Vec<Growth> {
    let place = |position| sources.iter().map(move |sources| growth(position, 2, sources));
    (0..=DEPTH).flat_map(place).collect()
}

const WITH_SOURCES: &[u64] = &[2, 0];
const WITHOUT: &[u64] = &[];

/// From the block below the source on as far again, by half.
const EXTRAPOLATED: &str =
    r#"{ "weights": [{ "offset": 0, "weight": 1.5 }, { "offset": -1, "weight": -0.5 }] }"#;

fn check_exact(id: &str, config: &str, sources: &[&[u64]]) {
    let bed = Bed::small();
    for growth in everywhere(sources) {
        let grown = bed.grow(id, config, &growth);
        assert_eq!(grown.receipt.claim, Some(Claim::Exact), "{id} {config}");
        if let Err(jump) = preserves_function(bed.shape(), &grown) {
            panic!("{id} {config} {growth:?}: {jump:?}");
        }
    }
}

#[test]
fn what_claims_to_preserve_the_function_does_so_everywhere() {
    check_exact("sapwood/zero-out", "{}", &[WITH_SOURCES, WITHOUT]);
    check_exact("sapwood/ln-zero", "{}", &[WITH_SOURCES, WITHOUT]);
    check_exact("sapwood/lerp", r#"{ "zero_out": true }"#, &[WITH_SOURCES]);
    check_exact("sapwood/ot-average", r#"{ "heads": 2 }"#, &[WITH_SOURCES]);
}

#[test]
fn what_claims_nothing_changes_the_function() {
    let bed = Bed::small();
    let cases = [
        ("sapwood/original", "{}", WITHOUT),
        ("sapwood/copy", "{}", WITH_SOURCES),
        ("sapwood/lerp", "{}", WITH_SOURCES),
        ("sapwood/copy-noise", "{}", WITH_SOURCES),
        ("sapwood/shrink-perturb", "{}", WITH_SOURCES),
        ("sapwood/ot-average", r#"{ "heads": 2, "zero_out": false }"#, WITH_SOURCES),
        ("sapwood/linear-combination", EXTRAPOLATED, WITH_SOURCES),
    ];
    for (id, config, sources) in cases {
        let grown = bed.grow(id, config, &growth(1, 2, sources));
        assert_eq!(grown.receipt.claim, Some(Claim::None), "{id}");
        assert!(jump(bed.shape(), &grown, Device::Reference).loss_nats > 1e-3, "{id}");
    }
}

/// Zero biases would hide one that is forgotten.
#[test]
fn before_it_grows_the_model_has_biases_and_gains_of_its_own() {
    let grown = Bed::small().grow("sapwood/original", "{}", &growth(0, 1, WITHOUT));
    for (tensor, state) in &grown.before.tensors {
        let drawn =
            if tensor.class.0.starts_with("ln_") && tensor.class.0.ends_with("weight") { 1.0 } else { 0.0 };
        let moved = state.weights.iter().filter(|&&weight| (weight - drawn).abs() > 1e-3).count();
        assert!(3 * moved >= 2 * state.weights.len(), "{tensor}: {moved} of {}", state.weights.len());
    }
}

/// LLaMA-Pro's published rule zeroes two matrices, which is enough without biases.
#[test]
fn a_bias_that_was_forgotten_is_seen_everywhere() {
    let bed = Bed::small();
    for growth in everywhere(&[WITH_SOURCES]) {
        let grown = bed.grow_by(Box::new(Wrong::KeepsOutputBias), &growth).expect("a run that goes through");
        let jump = preserves_function(bed.shape(), &grown).expect_err("the bias is added");
        assert!(jump.loss_nats > 1e-3, "{growth:?}: {jump:?}");
    }
}

/// Tensors that two updates of everything left as they were.
pub(super) fn unmoved(grown: &Grown) -> Vec<String> {
    let pairs = grown.after.tensors.iter().zip(&grown.trained.tensors);
    let same = pairs.filter(|((_, after), (_, trained))| after.weights == trained.weights);
    same.map(|((tensor, _), _)| tensor.to_string()).collect()
}

/// Matrices and gains of new blocks whose first gradient is not zero.
fn reached_at_once(shape: &ModelShape, grown: &Grown, layer: LayerId) -> Vec<&'static str> {
    let mut engine = engine_native::build(shape, Device::Reference).expect("a good shape");
    grown.after.restore(&mut *engine).expect("a whole state");
    let plan = StepPlan::new(Trainable::all(shape, &engine.layers()), 2);
    engine.step(&batch(shape, 0), &plan).expect("a good batch");
    let learns = shape.block_tensors().into_iter().filter(|spec| {
        let tensor = engine::TensorId::block(layer, spec.class);
        let gradient = engine.read(tensor, Part::Gradient).expect("a tensor of the stack");
        let matrix_or_gain = spec.shape.len() == 2 || spec.role == TensorRole::NormGain;
        matrix_or_gain && gradient.iter().any(|&slope| slope != 0.0)
    });
    learns.map(|spec| spec.class.0).collect()
}

fn grown_by(initializer: Box<dyn LayerInitializer>, sources: &[u64]) -> Grown {
    Bed::small().grow_by(initializer, &growth(1, 2, sources)).expect("a run that goes through")
}

fn check_alive(id: &str, config: &str, sources: &[u64]) {
    let grown = grown_by(from_library(id, config), sources);
    assert_eq!(unmoved(&grown), [""; 0], "{id} {config}");
    for layer in grown.new_layers() {
        assert_ne!(reached_at_once(Bed::small().shape(), &grown, layer), [""; 0], "{id} {config}");
    }
}

#[test]
fn every_tensor_of_a_new_block_moves_within_two_updates() {
    check_alive("sapwood/original", "{}", WITHOUT);
    check_alive("sapwood/copy", "{}", WITH_SOURCES);
    check_alive("sapwood/lerp", "{}", WITH_SOURCES);
    check_alive("sapwood/lerp", r#"{ "zero_out": true }"#, WITH_SOURCES);
    check_alive("sapwood/copy-noise", "{}", WITH_SOURCES);
    check_alive("sapwood/shrink-perturb", "{}", WITH_SOURCES);
    check_alive("sapwood/split-residual", r#"{ "copies": 2 }"#, WITH_SOURCES);
    check_alive("sapwood/ot-average", r#"{ "heads": 2 }"#, WITH_SOURCES);
    check_alive("sapwood/ot-average", r#"{ "heads": 2, "zero_out": false }"#, WITH_SOURCES);
    check_alive("sapwood/linear-combination", EXTRAPOLATED, WITH_SOURCES);
    for sources in [WITH_SOURCES, WITHOUT] {
        check_alive("sapwood/zero-out", "{}", sources);
        check_alive("sapwood/ln-zero", "{}", sources);
    }
}

/// Masked structural growth: with closed gates nothing changes, to the last bit and whatever the initializer; half way
/// in, every tensor of the new blocks learns.
#[test]
fn blocks_that_fade_in_change_nothing_at_first_and_learn_from_the_second_step_on() {
    let bed = Bed::small().fading(2);
    for (id, sources) in [("sapwood/original", WITHOUT), ("sapwood/copy", WITH_SOURCES)] {
        for growth in everywhere(&[sources]) {
            let grown = bed.grow(id, "{}", &growth);
            let receipt = &grown.receipt;
            assert_eq!(receipt.claim, Some(Claim::None), "{id}");
            let changes = (receipt.largest_token_loss_change, receipt.largest_logit_change);
            assert_eq!(changes, (0.0, Some(0.0)), "{id} {growth:?}");
            assert!(
                jump(bed.shape(), &grown, Device::Reference).loss_nats > 1e-3,
                "its weights are not zero"
            );
            assert_eq!(unmoved(&grown), [""; 0], "{id} {growth:?}");
        }
    }
}

#[test]
fn a_dead_block_is_seen() {
    let grown = grown_by(Box::new(Wrong::AllZero), WITH_SOURCES);
    preserves_function(Bed::small().shape(), &grown).expect("it adds nothing");
    let unmoved = unmoved(&grown);
    for layer in grown.new_layers() {
        let still = unmoved.iter().filter(|name| name.starts_with(&format!("layer {layer}: "))).count();
        assert_eq!(still, 10, "all but the two last biases are dead: {unmoved:?}");
        assert_eq!(reached_at_once(Bed::small().shape(), &grown, layer), [""; 0]);
    }
}
