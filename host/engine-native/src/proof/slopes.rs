//! The gradient against the slope of the loss on the reference device, tensor by tensor.

use engine::{
    Engine, Entry, Execution, LayerId, Model, ModelShape, Part, StepPlan, TokenBatch, Trainable, Wait,
    Widths, contract,
};

use super::Agreement;
use crate::{Reference, Step};

/// Central difference of second order, with the step at which rounding and curvature are both small.
const DISTANCE: f64 = 1.0 / 512.0;

fn engine(shape: &ModelShape) -> Step<Reference> {
    let mut engine = Step::new(shape, Reference).expect("a good shape");
    for (i, spec) in shape.shared_tensors().into_iter().enumerate() {
        let weights = on_grid(spec.len(), i as u64);
        engine.write(engine::TensorId::shared(spec.class), &weights).expect("it has this size");
    }
    for layer in 0..2 {
        let weights = shape.block_tensors().into_iter().enumerate();
        let weights =
            weights.map(|(i, spec)| (spec.class, on_grid(spec.len(), 100 * (layer + 1) + i as u64)));
        let edit = engine::Edit::Insert {
            at: engine::LayerIndex(layer as usize),
            layer: engine::LayerId(layer),
            weights: weights.collect(),
        };
        engine.edit(edit).expect("the layer is new");
    }
    engine
}

/// The loss of a step in f64, without an update.
fn loss(engine: &mut Step<Reference>, batch: &TokenBatch, execution: &Execution, scope: Trainable) -> f64 {
    let plan = StepPlan { execution: execution.clone(), ..StepPlan::new(scope, 2) };
    engine.step(batch, &plan).expect("a good batch");
    let nothing = engine::AdamW::NOTHING;
    engine.optimize(&nothing).expect("a healthy device");
    engine.outcome(Wait::ForAll).expect("a healthy device").expect("a step was made").loss_nats_per_token
}

/// Of every tensor of a tiny model, by itself: the whole stack, blocks that are gated, masked and repeated, and heads that
/// together are narrower or wider than the stream.
pub fn slopes() -> Vec<Agreement> {
    let gated = Entry { attention_gate: 0.5, mlp_gate: -1.5, ..Entry::whole(LayerId(1)) };
    let masked = Entry { sequences: Some(vec![true, false, true]), ..Entry::whole(LayerId(0)) };
    let entries = Execution::Entries(vec![masked, gated, Entry::whole(LayerId(0))]);
    let shape = contract::tiny_shape();
    let with_heads = |heads| shape.with_widths(Widths { heads, ..shape.widths() });
    [
        slopes_of(&shape, &Execution::WholeStack, "the whole stack"),
        slopes_of(&shape, &entries, "gated, masked and repeated blocks"),
        slopes_of(&with_heads(1), &Execution::WholeStack, "heads narrower than the stream"),
        slopes_of(&with_heads(3), &Execution::WholeStack, "heads wider than the stream"),
    ]
    .concat()
}

fn slopes_of(shape: &ModelShape, execution: &Execution, place: &str) -> Vec<Agreement> {
    let batch = contract::tiny_batch();
    let mut engine = engine(shape);
    let all = Trainable::all(shape, &engine.layers());
    let mut agreements = Vec::new();
    for id in all.iter() {
        loss(&mut engine, &batch, execution, [id].into_iter().collect());
        let gradient = engine.read(id, Part::Gradient).expect("it is there");
        let weights = engine.read(id, Part::Weights).expect("it is there");
        // Along the gradient itself, rounded so that every step is exact in f32, and halved until it is short.
        let largest = gradient.iter().fold(0f32, |most, g| most.max(g.abs()));
        if largest < 1e-12 {
            continue; // the bias of keys has no gradient
        }
        let grid = |x: f64| (x * 64.0).round() / 64.0;
        let direction: Vec<f64> = gradient.iter().map(|g| grid(f64::from(g / largest))).collect();
        let length = direction.iter().map(|d| d * d).sum::<f64>().sqrt().max(1.0);
        let distance = DISTANCE / 2f64.powi(length.log2().ceil() as i32);
        let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * d).sum();
        let mut at = |steps: f64| {
            let moved = weights.iter().zip(&direction).map(|(w, d)| *w + (steps * distance * d) as f32);
            engine.write(id, &moved.collect::<Vec<f32>>()).expect("it has this size");
            loss(&mut engine, &batch, execution, Trainable::default())
        };
        // Fourth order: its error falls below 1e-6 where a plain central difference stays above.
        let slope = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * distance);
        engine.write(id, &weights).expect("it has this size");
        let deviation = (slope / expected - 1.0).abs();
        agreements.push(Agreement { what: id.to_string(), place: place.to_owned(), deviation });
    }
    agreements
}

/// Multiples of 2^-20, so that f32 holds every weight on the way exactly.
fn on_grid(len: usize, seed: u64) -> Vec<f32> {
    let snap = |w: f32| (w * (1 << 20) as f32).round() / (1 << 20) as f32;
    contract::varied_weights(len, seed).into_iter().map(snap).collect()
}
