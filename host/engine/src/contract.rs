//! What every engine has to keep, as checks that its tests call with a way to build one.
//!
//! A check panics with what was expected; numbers against independent references are not here.

use std::collections::BTreeMap;

use crate::{
    AdamW, Edit, Engine, EngineError, Entry, Execution, LayerId, LayerIndex, ModelShape, Part, Snapshot,
    StepOutcome, StepPlan, TensorId, TokenBatch, Trainable, Wait, Widths,
};

/// Builds an engine of that shape.
pub type Build<'a> = &'a dyn Fn(&ModelShape) -> Box<dyn Engine>;

/// Runs every check.
///
/// # Panics
/// When the engine breaks the contract.
pub fn check(build: Build<'_>) {
    starts_empty_and_zero(build);
    inserts_anywhere_and_removes(build);
    frozen_is_frozen(build);
    outcomes_come_in_order(build);
    evaluation_changes_nothing(build);
    same_calls_give_the_same_bits(build);
    micro_batches_do_not_change_the_gradient(build);
    snapshot_restores_everything(build);
    another_execution_is_followed_or_refused(build);
    an_order_moves_blocks_and_nothing_else(build);
    rate_factors_reach_their_tensors(build);
    another_width_replaces_what_was_there(build);
    a_step_that_is_not_optimized_is_forgotten(build);
    nothing_is_updated_from_what_is_no_number(build);
    a_step_that_is_left_out_is_noticed_before_the_next_one_updates(build);
    nonsense_is_refused(build);
}

/// A model of a few hundred parameters.
pub fn tiny_shape() -> ModelShape {
    ModelShape {
        layers: 3,
        width: 8,
        heads: 2,
        context: 6,
        vocabulary: 11,
        init_std: 0.2,
        norm_epsilon: 1e-5,
        mlp_width: None,
        head_width: None,
        block: crate::BlockKind::GPT2,
    }
}

/// Weights that differ from tensor to tensor and from seed to seed.
pub fn varied_weights(len: usize, seed: u64) -> Vec<f32> {
    (0..len).map(|i| ((i as f32 * 0.73 + seed as f32 * 1.31).sin()) * 0.3).collect()
}

/// A batch of three rows of five targets.
pub fn tiny_batch() -> TokenBatch {
    TokenBatch::new((0..18).map(|i| i * 7 % 11).collect(), 3, 5)
}

fn update() -> AdamW {
    AdamW { rate: 0.01, weight_decay: 0.1, clip_norm: Some(1.0), ..AdamW::NOTHING }
}

/// An engine with these layers and varied weights in every tensor.
fn filled(build: Build<'_>, layers: &[u64]) -> (ModelShape, Box<dyn Engine>) {
    let shape = tiny_shape();
    let mut engine = build(&shape);
    for (seed, spec) in shape.shared_tensors().into_iter().enumerate() {
        write(&mut *engine, TensorId::shared(spec.class), &varied_weights(spec.len(), seed as u64));
    }
    for (position, &layer) in layers.iter().enumerate() {
        insert(&mut *engine, &shape, position, layer);
    }
    (shape, engine)
}

fn insert(engine: &mut dyn Engine, shape: &ModelShape, at: usize, layer: u64) {
    let weights = shape.block_tensors().into_iter().enumerate();
    let weights =
        weights.map(|(i, spec)| (spec.class, varied_weights(spec.len(), 100 * (layer + 1) + i as u64)));
    let edit = Edit::Insert { at: LayerIndex(at), layer: LayerId(layer), weights: weights.collect() };
    engine.edit(edit).expect("a new block fits anywhere");
}

fn write(engine: &mut dyn Engine, tensor: TensorId, weights: &[f32]) {
    engine.write(tensor, weights).expect("the tensor exists and has this size");
}

fn train(engine: &mut dyn Engine, trainable: &Trainable, micro_batch_sequences: usize) {
    let plan = StepPlan::new(trainable.clone(), micro_batch_sequences);
    engine.step(&tiny_batch(), &plan).expect("a good batch and a good scope");
    engine.optimize(&update()).expect("a healthy device");
}

fn train_all(engine: &mut dyn Engine, shape: &ModelShape) {
    let all = Trainable::all(shape, &engine.layers());
    train(engine, &all, 3);
}

fn snapshot(engine: &dyn Engine, shape: &ModelShape) -> Snapshot {
    Snapshot::take(engine, shape).expect("every tensor of the stack can be read")
}

fn ids(layers: &[u64]) -> Vec<LayerId> {
    layers.iter().map(|&layer| LayerId(layer)).collect()
}

