//! Steps that run something else than the whole stack once: blocks left out, repeated, moved, gated, or run for
//! some sequences only; and what is computed again instead of being kept.

use engine::{
    Edit, Engine, Entry, Execution, LayerId, LayerIndex, Model, Part, Recompute, Snapshot, StepOutcome,
    StepPlan, TensorId, TokenBatch, Trainable, Wait, plan_flops,
};
use engine_native::{ALLOCATION, Cpu, Kernels, Reference as Device, Step, Timed};

use crate::of_every_engine::reference::{Reference, adamw};

const DEPTH: usize = 3;

fn filled<K: Kernels>(reference: &Reference, kernels: K) -> Step<K> {
    let mut engine = Step::new(&reference.shape, kernels).expect("a good shape");
    reference.fill(&mut engine, DEPTH);
    engine
}

fn all(reference: &Reference) -> Trainable {
    Trainable::all(&reference.shape, &layers(0..DEPTH as u64))
}

fn layers(ids: impl IntoIterator<Item = u64>) -> Vec<LayerId> {
    ids.into_iter().map(LayerId).collect()
}

fn plan(trainable: Trainable, entries: Vec<Entry>) -> StepPlan {
    StepPlan { execution: Execution::Entries(entries), ..StepPlan::new(trainable, 4) }
}

fn whole(layer: u64) -> Entry {
    Entry::whole(LayerId(layer))
}

fn gated(layer: u64, attention_gate: f32, mlp_gate: f32) -> Entry {
    Entry { attention_gate, mlp_gate, ..whole(layer) }
}

fn masked(layer: u64, mask: [bool; 4]) -> Entry {
    Entry { sequences: Some(mask.into()), ..whole(layer) }
}

/// One of each kind, and some of them together.
fn executions() -> Vec<Vec<Entry>> {
    const SOME: [bool; 4] = [false, true, true, false];
    vec![
        vec![],
        vec![whole(1)],
        vec![whole(2), whole(0), whole(1)],
        vec![whole(0), whole(1), whole(1), whole(2)],
        vec![gated(0, 0.0, 1.0), gated(1, 1.0, 0.0), gated(2, 0.0, 0.0)],
        vec![gated(0, 0.5, 1.0), gated(1, 1.0, -0.25), gated(2, 1.5, 0.75)],
        vec![masked(0, SOME), whole(1), masked(2, [true, false, false, false])],
        vec![masked(0, [true; 4]), masked(1, [false; 4]), whole(2)],
        vec![
            Entry { sequences: Some(SOME.into()), ..gated(2, 0.5, 0.0) },
            whole(0),
            masked(2, [false, false, true, true]),
        ],
    ]
}

fn step<K: Kernels>(engine: &mut Step<K>, batch: &TokenBatch, plan: &StepPlan) -> StepOutcome {
    engine.step(batch, plan).expect("a good batch and a good plan");
    engine.optimize(&adamw(1e-3, None)).expect("a healthy device");
    engine.outcome(Wait::ForAll).expect("a healthy device").expect("a step was made")
}

fn gradients<K: Kernels>(reference: &Reference, engine: &Step<K>) -> Vec<(TensorId, Vec<f32>)> {
    let tensors = reference.shape.tensors(&layers(0..DEPTH as u64)).into_iter();
    tensors.map(|(id, _)| (id, engine.read(id, Part::Gradient).expect("it is there"))).collect()
}

#[test]
fn the_cpu_does_what_the_reference_does() {
    let reference = Reference::load();
    let upper = all(&reference).iter().filter(|id| id.layer.is_some_and(|layer| layer.0 >= 1)).collect();
    for scope in [all(&reference), upper] {
        for entries in executions() {
            let wanted = plan(scope.clone(), entries);
            let mut oracle = filled(&reference, Device);
            let expected = step(&mut oracle, &reference.batch(0), &wanted).loss_nats_per_token;
            for micro_batch_sequences in [4, 3, 1] {
                let mut engine = filled(&reference, Cpu::new());
                let wanted = StepPlan { micro_batch_sequences, ..wanted.clone() };
                let loss = step(&mut engine, &reference.batch(0), &wanted).loss_nats_per_token;
                assert!((loss - expected).abs() < 5e-6, "{loss} is not {expected}: {wanted:?}");
                for ((id, a), (_, b)) in
                    gradients(&reference, &engine).iter().zip(&gradients(&reference, &oracle))
                {
                    let largest = b.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
                    let off = a.iter().zip(b).fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest;
                    assert!(off < 1e-5, "{id} is off by {off:e}: {wanted:?}");
                }
            }
        }
    }
}

