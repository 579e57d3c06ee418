//! A few steps beside the CPU's, through growth, freezing and thawing; and the same bits in whichever order threads
//! run.

use engine::{
    AdamW, Edit, Engine, LayerId, LayerIndex, Snapshot, StepOutcome, StepPlan, TensorId, Trainable, Wait,
    contract,
};
use engine_cuda::Cuda;
use engine_native::{Device, Step};

use crate::emulated::{Emulated, Order};

const TOLERANCE: f64 = 2e-5;
fn update() -> AdamW {
    AdamW { rate: 3e-3, weight_decay: 0.1, clip_norm: Some(1.0), ..AdamW::NOTHING }
}

fn grow(engine: &mut dyn Engine, layer: u64) {
    let specs = contract::tiny_shape().block_tensors().into_iter().enumerate();
    let weights = specs
        .map(|(i, spec)| (spec.class, contract::varied_weights(spec.len(), 100 * layer + i as u64)))
        .collect();
    let at = LayerIndex(engine.layers().len());
    engine.edit(Edit::Insert { at, layer: LayerId(layer), weights }).expect("the layer is new");
}

fn train(engine: &mut dyn Engine, trains: impl Fn(&TensorId) -> bool) -> Vec<StepOutcome> {
    let all = Trainable::all(&contract::tiny_shape(), &engine.layers());
    let scope: Trainable = all.iter().filter(trains).collect();
    let steps = 0..4;
    let step = |_| {
        engine.step(&contract::tiny_batch(), &StepPlan::new(scope.clone(), 2)).expect("a good batch");
        engine.optimize(&update()).expect("a healthy device");
        engine.outcome(Wait::ForAll).expect("a healthy device").expect("a step was made")
    };
    steps.map(step).collect()
}

/// All of one block train, then a second joins and trains alone, then all train again.
pub(super) fn run(engine: &mut dyn Engine) -> (Vec<StepOutcome>, Snapshot) {
    let shape = contract::tiny_shape();
    for (i, spec) in shape.shared_tensors().into_iter().enumerate() {
        let weights = contract::varied_weights(spec.len(), i as u64);
        engine.write(TensorId::shared(spec.class), &weights).expect("it has this size");
    }
    grow(engine, 0);
    let mut outcomes = train(engine, |_| true);
    grow(engine, 1);
    outcomes.extend(train(engine, |id| id.layer == Some(LayerId(1))));
    outcomes.extend(train(engine, |_| true));
    (outcomes, Snapshot::take(engine, &shape).expect("all can be read"))
}

fn on_cuda(order: Order) -> Option<(Vec<StepOutcome>, Snapshot)> {
    let device = Cuda::on(Emulated::new(order)?);
    Some(run(&mut Step::new(&contract::tiny_shape(), device).expect("the shape is good")))
}

#[test]
fn steps_follow_those_of_the_cpu() {
    let Some((ours, _)) = on_cuda(Order::Rising) else { return };
    let mut cpu = engine_native::build(&contract::tiny_shape(), Device::Cpu { threads: None })
        .expect("the CPU is there");
    let (theirs, _) = run(&mut *cpu);
    assert_eq!(ours.len(), 12);
    assert_eq!(theirs.len(), 12);
    for (step, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let loss = (ours.loss_nats_per_token - theirs.loss_nats_per_token).abs();
        let norm = (ours.gradient_norm / theirs.gradient_norm - 1.0).abs();
        assert!(loss <= TOLERANCE && norm <= TOLERANCE, "step {step}: loss {loss:e}, norm {norm:e}");
    }
}

#[test]
fn no_bit_depends_on_the_order_of_threads() {
    let (Some(rising), Some(falling)) = (on_cuda(Order::Rising), on_cuda(Order::Falling)) else { return };
    assert_eq!(rising, falling);
}
