//! Which kernels run, in which order, with which sizes: recorded step by step, for scopes that train less and
//! less. `UPDATE_EXPECT=1` writes the records anew.

use engine::{
    AdamW, Edit, Engine, Execution, LayerId, LayerIndex, Model, ModelShape, Precision, StepPlan, TensorClass,
    TensorId, Trainable, contract,
};
use engine_cuda::Cuda;
use engine_native::Step;
use expect_test::expect_file;

use crate::recording::{Record, Recording};

fn update() -> AdamW {
    AdamW { rate: 1e-3, weight_decay: 0.1, ..AdamW::NOTHING }
}

/// Three blocks of a tiny model, and the record of what they have asked for.
fn model() -> (Step<Cuda<Recording>>, Record) {
    model_of(&contract::tiny_shape(), Precision::Fp32)
}

fn model_of(shape: &ModelShape, precision: Precision) -> (Step<Cuda<Recording>>, Record) {
    let record = Record::default();
    let driver = Recording { precision, ..Recording::new(&record) };
    let mut engine = Step::new(shape, Cuda::on(driver)).expect("the shape is good");
    for layer in 0..3 {
        let specs = shape.block_tensors().into_iter();
        let weights = specs.map(|spec| (spec.class, vec![0.0; spec.len()])).collect();
        let edit = Edit::Insert { at: LayerIndex(layer as usize), layer: LayerId(layer), weights };
        engine.edit(edit).expect("the layer is new");
    }
    record.take();
    (engine, record)
}

/// What a step and its update ask for.
fn step(scope: Trainable) -> Vec<String> {
    let (mut engine, record) = model();
    step_of(&mut engine, scope);
    record.take()
}

fn step_of(engine: &mut Step<Cuda<Recording>>, scope: Trainable) {
    engine.step(&contract::tiny_batch(), &StepPlan::new(scope, usize::MAX)).expect("a good batch");
    engine.optimize(&update()).expect("nothing fails");
}

fn everything() -> Trainable {
    Trainable::all(&contract::tiny_shape(), &[0, 1, 2].map(LayerId))
}

/// One after another, and how often where the same is asked for again and again.
fn in_words(lines: &[String]) -> String {
    let runs = lines.chunk_by(|a, b| a == b);
    let words = runs.map(|run| match run.len() {
        1 => format!("{}\n", run[0]),
        times => format!("{}, {times} times\n", run[0]),
    });
    words.collect()
}

fn of(lines: &[String], kernel: &str) -> usize {
    lines.iter().filter(|line| line.split(',').next() == Some(kernel)).count()
}

#[test]
fn all_train() {
    let lines = step(everything());
    assert_eq!(of(&lines, "attention_key_gradient"), 3);
    assert_eq!(of(&lines, "add_to_tokens"), 1);
    expect_file!["order/all.txt"].assert_eq(&in_words(&lines));
}

#[test]
fn the_newest_block_and_the_embeddings_train() {
    let old = |id: &TensorId| id.layer.is_some_and(|layer| layer != LayerId(2));
    let lines = step(everything().iter().filter(|id| !old(id)).collect());
    // Gradients cross the frozen blocks on their way to the embeddings, but leave nothing there.
    assert_eq!(of(&lines, "attention_key_gradient"), 3);
    assert!(lines.contains(&format!("adamw, {0} x 1 blocks, {0} tensors", 12 + 4)), "{lines:?}");
    expect_file!["order/newest.txt"].assert_eq(&in_words(&lines));
}

#[test]
fn the_newest_block_alone_trains() {
    let lines = step(everything().iter().filter(|id| id.layer == Some(LayerId(2))).collect());
    assert_eq!(of(&lines, "attention"), 3);
    // Nothing runs below the lowest block that trains.
    assert_eq!(of(&lines, "attention_key_gradient"), 1);
    assert_eq!(of(&lines, "gelu_backward"), 1);
    assert_eq!(of(&lines, "add_to_tokens") + of(&lines, "add_to_positions"), 0);
    expect_file!["order/newest_alone.txt"].assert_eq(&in_words(&lines));
}

