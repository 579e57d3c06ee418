//! The step's own count against the analytic table that the cost accounting uses: equal to the last FLOP.

use engine::{Edit, Engine, LayerId, Model, StepPlan, Trainable, Widths, step_flops};
use engine_native::{Cpu, Step};

use crate::of_every_engine::reference::{Reference, adamw};

fn check(scope: &Trainable, micro_batch_sequences: usize) {
    let reference = Reference::load();
    let mut engine = Step::new(&reference.shape, Cpu::new()).expect("a good shape");
    reference.fill(&mut engine, 4);
    let batch = reference.batch(0);
    engine.step(&batch, &StepPlan::new(scope.clone(), micro_batch_sequences)).expect("a good batch");
    engine.optimize(&adamw(1e-3, None)).expect("a healthy device");
    let expected = step_flops(&reference.shape, &engine.layers(), scope, batch.sequences(), batch.length());
    assert_eq!(engine.flops(), expected, "scope of {} tensors", scope.len());
}

#[test]
fn every_scope_costs_what_the_table_says() {
    let shape = Reference::load().shape;
    let layers: Vec<LayerId> = (0..4).map(LayerId).collect();
    let all = Trainable::all(&shape, &layers);
    check(&all, 4);
    check(&all, 3);
    // Phase 1: the upper half and what is shared; then the same with frozen embeddings.
    check(&Trainable::all(&shape, &layers[2..]), 4);
    let upper = all.iter().filter(|id| id.layer.is_some_and(|layer| layer.0 >= 2)).collect();
    check(&upper, 4);
    check(&Trainable::all(&shape, &[]), 4);
    check(&Trainable::default(), 4);
}

#[test]
fn every_single_tensor_costs_what_the_table_says() {
    let shape = Reference::load().shape;
    let layers: Vec<LayerId> = (0..4).map(LayerId).collect();
    for id in Trainable::all(&shape, &layers).iter().filter(|id| id.layer.is_none_or(|layer| layer.0 == 1)) {
        check(&[id].into_iter().collect(), 4);
    }
}

#[test]
fn models_of_another_width_cost_what_the_table_says() {
    let reference = Reference::load();
    let whole = reference.shape.widths();
    for widths in [
        Widths { heads: whole.heads / 2, ..whole },
        Widths { heads: whole.heads + 1, mlp_width: 5, ..whole },
        Widths { width: whole.width / 2, ..whole },
    ] {
        let shape = reference.shape.with_widths(widths);
        let mut engine = Step::new(&reference.shape, Cpu::new()).expect("a good shape");
        reference.fill(&mut engine, 2);
        let tensors = shape.tensors(&engine.layers()).into_iter();
        let weights = tensors.map(|(tensor, spec)| (tensor, vec![0.01; spec.len()])).collect();
        engine.edit(Edit::Resize { widths, weights }).expect("all of it");
        let batch = reference.batch(0);
        for scope in [Trainable::all(&shape, &engine.layers()), Trainable::all(&shape, &[LayerId(1)])] {
            engine.step(&batch, &StepPlan::new(scope.clone(), 4)).expect("a good batch");
            engine.optimize(&adamw(1e-3, None)).expect("a healthy device");
            let [sequences, length] = [batch.sequences(), batch.length()];
            let expected = step_flops(&shape, &engine.layers(), &scope, sequences, length);
            assert_eq!(engine.flops(), expected, "{widths:?}");
        }
    }
}
