//! A GPT-2 checkpoint of transformers with large random weights: it separates what small weights hide, such
//! as the two GELUs. 10 MB, so it is not in the repository; the test looks for it and says if it skips.

use std::{env, fs, path::PathBuf};

use engine::{BlockKind, Engine, Execution, ModelShape, Part, TokenBatch, Trainable};
use serde_json::Value;

use super::{
    arrays,
    reference::{adamw, append, by_name, fill_shared, l2, mean, train},
};
use crate::build;

const LOSS: f64 = 5e-6;
const LOGIT: f64 = 3e-5;
const NORM_RELATIVE: f64 = 1e-5;

#[test]
fn losses_logits_and_gradients_of_a_transformers_checkpoint() {
    let Some(folder) = fixture() else { return };
    let expected: Value =
        serde_json::from_slice(&fs::read(folder.join("expected.json")).expect("it is beside the weights"))
            .expect("it is JSON");
    let (shape, mut engine) = load(&folder);
    let ids = numbers(&expected["ids"]).map(|id| id as u32).collect::<Vec<_>>();
    let batch = TokenBatch::new(ids.clone(), 1, ids.len() - 1);

    let losses = engine.evaluate(&batch, &Execution::WholeStack).expect("a good batch");
    let loss = (mean(&losses) - expected["loss"].as_f64().expect("a number")).abs();
    assert!(loss < LOSS, "loss is off by {loss:e}");
    let position = largest(losses.iter().zip(numbers(&expected["nll_per_position"])));
    assert!(position < LOGIT, "the loss of a position is off by {position:e}");

    let logits = engine.logits(&ids, &Execution::WholeStack).expect("good tokens");
    let row = &logits[17 * shape.vocabulary..18 * shape.vocabulary];
    let recorded = arrays::npy_f32(&folder.join("logits_pos_17.npy"));
    assert_eq!(row.len(), recorded.len());
    let logit = largest(row.iter().zip(recorded.into_iter().map(f64::from)));
    assert!(logit < LOGIT, "a logit is off by {logit:e}");

    let all = Trainable::all(&shape, &engine.layers());
    let outcome = train(&mut *engine, &batch, &all, &adamw(1e-3, None));
    let norm = relative(outcome.gradient_norm, &expected["grad_norm"]);
    assert!(norm < NORM_RELATIVE, "the gradient norm is off by {norm:e}");
    let trained = (outcome.loss_nats_per_token - expected["loss"].as_f64().expect("a number")).abs();
    assert!(trained < LOSS, "the loss in training is off by {trained:e}");
    let gradients = by_name(&*engine, &shape, Part::Gradient);
    let mut tensor = 0f64;
    for (name, l2_expected) in expected["grad_l2"].as_object().expect("tensors by name") {
        let off = relative(l2(&gradients[name]), l2_expected);
        assert!(off < NORM_RELATIVE, "the gradient norm of {name} is off by {off:e}");
        tensor = tensor.max(off);
    }
    report(&format!(
        "hf fixture: loss {loss:.1e}, a position {position:.1e}, a logit {logit:.1e}, gradient norm {norm:.1e} \
         relative, of a tensor {tensor:.1e}"
    ));
}

/// The fixture's folder, or `None` after saying why the test is skipped.
fn fixture() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures");
    let folder = env::var_os("SAPWOOD_FIXTURES").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let folder = folder.join("hf_fixture");
    if folder.join("model.safetensors").is_file() {
        return Some(folder);
    }
    let why =
        format!("skipped: {} is not there; set SAPWOOD_FIXTURES to the fixtures' folder", folder.display());
    let required = env::var("SAPWOOD_REQUIRE").is_ok_and(|all| all.split(',').any(|one| one == "fixtures"));
    assert!(!required, "{why}");
    report(&why);
    None
}

fn load(folder: &std::path::Path) -> (ModelShape, Box<dyn Engine>) {
    let shape = ModelShape {
        layers: 3,
        width: 48,
        heads: 4,
        context: 32,
        vocabulary: 50_257,
        init_std: 0.02,
        norm_epsilon: 1e-5,
        mlp_width: None,
        head_width: None,
        block: BlockKind::GPT2,
    };
    let weights = arrays::safetensors(&folder.join("model.safetensors"));
    let mut engine = build(&shape).expect("the CPU is there");
    fill_shared(&mut *engine, &shape, &weights);
    for block in 0..shape.layers {
        append(&mut *engine, &shape, &weights, block, block);
    }
    (shape, engine)
}

fn numbers(array: &Value) -> impl Iterator<Item = f64> + '_ {
    array.as_array().expect("numbers").iter().map(|n| n.as_f64().expect("a number"))
}

fn largest<'a>(pairs: impl Iterator<Item = (&'a f32, f64)>) -> f64 {
    pairs.map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

fn relative(value: f64, expected: &Value) -> f64 {
    (value / expected.as_f64().expect("a number") - 1.0).abs()
}

#[expect(clippy::print_stdout, reason = "shown with --nocapture: deviations, or why the test was skipped")]
fn report(line: &str) {
    println!("{line}");
}