/// What an evaluation runs is what a step runs: gates, masks and all.
#[test]
fn evaluations_run_what_steps_run() {
    let reference = Reference::load();
    let batch = reference.batch(0);
    for entries in executions() {
        let wanted = plan(all(&reference), entries);
        let mut engine = filled(&reference, Device);
        let losses = engine.evaluate(&batch, &wanted.execution).expect("a good batch");
        let mean = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64;
        let expected = step(&mut engine, &batch, &wanted).loss_nats_per_token;
        assert!((mean - expected).abs() < 1e-6, "{mean} is not {expected}: {wanted:?}");
    }
}

/// Gates at zero leave the logits of the stack without those blocks; no mask is for a single row.
#[test]
fn logits_pass_gates() {
    let reference = Reference::load();
    let mut engine = filled(&reference, Cpu::new());
    let gates = Execution::Entries(vec![gated(0, 0.0, 0.0), whole(1), gated(2, 0.5, 1.0)]);
    let tokens = [3, 1, 4, 1, 5];
    let gated_off = engine.logits(&tokens, &gates).expect("good tokens");
    engine.edit(Edit::Remove { layer: LayerId(0) }).expect("it is there");
    let without = Execution::Entries(vec![whole(1), gated(2, 0.5, 1.0)]);
    assert_eq!(gated_off, engine.logits(&tokens, &without).expect("good tokens"));
    assert_ne!(gated_off, engine.logits(&tokens, &Execution::WholeStack).expect("good tokens"));
    let masked = Execution::Entries(vec![masked(1, [true; 4])]);
    let refused = engine.logits(&tokens, &masked).expect_err("four sequences, one row");
    assert!(matches!(refused, engine::EngineError::BadBatch(_)), "{refused}");
}

#[test]
fn what_runs_is_counted_as_the_table_says() {
    let reference = Reference::load();
    let upper: Trainable =
        all(&reference).iter().filter(|id| id.layer.is_some_and(|layer| layer.0 >= 1)).collect();
    for scope in [all(&reference), upper] {
        for entries in executions() {
            let wanted = plan(scope.clone(), entries);
            let mut engine = filled(&reference, Cpu::new());
            step(&mut engine, &reference.batch(0), &wanted);
            let expected = plan_flops(&reference.shape, &engine.layers(), &wanted, 4, 64);
            assert_eq!(engine.flops(), expected, "{wanted:?}");
        }
    }
}

/// The same bits as a model whose stack is what the execution says.
fn check_like_stack(entries: Vec<Entry>, stack: &[u64]) {
    let reference = Reference::load();
    let mut engine = filled(&reference, Cpu::new());
    let loss = step(&mut engine, &reference.batch(0), &plan(all(&reference), entries)).loss_nats_per_token;

    let mut edited = filled(&reference, Cpu::new());
    let saved = Snapshot::take(&edited, &reference.shape).expect("all can be read");
    for layer in layers(0..DEPTH as u64) {
        edited.edit(Edit::Remove { layer }).expect("it is there");
    }
    for (position, &layer) in stack.iter().enumerate() {
        let states = saved.tensors.iter().filter(|(id, _)| id.layer == Some(LayerId(layer)));
        let weights = states.map(|(id, state)| (id.class, state.weights.clone())).collect();
        let edit = Edit::Insert { at: LayerIndex(position), layer: LayerId(layer), weights };
        edited.edit(edit).expect("the layer is new");
    }
    let scope = Trainable::all(&reference.shape, &layers(stack.iter().copied()));
    let expected = step(&mut edited, &reference.batch(0), &StepPlan::new(scope.clone(), 4));
    assert_eq!(loss, expected.loss_nats_per_token, "stack {stack:?}");
    for id in scope.iter() {
        for part in [Part::Gradient, Part::Weights] {
            let read = |engine: &Step<Cpu>| engine.read(id, part).expect("it is there");
            assert_eq!(read(&engine), read(&edited), "{id}, stack {stack:?}");
        }
    }
}

#[test]
fn leaving_out_and_moving_is_like_another_stack() {
    check_like_stack(vec![whole(0), whole(2)], &[0, 2]);
    check_like_stack(vec![whole(2), whole(0), whole(1)], &[2, 0, 1]);
    check_like_stack(vec![gated(0, 0.0, 0.0), whole(1), masked(2, [false; 4])], &[1]);
    check_like_stack(vec![masked(0, [true; 4]), masked(1, [true; 4]), masked(2, [true; 4])], &[0, 1, 2]);
    check_like_stack(vec![], &[]);
}