#[test]
fn one_bias_trains() {
    let bias = TensorId::block(LayerId(2), TensorClass("mlp.c_proj.bias"));
    let lines = step([bias].into_iter().collect());
    assert_eq!(of(&lines, "attention_key_gradient") + of(&lines, "gelu_backward"), 0);
    assert_eq!(of(&lines, "adamw"), 1);
}

#[test]
fn nothing_trains_in_an_evaluation() {
    let (mut engine, record) = model();
    engine.evaluate(&contract::tiny_batch(), &Execution::WholeStack).expect("a good batch");
    let lines = record.take();
    assert!(!lines.iter().any(|line| line.contains("gradient") || line.contains("backward")), "{lines:?}");
    expect_file!["order/evaluation.txt"].assert_eq(&in_words(&lines));
}

/// A weight is rounded for products once it has come to the device, and then by the update that changes it.
#[test]
fn in_bf16_a_weight_is_rounded_again_only_where_it_has_changed() {
    let (mut engine, record) = model_of(&contract::tiny_shape(), Precision::Bf16);
    let newest: Trainable = everything().iter().filter(|id| id.layer == Some(LayerId(2))).collect();
    step_of(&mut engine, newest.clone());
    let first = record.take();
    expect_file!["order/newest_alone_bf16.txt"].assert_eq(&in_words(&first));
    step_of(&mut engine, newest);
    let second = record.take();
    // Of each block four matrices and two biases, the token table; and the stream's gradient, which is written both ways from then
    // on.
    assert_eq!(of(&first, "narrow"), 3 * (4 + 2) + 1 + 1);
    assert_eq!(of(&second, "narrow"), 0, "{second:?}");
}

#[test]
fn attention_runs_on_tensor_cores_where_they_take_numbers_and_heads() {
    let kernels = |precision, head_width| {
        let shape = ModelShape { head_width: Some(head_width), ..contract::tiny_shape() };
        let (mut engine, record) = model_of(&shape, precision);
        step_of(&mut engine, everything());
        let mut lines = record.take();
        lines.retain(|line| line.starts_with("attention") && !line.starts_with("attention_dots"));
        lines.dedup();
        let names = lines.iter().filter_map(|line| line.split(',').next());
        names.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let plain = ["attention", "attention_key_gradient", "attention_query_gradient"];
    let of = |suffix| plain.map(|kernel| format!("{kernel}{suffix}")).into();
    for (width, suffix) in [(64, "_tensor_64"), (16, "_tensor_64"), (80, "_tensor_128"), (65, ""), (144, "")]
    {
        assert_eq!(kernels(Precision::Bf16, width), of(suffix), "{width}");
    }
    assert_eq!(kernels(Precision::Tf32, 64), of(""));
}

/// What a step takes beyond what was foretold: ids, sums and tables.
fn unforeseen_bytes(shape: &ModelShape, precision: Precision) -> i64 {
    let (mut engine, _) = model_of(shape, precision);
    let (plan, batch) = (StepPlan::new(Trainable::all(shape, &engine.layers()), 2), contract::tiny_batch());
    let told = engine.memory(shape, &engine.layers(), &plan, batch.sequences(), batch.length());
    let told = told.expect("it can tell");
    engine.step(&batch, &plan).expect("a good batch");
    engine.optimize(&update()).expect("nothing fails");
    let taken = engine.info().device_memory_peak_bytes.expect("a device of its own");
    taken as i64 - (told.total() - told.evaluation) as i64
}

/// Heads that are wider than the stream need the most room for sums over columns.
#[test]
fn what_a_step_takes_is_foretold_for_wide_heads_as_well() {
    let usual = contract::tiny_shape();
    let wide_heads = ModelShape { head_width: Some(4 * usual.width), ..usual.clone() };
    let of = |shape| unforeseen_bytes(shape, Precision::Fp32);
    let (wide, usual) = (of(&wide_heads), of(&usual));
    assert!(wide <= usual, "{wide} bytes were not foretold, of usual heads {usual}");
    let narrow = unforeseen_bytes(&contract::tiny_shape(), Precision::Bf16);
    assert!(narrow <= usual, "{narrow} bytes were not foretold in bf16, in fp32 {usual}");
}
