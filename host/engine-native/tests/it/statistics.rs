//! What is measured when somebody subscribed: against the same figures formed from tensors read back, and that
//! measuring changes no bit.

use engine::{Engine, Model, Part, Snapshot, Statistics, StepPlan, Trainable, Wait, Wanted};
use engine_native::{Cpu, Step};

use crate::of_every_engine::reference::{Reference, adamw, l2};

const WANTED: Wanted = Wanted { tensors: true, blocks: true };

fn filled(reference: &Reference) -> Step<Cpu> {
    let mut engine = Step::new(&reference.shape, Cpu::new()).expect("a good shape");
    reference.fill(&mut engine, 2);
    engine
}

fn step(
    engine: &mut Step<Cpu>,
    reference: &Reference,
    batch: usize,
    wanted: Wanted,
) -> Option<Box<Statistics>> {
    let all = Trainable::all(&reference.shape, &engine.layers());
    let plan = StepPlan { statistics: wanted, ..StepPlan::new(all, 3) };
    engine.step(&reference.batch(batch), &plan).expect("a good batch");
    engine.optimize(&adamw(1e-3, Some(1.0))).expect("a healthy device");
    engine.outcome(Wait::ForAll).expect("a healthy device").expect("a step was made").statistics
}

#[test]
fn measuring_changes_no_bit() {
    let reference = Reference::load();
    let run = |wanted| {
        let mut engine = filled(&reference);
        for batch in 0..3 {
            assert_eq!(step(&mut engine, &reference, batch, wanted).is_some(), wanted != Wanted::default());
        }
        (engine.flops(), Snapshot::take(&engine, &reference.shape).expect("all can be read"))
    };
    assert_eq!(run(Wanted::default()), run(WANTED));
}

#[test]
fn norms_of_tensors_are_those_of_what_can_be_read() {
    let reference = Reference::load();
    let mut engine = filled(&reference);
    step(&mut engine, &reference, 0, WANTED);
    let before = Snapshot::take(&engine, &reference.shape).expect("all can be read");
    let statistics = step(&mut engine, &reference, 1, WANTED).expect("it was wanted");
    assert_eq!(statistics.tensors.len(), before.tensors.len());
    for ((id, given), (_, old)) in statistics.tensors.iter().zip(&before.tensors) {
        let gradient = engine.read(*id, Part::Gradient).expect("it is there");
        let now = engine.read(*id, Part::Weights).expect("it is there");
        let moved: Vec<f32> = now.iter().zip(&old.weights).map(|(a, b)| a - b).collect();
        let product: f64 =
            gradient.iter().zip(&old.moments.first).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let direction = product / (l2(&gradient) * l2(&old.moments.first));
        let expected = [l2(&gradient), l2(&old.weights), l2(&moved), direction];
        let given = [given.gradient_norm, given.weight_norm, given.update_norm, given.gradient_direction];
        for (given, expected) in given.iter().zip(expected) {
            assert!((given - expected).abs() <= 1e-6 * expected.abs(), "{id}: {given} is not {expected}");
        }
    }
}

/// A block whose branches end in zero weights adds nothing.
#[test]
fn a_block_that_adds_nothing_is_seen_to() {
    let reference = Reference::load();
    let mut engine = filled(&reference);
    for (id, spec) in reference.shape.tensors(&engine.layers()) {
        if id.layer == Some(engine::LayerId(1)) && id.class.0.contains("c_proj") {
            engine.write(id, &vec![0.0; spec.len()]).expect("it has this size");
        }
    }
    let blocks = step(&mut engine, &reference, 0, WANTED).expect("it was wanted").blocks;
    let [first, second] = &blocks[..] else { panic!("two blocks ran, not {}", blocks.len()) };
    assert_eq!((second.contribution, second.layer.0), (0.0, 1));
    assert!((second.cosine - 1.0).abs() < 1e-12);
    assert!((second.activation_rms - first.activation_rms).abs() < 1e-9, "what came out went in");
    assert!(first.contribution > 0.0 && first.cosine < 1.0 && first.activation_rms > 0.0);
}