fn starts_empty_and_zero(build: Build<'_>) {
    let shape = tiny_shape();
    let engine = build(&shape);
    assert_eq!(engine.layers(), [], "a new engine has no block");
    for (tensor, state) in snapshot(&*engine, &shape).tensors {
        assert!(state.weights.iter().all(|&w| w == 0.0), "{tensor} starts at zero");
        assert_eq!(state.moments.updates, 0, "{tensor} was never updated");
    }
}

fn inserts_anywhere_and_removes(build: Build<'_>) {
    let (shape, mut engine) = filled(build, &[0, 1]);
    train(&mut *engine, &Trainable::all(&shape, &ids(&[0, 1])), 3);
    let before = snapshot(&*engine, &shape);
    insert(&mut *engine, &shape, 1, 2);
    insert(&mut *engine, &shape, 0, 3);
    assert_eq!(engine.layers(), ids(&[3, 0, 2, 1]), "blocks stand where they were put");
    let grown = snapshot(&*engine, &shape);
    for (tensor, state) in &before.tensors {
        let now = grown.tensors.iter().find(|(other, _)| other == tensor);
        assert_eq!(now.map(|(_, state)| state), Some(state), "{tensor} is untouched by the insertions");
    }
    for (tensor, state) in grown.tensors.iter().filter(|(t, _)| t.layer.is_some_and(|l| l.0 >= 2)) {
        assert_eq!(state.moments.updates, 0, "{tensor} is new");
    }
    train_all(&mut *engine, &shape);
    for layer in [3, 2] {
        engine.edit(Edit::Remove { layer: LayerId(layer) }).expect("the block is there");
    }
    assert_eq!(engine.layers(), ids(&[0, 1]));
    train(&mut *engine, &Trainable::all(&shape, &ids(&[0, 1])), 3);
}

fn frozen_is_frozen(build: Build<'_>) {
    let (shape, mut engine) = filled(build, &[0, 1, 2]);
    train_all(&mut *engine, &shape);
    let before = snapshot(&*engine, &shape);
    let top: Trainable = Trainable::all(&shape, &ids(&[2])).iter().filter(|t| t.layer.is_some()).collect();
    train(&mut *engine, &top, 3);
    for ((tensor, old), (_, new)) in before.tensors.iter().zip(&snapshot(&*engine, &shape).tensors) {
        if top.contains(*tensor) {
            assert_eq!(new.moments.updates, 2, "{tensor} trained twice");
            assert_ne!(old.weights, new.weights, "{tensor} moved");
        } else {
            assert_eq!(old, new, "{tensor} is frozen");
            let gradient = engine.read(*tensor, Part::Gradient).expect("it exists");
            assert!(gradient.iter().all(|&g| g == 0.0), "{tensor} is frozen and has no gradient");
        }
    }
}

fn outcomes_come_in_order(build: Build<'_>) {
    let (shape, mut engine) = filled(build, &[0]);
    let all = Trainable::all(&shape, &engine.layers());
    let mut losses = Vec::new();
    for step in 1..=3 {
        train(&mut *engine, &all, 3);
        while let Some(outcome) = engine.outcome(Wait::ForOlder).expect("a healthy device") {
            losses.push(outcome.loss_nats_per_token);
        }
        assert!(losses.len() + 1 >= step, "at most the newest outcome is held back");
    }
    while let Some(outcome) = engine.outcome(Wait::ForAll).expect("a healthy device") {
        losses.push(outcome.loss_nats_per_token);
    }
    assert_eq!(losses.len(), 3);
    assert!(losses[2] < losses[0], "training on one batch lowers its loss: {losses:?}");
}

fn evaluation_changes_nothing(build: Build<'_>) {
    let (shape, mut engine) = filled(build, &[0, 1]);
    let before = snapshot(&*engine, &shape);
    let losses = engine.evaluate(&tiny_batch(), &Execution::WholeStack).expect("a good batch");
    assert_eq!(losses.len(), 15, "one loss a target");
    assert_eq!(losses, engine.evaluate(&tiny_batch(), &Execution::WholeStack).expect("a good batch"));
    assert_eq!(
        engine.logits(&[1, 2, 3], &Execution::WholeStack).expect("good tokens").len(),
        3 * shape.vocabulary
    );
    assert_eq!(before, snapshot(&*engine, &shape));
}

fn same_calls_give_the_same_bits(build: Build<'_>) {
    let run = || {
        let (shape, mut engine) = filled(build, &[0, 1]);
        for _ in 0..3 {
            train(&mut *engine, &Trainable::all(&shape, &ids(&[0, 1])), 2);
        }
        snapshot(&*engine, &shape)
    };
    assert_eq!(run(), run());
}

