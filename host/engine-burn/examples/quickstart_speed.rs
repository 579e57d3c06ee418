//! Tokens per second of a full training step on the CPU, at the shape of the quickstart: one run alone, then
//! two runs side by side as a comparison makes them. Seconds per case: the first argument, 4 by default.
//!
//! Not a test: it prints, and nothing is asserted.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use engine::{
    AdamW, BlockKind, Edit, Engine, LayerId, LayerIndex, ModelShape, StepPlan, TensorId, TensorRole,
    TokenBatch, Trainable, Wait,
};
use engine_burn::{Device, build};

const SEQUENCES: usize = 8;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(4.0);
    let shape = quickstart();
    let layers: Vec<LayerId> = (0..shape.layers as u64).map(LayerId).collect();
    let all = Trainable::all(&shape, &layers);
    let upper = Trainable::all(&shape, &layers[shape.layers / 2..]);
    let upper_alone = upper.iter().filter(|id| id.layer.is_some()).collect();
    for (what, scope) in [
        ("everything trains", &all),
        ("upper half, embeddings and final norm train", &upper),
        ("upper half alone trains", &upper_alone),
    ] {
        let alone = measure(&shape, &[scope], seconds);
        let [one, two] = measure(&shape, &[scope, scope], seconds)[..] else { unreachable!("two runs") };
        println!("{what}: {:.0} tokens/s alone; side by side {one:.0} + {two:.0}", alone[0]);
    }
    // Unequal neighbours show whether one waits for the other.
    let [slow, fast] = measure(&shape, &[&all, &upper_alone], seconds)[..] else { unreachable!("two runs") };
    println!("everything beside upper half alone: {slow:.0} + {fast:.0} tokens/s");
}

fn quickstart() -> ModelShape {
    ModelShape {
        layers: 6,
        width: 64,
        heads: 4,
        context: 64,
        vocabulary: 256,
        init_std: 0.02,
        norm_epsilon: 1e-5,
        block: BlockKind::GPT2,
    }
}

/// Tokens per second of a run of each scope, one thread each, over the same stretch of time.
fn measure(shape: &ModelShape, scopes: &[&Trainable], seconds: f64) -> Vec<f64> {
    let ready = &Barrier::new(scopes.len());
    thread::scope(|threads| {
        let start = |scope| threads.spawn(move || tokens_per_second(shape, scope, ready, seconds));
        let running: Vec<_> = scopes.iter().copied().map(start).collect();
        running.into_iter().map(|run| run.join().expect("a run does not panic")).collect()
    })
}

fn tokens_per_second(shape: &ModelShape, scope: &Trainable, ready: &Barrier, seconds: f64) -> f64 {
    let mut engine = filled(shape);
    let batch = batch(shape);
    for _ in 0..5 {
        step(&mut *engine, &batch, scope);
    }
    ready.wait();
    let (start, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut tokens = 0;
    while start.elapsed() < limit {
        step(&mut *engine, &batch, scope);
        tokens += batch.tokens().0;
    }
    tokens as f64 / start.elapsed().as_secs_f64()
}

fn step(engine: &mut dyn Engine, batch: &TokenBatch, scope: &Trainable) {
    let plan = StepPlan::new(scope.clone(), SEQUENCES);
    let update =
        AdamW { rate: 1e-4, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, clip_norm: Some(1.0) };
    engine.step(batch, &plan).expect("a good batch and a good scope");
    engine.optimize(&update).expect("a healthy device");
    engine.outcome(Wait::ForAll).expect("a healthy device").expect("a step was made");
}

fn filled(shape: &ModelShape) -> Box<dyn Engine> {
    let mut engine = build(shape, Device::Cpu).expect("the CPU is there");
    let weights = |len: usize, role| match role {
        TensorRole::NormGain => vec![1.0; len],
        TensorRole::NormShift | TensorRole::Bias | TensorRole::BranchOutputBias => vec![0.0; len],
        _ => (0..len).map(|i| 0.02 * (i as f32 * 0.7).sin()).collect(),
    };
    for spec in shape.shared_tensors() {
        engine
            .write(TensorId::shared(spec.class), &weights(spec.len(), spec.role))
            .expect("it has this size");
    }
    for at in 0..shape.layers {
        let block = shape.block_tensors().into_iter();
        let weights = block.map(|spec| (spec.class, weights(spec.len(), spec.role))).collect();
        let edit = Edit::Insert { at: LayerIndex(at), layer: LayerId(at as u64), weights };
        engine.edit(edit).expect("the layer is new");
    }
    engine
}

/// Ids with some structure, always the same.
fn batch(shape: &ModelShape) -> TokenBatch {
    let ids = (0..SEQUENCES * (shape.context + 1)).map(|i| (i * i * 31 % shape.vocabulary) as u32);
    TokenBatch::new(ids.collect(), SEQUENCES, shape.context)
}
