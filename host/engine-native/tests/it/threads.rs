//! Same bits whatever the number of threads, and close ones with fewer vector instructions.

use engine::{Model, Snapshot, StepOutcome, Trainable};
use engine_native::{Cpu, Level, Step};

use crate::of_every_engine::reference::{Reference, adamw, train};

fn run(level: Level, threads: usize) -> (Vec<StepOutcome>, Snapshot) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
    pool.install(|| {
        let reference = Reference::load();
        let mut engine = Step::new(&reference.shape, Cpu::at_most(level)).expect("a good shape");
        reference.fill(&mut engine, 3);
        let all = Trainable::all(&reference.shape, &engine.layers());
        let outcomes =
            (0..3).map(|step| train(&mut engine, &reference.batch(step), &all, &adamw(1e-3, Some(1.0))));
        let outcomes = outcomes.collect();
        (outcomes, Snapshot::take(&engine, &reference.shape).expect("all can be read"))
    })
}

#[test]
fn one_two_and_four_threads_give_the_same_bits() {
    let one = run(Level::Avx512, 1);
    for threads in [1, 2, 4] {
        assert_eq!(one, run(Level::Avx512, threads), "{threads} threads");
    }
}

#[test]
fn fewer_vector_instructions_give_the_same_numbers() {
    let (best, _) = run(Level::Avx512, 2);
    for level in [Level::Baseline, Level::Avx2] {
        let (held_back, _) = run(level, 2);
        for (a, b) in best.iter().zip(&held_back) {
            let (loss, norm) =
                (a.loss_nats_per_token - b.loss_nats_per_token, a.gradient_norm / b.gradient_norm);
            assert!(loss.abs() < 5e-6, "{level:?}: loss is off by {loss:e}");
            assert!((norm - 1.0).abs() < 1e-5, "{level:?}: the gradient norm is off by {:e}", norm - 1.0);
        }
    }
}