fn micro_batches_do_not_change_the_gradient(build: Build<'_>) {
    let gradient = |micro_batch_sequences| {
        let (shape, mut engine) = filled(build, &[0, 1]);
        train(&mut *engine, &Trainable::all(&shape, &ids(&[0, 1])), micro_batch_sequences);
        let tensors = shape.tensors(&engine.layers());
        let read = tensors.iter().flat_map(|(t, _)| engine.read(*t, Part::Gradient).expect("it exists"));
        read.collect::<Vec<f32>>()
    };
    let whole = gradient(3);
    let largest = whole.iter().fold(0f32, |most, g| most.max(g.abs()));
    for cut in [1, 2] {
        for (a, b) in whole.iter().zip(gradient(cut)) {
            assert!((a - b).abs() <= 1e-5 * largest, "micro-batches of {cut}: {a} against {b}");
        }
    }
}

fn snapshot_restores_everything(build: Build<'_>) {
    let (shape, mut engine) = filled(build, &[0, 1]);
    let all = Trainable::all(&shape, &ids(&[0, 1]));
    train(&mut *engine, &all, 3);
    let saved = snapshot(&*engine, &shape);
    insert(&mut *engine, &shape, 1, 7);
    train_all(&mut *engine, &shape);
    saved.restore(&mut *engine).expect("what was taken can be put back");
    assert_eq!(saved, snapshot(&*engine, &shape));
}

fn another_execution_is_followed_or_refused(build: Build<'_>) {
    let (shape, mut engine) = filled(build, &[0, 1]);
    let plan = StepPlan {
        execution: Execution::Entries(vec![Entry::whole(LayerId(1))]),
        ..StepPlan::new(Trainable::all(&shape, &ids(&[0, 1])), 3)
    };
    let before = snapshot(&*engine, &shape);
    match engine.step(&tiny_batch(), &plan) {
        Err(EngineError::Unsupported { .. }) => {}
        Err(other) => panic!("an execution is followed, or refused as unsupported, not for {other:?}"),
        Ok(()) => {
            engine.optimize(&update()).expect("a healthy device");
            let after = snapshot(&*engine, &shape);
            for ((tensor, old), (_, new)) in before.tensors.iter().zip(&after.tensors) {
                let skipped = tensor.layer == Some(LayerId(0));
                assert_eq!(old == new, skipped, "{tensor}: what does not run is skipped, all else trains");
            }
            return;
        }
    }
    assert_eq!(before, snapshot(&*engine, &shape), "a refused step changes nothing");
}

fn an_order_moves_blocks_and_nothing_else(build: Build<'_>) {
    let (shape, mut engine) = filled(build, &[0, 1, 2]);
    train_all(&mut *engine, &shape);
    let before = snapshot(&*engine, &shape);
    let losses = |engine: &mut dyn Engine| {
        engine.evaluate(&tiny_batch(), &Execution::WholeStack).expect("a good batch")
    };
    let unmoved = losses(&mut *engine);
    let reorder = |order: &[u64]| Edit::Reorder { layers: ids(order) };
    for wrong in [&[0, 1][..], &[0, 1, 1], &[0, 1, 5]] {
        assert!(matches!(engine.edit(reorder(wrong)), Err(EngineError::NoSuchTensor(_))), "{wrong:?}");
    }
    engine.edit(reorder(&[2, 0, 1])).expect("every block once");
    assert_eq!(engine.layers(), ids(&[2, 0, 1]));
    assert_ne!(losses(&mut *engine), unmoved, "another order is another function");
    for (tensor, state) in &snapshot(&*engine, &shape).tensors {
        let old = before.tensors.iter().find(|(other, _)| other == tensor);
        assert_eq!(old.map(|(_, state)| state), Some(state), "{tensor} is what it was");
    }
    engine.edit(reorder(&[0, 1, 2])).expect("every block once");
    assert_eq!(losses(&mut *engine), unmoved);
}