#[test]
fn a_sequence_sees_only_the_blocks_that_it_passes_through() {
    let reference = Reference::load();
    let batch = reference.batch(0);
    let masks = [[true, false, true, false], [false, false, true, true], [true, true, true, false]];
    let entries = (0..3).map(|layer| masked(layer, masks[layer as usize])).collect();
    let mut engine = filled(&reference, Cpu::new());
    let together = step(&mut engine, &batch, &plan(all(&reference), entries)).loss_nats_per_token;
    let alone = (0..4).map(|row| {
        let length = batch.length() + 1;
        let ids = batch.rows()[row * length..(row + 1) * length].to_vec();
        let passed = (0..3).filter(|&layer| masks[layer as usize][row]).map(whole).collect();
        let mut engine = filled(&reference, Cpu::new());
        step(&mut engine, &TokenBatch::new(ids, 1, length - 1), &plan(all(&reference), passed))
            .loss_nats_per_token
    });
    let mean = alone.sum::<f64>() / 4.0;
    assert!((together - mean).abs() < 1e-6, "{together} together, {mean} alone");
}

#[test]
fn what_does_not_run_keeps_weights_moments_and_counters() {
    let reference = Reference::load();
    let mut engine = filled(&reference, Cpu::new());
    let scope = all(&reference);
    step(&mut engine, &reference.batch(0), &StepPlan::new(scope.clone(), 4));
    let before = Snapshot::take(&engine, &reference.shape).expect("all can be read");
    let wanted = plan(scope, vec![whole(0), gated(1, 0.0, 1.0)]);
    step(&mut engine, &reference.batch(1), &wanted);
    let after = Snapshot::take(&engine, &reference.shape).expect("all can be read");
    let trained = wanted.trained(&reference.shape, &engine.layers());
    for ((id, old), (_, new)) in before.tensors.iter().zip(&after.tensors) {
        assert_eq!(old == new, !trained.contains(*id), "{id}");
        assert_eq!(new.moments.updates, if trained.contains(*id) { 2 } else { 1 }, "{id}");
    }
    assert!(engine.read(TensorId::block(LayerId(2), trained_class()), Part::Gradient).is_ok_and(zero));
}

fn trained_class() -> engine::TensorClass {
    engine::TensorClass("ln_1.weight")
}

fn zero(gradient: Vec<f32>) -> bool {
    gradient.iter().all(|&g| g == 0.0)
}

#[test]
fn what_is_computed_again_comes_out_the_same() {
    let reference = Reference::load();
    let run = |recompute, entries: Option<Vec<Entry>>| {
        let mut engine = filled(&reference, Cpu::new());
        let execution = entries.map_or(Execution::WholeStack, Execution::Entries);
        let wanted = StepPlan { recompute, execution, ..StepPlan::new(all(&reference), 3) };
        let outcomes: Vec<StepOutcome> =
            (0..2).map(|i| step(&mut engine, &reference.batch(i), &wanted)).collect();
        (outcomes, engine.flops(), Snapshot::take(&engine, &reference.shape).expect("all can be read"))
    };
    let cases = [None].into_iter().chain(executions().into_iter().map(Some));
    for entries in cases {
        let expected = run(Recompute::Gelu, entries.clone());
        for recompute in [Recompute::Nothing, Recompute::Blocks] {
            assert_eq!(expected, run(recompute, entries.clone()), "{recompute:?}, {entries:?}");
        }
    }
}

#[test]
fn keeping_less_takes_less() {
    let reference = Reference::load();
    let engine = filled(&reference, Cpu::new());
    let activations = |recompute| {
        let wanted = StepPlan { recompute, ..StepPlan::new(all(&reference), 4) };
        engine.memory(&reference.shape, &engine.layers(), &wanted, 4, 64).expect("it can tell").activations
    };
    let [nothing, gelu, blocks] = [Recompute::Nothing, Recompute::Gelu, Recompute::Blocks].map(activations);
    assert!(blocks < gelu && gelu < nothing, "{blocks}, {gelu}, {nothing}");
}

#[test]
fn steps_after_the_first_of_a_phase_make_no_buffers() {
    let reference = Reference::load();
    let mut engine = filled(&reference, Timed::new(Cpu::new()));
    let made = |engine: &Step<Timed<Cpu>>| {
        engine.kernels().times().take().get(ALLOCATION).map_or(0, |time| time.calls)
    };
    let scope = all(&reference);
    let most = plan(scope.clone(), vec![masked(0, [true; 4]), whole(1), gated(1, 0.5, 0.5), whole(2)]);
    step(&mut engine, &reference.batch(0), &most);
    assert_ne!(made(&engine), 0, "the first step makes them");
    for (i, entries) in executions().into_iter().enumerate().filter(|(_, entries)| entries.len() < 4) {
        step(&mut engine, &reference.batch(i), &plan(scope.clone(), entries));
        step(&mut engine, &reference.batch(i), &StepPlan::new(scope.clone(), 4));
    }
    assert_eq!(made(&engine), 0);
}
