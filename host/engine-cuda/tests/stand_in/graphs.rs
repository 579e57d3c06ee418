//! Whether steps that come again become graphs, whether a change of phase or of what runs is noticed, and whether any bit depends
//! on it.

use engine::{
    AdamW, Edit, Engine, Entry, Execution, GraphCounts, LayerId, LayerIndex, Model, ModelShape, Part,
    Precision, StepPlan, TensorId, TokenBatch, Trainable, Wait, contract,
};
use engine_cuda::Cuda;
use engine_cuda::nvidia::{Cache, Machine, Nvidia};
use engine_native::Step;

use crate::turn;

type OnStandIn = Step<Cuda<Nvidia>>;

/// Losses and norms of all steps, the weights afterwards, and what became of calls.
type Course = (Vec<(f64, f64)>, Vec<u32>, GraphCounts);

fn model() -> OnStandIn {
    let machine = Machine::open(0, &Cache::default()).expect("the stand-in is there");
    let device = Cuda::on(machine.queue(Precision::Bf16).expect("it has queues"));
    let mut engine = Step::new(&contract::tiny_shape(), device).expect("the shape is good");
    for (i, spec) in contract::tiny_shape().shared_tensors().into_iter().enumerate() {
        let weights = contract::varied_weights(spec.len(), i as u64);
        engine.write(TensorId::shared(spec.class), &weights).expect("it has this size");
    }
    (0..3).for_each(|layer| grow(&mut engine, layer));
    engine
}

fn grow(engine: &mut OnStandIn, layer: u64) {
    let specs = contract::tiny_shape().block_tensors().into_iter().enumerate();
    let weights = specs
        .map(|(i, spec)| (spec.class, contract::varied_weights(spec.len(), 100 * (layer + 1) + i as u64)));
    let edit =
        Edit::Insert { at: LayerIndex(layer as usize), layer: LayerId(layer), weights: weights.collect() };
    engine.edit(edit).expect("the layer is new");
}

/// Another batch for each step, with other tokens in other numbers.
fn batch(step: usize) -> TokenBatch {
    let shape: ModelShape = contract::tiny_shape();
    let (sequences, length) = (3, shape.context);
    let ids = 0..sequences * (length + 1);
    let id = |i: usize| ((i * i + step * (1 + i % 3)) % (2 + step % 9)) as u32 % shape.vocabulary as u32;
    TokenBatch::new(ids.map(id).collect(), sequences, length)
}

fn step(engine: &mut OnStandIn, of: usize, plan: &StepPlan, losses: &mut Vec<(f64, f64)>) {
    engine.step(&batch(of), plan).expect("a good batch");
    // Another rate for each.
    let update =
        AdamW { rate: 1e-3 / (1 + of) as f64, weight_decay: 0.1, clip_norm: Some(1.0), ..AdamW::NOTHING };
    engine.optimize(&update).expect("nothing fails");
    while let Some(outcome) = engine.outcome(Wait::ForOlder).expect("nothing fails") {
        losses.push((outcome.loss_nats_per_token, outcome.gradient_norm));
    }
}

fn end(mut engine: OnStandIn, mut losses: Vec<(f64, f64)>) -> Course {
    while let Some(outcome) = engine.outcome(Wait::ForAll).expect("nothing fails") {
        losses.push((outcome.loss_nats_per_token, outcome.gradient_norm));
    }
    let all = Trainable::all(&contract::tiny_shape(), &engine.layers());
    let weights = all.iter().flat_map(|id| engine.read(id, Part::Weights).expect("it is there"));
    let bits = weights.map(f32::to_bits).collect();
    (losses, bits, engine.info().graphs.expect("it makes graphs"))
}

/// Three phases: all of three blocks, one more block, and of that one alone.
fn phases() -> Course {
    let (mut engine, mut losses) = (model(), Vec::new());
    let all = |engine: &OnStandIn| Trainable::all(&contract::tiny_shape(), &engine.layers());
    for of in 0..6 {
        let plan = StepPlan::new(all(&engine), 3);
        step(&mut engine, of, &plan, &mut losses);
    }
    grow(&mut engine, 3);
    for of in 6..12 {
        let plan = StepPlan::new(all(&engine), 3);
        step(&mut engine, of, &plan, &mut losses);
    }
    let newest: Trainable = all(&engine).iter().filter(|id| id.layer == Some(LayerId(3))).collect();
    for of in 12..18 {
        step(&mut engine, of, &StepPlan::new(newest.clone(), 3), &mut losses);
    }
    end(engine, losses)
}