fn rate_factors_reach_their_tensors(build: Build<'_>) {
    let trained = |rate: f64, factor: &dyn Fn(TensorId) -> Option<f64>| {
        let (shape, mut engine) = filled(build, &[0, 1]);
        let all = Trainable::all(&shape, &ids(&[0, 1]));
        let rate_factors = all.iter().filter_map(|tensor| Some((tensor, factor(tensor)?))).collect();
        engine.step(&tiny_batch(), &StepPlan::new(all, 3)).expect("a good batch");
        engine.optimize(&AdamW { rate, rate_factors, ..update() }).expect("a healthy device");
        snapshot(&*engine, &shape).tensors
    };
    let (whole, half) = (trained(0.01, &|_| None), trained(0.005, &|_| None));
    let is_upper = |tensor: TensorId| tensor.layer == Some(LayerId(1));
    let upper_at_half = trained(0.01, &|tensor| is_upper(tensor).then_some(0.5));
    for (((tensor, mixed), (_, whole)), (_, half)) in upper_at_half.iter().zip(&whole).zip(&half) {
        let expected = if is_upper(*tensor) { half } else { whole };
        assert_eq!(mixed, expected, "{tensor}");
    }
}

fn another_width_replaces_what_was_there(build: Build<'_>) {
    let whole = tiny_shape().widths();
    for wider in [
        Widths { mlp_width: whole.mlp_width + 3, ..whole },
        Widths { heads: whole.heads + 1, ..whole },
        Widths { width: whole.width + 5, ..whole },
        Widths { width: 2 * whole.width, heads: 2 * whole.heads, mlp_width: 2 * whole.mlp_width },
    ] {
        widened(build, wider);
    }
}

fn widened(build: Build<'_>, widths: Widths) {
    let (shape, mut engine) = filled(build, &[0, 1]);
    train_all(&mut *engine, &shape);
    let before = snapshot(&*engine, &shape);
    let (stack, wider) = (ids(&[0, 1]), shape.with_widths(widths));
    let sizes = |shape: &ModelShape| -> BTreeMap<TensorId, usize> {
        shape.tensors(&stack).into_iter().map(|(tensor, spec)| (tensor, spec.len())).collect()
    };
    let (old, new) = (sizes(&shape), sizes(&wider));
    let mut weights: Vec<(TensorId, Vec<f32>)> = Vec::new();
    for (number, (&tensor, &len)) in new.iter().filter(|(tensor, len)| old[tensor] != **len).enumerate() {
        weights.push((tensor, varied_weights(len, number as u64)));
    }
    let too_few = engine.edit(Edit::Resize { widths, weights: weights[1..].to_vec() });
    assert!(matches!(too_few, Err(EngineError::NoSuchTensor(_))), "a tensor is missing");
    assert_eq!((engine.widths(), snapshot(&*engine, &shape)), (shape.widths(), before.clone()));
    engine.edit(Edit::Resize { widths, weights: weights.clone() }).expect("all that is resized");
    let after = snapshot(&*engine, &shape);
    assert_eq!((engine.widths(), after.widths), (widths, widths));
    let weights: BTreeMap<TensorId, Vec<f32>> = weights.into_iter().collect();
    for ((tensor, old), (_, new)) in before.tensors.iter().zip(&after.tensors) {
        match weights.get(tensor) {
            None => assert_eq!(old, new, "{tensor} stays"),
            Some(weights) => {
                assert_eq!(&new.weights, weights, "{tensor}");
                assert_eq!(new.moments, crate::Moments::zero(weights.len()), "{tensor} is new");
            }
        }
    }
    train(&mut *engine, &Trainable::all(&wider, &stack), 3);
    let trained = snapshot(&*engine, &shape);
    for ((tensor, new), (_, old)) in trained.tensors.iter().zip(&after.tensors) {
        assert_ne!(new.weights, old.weights, "{tensor} trains");
    }
    before.restore(&mut *engine).expect("what was taken can be put back");
    assert_eq!(before, snapshot(&*engine, &shape));
}

fn a_step_that_is_not_optimized_is_forgotten(build: Build<'_>) {
    let (shape, mut engine) = filled(build, &[0]);
    let before = snapshot(&*engine, &shape);
    let all = Trainable::all(&shape, &ids(&[0]));
    engine.step(&tiny_batch(), &StepPlan::new(all.clone(), 3)).expect("a good batch");
    assert_eq!(before, snapshot(&*engine, &shape), "a step alone updates nothing");
    train(&mut *engine, &all, 3);
    let mut outcomes = 0;
    while engine.outcome(Wait::ForAll).expect("a healthy device").is_some() {
        outcomes += 1;
    }
    assert_eq!(outcomes, 1, "one for each step that was optimized");
}

fn nothing_is_updated_from_what_is_no_number(build: Build<'_>) {
    let (shape, mut engine) = filled(build, &[0]);
    let all = Trainable::all(&shape, &ids(&[0]));
    train(&mut *engine, &all, 3);
    engine.outcome(Wait::ForAll).expect("a healthy device");
    let position = TensorId::shared(shape.class("wpe.weight").expect("GPT-2 has learned positions"));
    let good = engine.read(position, Part::Weights).expect("it exists");
    let mut bad = good.clone();
    bad[0] = f32::NAN;
    write(&mut *engine, position, &bad);
    let moments = engine.moments(position).expect("it exists");
    let before = state_bits(&snapshot(&*engine, &shape));
    train(&mut *engine, &all, 3);
    let outcome = engine.outcome(Wait::ForAll).expect("a healthy device").expect("it was optimized");
    assert!(!StepOutcome::is_finite(outcome.loss_nats_per_token, outcome.gradient_norm), "{outcome:?}");
    assert!(before == state_bits(&snapshot(&*engine, &shape)), "an update was made from {outcome:?}");
    write(&mut *engine, position, &good);
    train(&mut *engine, &all, 3);
    let updates = engine.moments(position).expect("it exists").updates;
    assert_eq!(updates, moments.updates + 1, "the step that was left out does not count");
}

/// Whoever reads outcomes late gets the same, bit for bit.
fn a_step_that_is_left_out_is_noticed_before_the_next_one_updates(build: Build<'_>) {
    let course = |reads: bool| {
        let (shape, mut engine) = filled(build, &[0]);
        let all = Trainable::all(&shape, &ids(&[0]));
        let position = TensorId::shared(shape.class("wpe.weight").expect("GPT-2 has learned positions"));
        let good = engine.read(position, Part::Weights).expect("it exists");
        let mut bad = good.clone();
        bad[0] = f32::NAN;
        let mut outcomes = Vec::new();
        for weights in [&good, &bad, &good, &good] {
            write(&mut *engine, position, weights);
            train(&mut *engine, &all, 3);
            if reads {
                outcomes.extend(engine.outcome(Wait::ForAll).expect("a healthy device"));
            }
        }
        while let Some(outcome) = engine.outcome(Wait::ForAll).expect("a healthy device") {
            outcomes.push(outcome);
        }
        let is_finite = |outcome: &StepOutcome| {
            StepOutcome::is_finite(outcome.loss_nats_per_token, outcome.gradient_norm)
        };
        let finite: Vec<bool> = outcomes.iter().map(is_finite).collect();
        assert_eq!(finite, [true, false, true, true]);
        assert_eq!(engine.moments(position).expect("it exists").updates, 3);
        state_bits(&snapshot(&*engine, &shape))
    };
    assert!(course(true) == course(false), "what is read when decides what is updated");
}

/// What compares equal where values are no numbers, too.
fn state_bits(snapshot: &Snapshot) -> Vec<u64> {
    let tensors = snapshot.tensors.iter().flat_map(|(_, state)| {
        let values = state.weights.iter().chain(&state.moments.first).chain(&state.moments.second);
        values.map(|value| u64::from(value.to_bits())).chain([state.moments.updates])
    });
    tensors.collect()
}

fn nonsense_is_refused(build: Build<'_>) {
    let (shape, mut engine) = filled(build, &[0]);
    let all = Trainable::all(&shape, &ids(&[0]));
    let plan = |trainable| StepPlan::new(trainable, 1);
    let outside = TokenBatch::new(vec![1, 2, 11], 1, 2);
    assert!(matches!(engine.step(&outside, &plan(all.clone())), Err(EngineError::BadBatch(_))));
    let long = TokenBatch::new(vec![1; 8], 1, 7);
    assert!(matches!(engine.evaluate(&long, &Execution::WholeStack), Err(EngineError::BadBatch(_))));
    let elsewhere = Trainable::all(&shape, &ids(&[0, 5]));
    assert!(matches!(engine.step(&tiny_batch(), &plan(elsewhere)), Err(EngineError::NoSuchTensor(_))));
    let known = shape.shared_tensors()[0].class;
    assert!(matches!(engine.write(TensorId::shared(known), &[0.0]), Err(EngineError::WrongSize { .. })));
    let missing = TensorId::block(LayerId(5), shape.block_tensors()[0].class);
    assert!(matches!(engine.read(missing, Part::Weights), Err(EngineError::NoSuchTensor(_))));
    let again = Edit::Insert { at: LayerIndex(0), layer: LayerId(0), weights: Vec::new() };
    assert!(matches!(engine.edit(again), Err(EngineError::NoSuchTensor(_))));
    assert!(matches!(engine.edit(Edit::Remove { layer: LayerId(5) }), Err(EngineError::NoSuchTensor(_))));
}