/// 200 steps, in each of which other blocks are left out.
fn layer_drop() -> Course {
    let (mut engine, mut losses) = (model(), Vec::new());
    let all = Trainable::all(&contract::tiny_shape(), &engine.layers());
    for of in 0..200 {
        let gate =
            |layer: usize| [0.0, 1.0, 0.5 + (of % 7) as f32 / 8.0][(of / 3usize.pow(layer as u32) + of) % 3];
        let entry = |layer: usize| Entry { mlp_gate: gate(layer), ..Entry::whole(LayerId(layer as u64)) };
        let execution = Execution::Entries((0..3).map(entry).collect());
        step(&mut engine, of, &StepPlan { execution, ..StepPlan::new(all.clone(), 3) }, &mut losses);
    }
    end(engine, losses)
}

#[test]
fn a_phase_becomes_one_graph_and_no_bit_depends_on_it() {
    let Some((stand_ins, _turn)) = turn() else { return };
    let (losses, weights, counts) = phases();
    assert_eq!(losses.len(), 18);
    assert!(losses.iter().all(|(loss, norm)| loss.is_finite() && *norm > 0.0), "{losses:?}");
    // The first step of a phase rounds what the others find rounded, the second is the first to come again, and the third
    // makes a graph, by which it and the three behind it are launched.
    assert_eq!((counts.captured, counts.dropped), (3, 0), "{counts:?}");
    assert_eq!(counts.launched, 3 * 4, "{counts:?}");
    stand_ins.refuse_graphs(true);
    let one_by_one = phases();
    stand_ins.refuse_graphs(false);
    assert_eq!(one_by_one.2.captured, 0);
    assert_eq!((losses, weights), (one_by_one.0, one_by_one.1));
    assert_eq!(stand_ins.handles(), 0);
}

#[test]
fn what_changes_with_every_step_makes_no_more_graphs_than_are_held() {
    let Some((stand_ins, _turn)) = turn() else { return };
    let (losses, weights, counts) = layer_drop();
    assert_eq!(losses.len(), 200);
    assert!(counts.captured - counts.dropped <= 16, "{counts:?}");
    assert!(counts.captured < 40 && counts.launched > 0, "{counts:?}");
    stand_ins.refuse_graphs(true);
    let one_by_one = layer_drop();
    stand_ins.refuse_graphs(false);
    assert_eq!((losses, weights), (one_by_one.0, one_by_one.1));
    assert_eq!(stand_ins.handles(), 0);
}

#[test]
fn more_sequences_than_are_held_are_not_made_into_graphs_again_and_again() {
    let Some((stand_ins, _turn)) = turn() else { return };
    let (mut engine, mut losses) = (model(), Vec::new());
    let all = Trainable::all(&contract::tiny_shape(), &engine.layers());
    let mut gated = |of: usize, gate: usize| {
        let entry = |layer: u64| Entry { mlp_gate: 0.5 + gate as f32 / 64.0, ..Entry::whole(LayerId(layer)) };
        let execution = Execution::Entries((0..3).map(entry).collect());
        let plan = StepPlan { execution, ..StepPlan::new(all.clone(), 3) };
        step(&mut engine, of, &plan, &mut losses);
        engine.info().graphs.expect("it makes graphs")
    };
    let counts = (0..100).map(|of| gated(of, of % 20)).last().expect("steps were taken");
    assert_eq!((counts.captured, counts.dropped), (16, 0), "{counts:?}");
    // What comes alone from then on takes the place of what does not come any more.
    let counts = (100..200).map(|of| gated(of, 20)).last().expect("steps were taken");
    assert_eq!((counts.captured, counts.dropped), (17, 1), "{counts:?}");
    drop(engine);
    assert_eq!(stand_ins.handles(), 0);
}
