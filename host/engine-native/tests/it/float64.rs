//! The golden runs on the reference device, against the record's own f64 series: what separates a wrong
//! formula from rounding.

use engine::{LayerId, LayerIndex, Model, Moments, Trainable};
use engine_native::{Reference as Device, Step};

use crate::of_every_engine::reference::{Reference, adamw, train};

const LOSS: f64 = 1e-9;
const NORM_RELATIVE: f64 = 1e-9;
const RATE: f64 = 6e-4;

struct Run {
    reference: Reference,
    engine: Step<Device>,
    name: &'static str,
    step: usize,
    worst: [f64; 2],
}

impl Run {
    fn start(name: &'static str, depth: usize) -> Run {
        let reference = Reference::load();
        let mut engine = Step::new(&reference.shape, Device).expect("a good shape");
        reference.fill(&mut engine, depth);
        Run { reference, engine, name, step: 0, worst: [0.0; 2] }
    }

    /// All that the stack has, or the shared tensors and the blocks from `lowest` on.
    fn scope(&self, lowest: u64) -> Trainable {
        let layers: Vec<_> = self.engine.layers().into_iter().filter(|layer| layer.0 >= lowest).collect();
        Trainable::all(&self.reference.shape, &layers)
    }

    fn train(&mut self, steps: usize, lowest: u64, clip: Option<f64>, rate: impl Fn(usize) -> f64) {
        let scope = self.scope(lowest);
        for step in self.step..self.step + steps {
            let batch = self.reference.batch(step);
            let outcome = train(&mut self.engine, &batch, &scope, &adamw(rate(step), clip));
            let record = &self.reference.expected["float64"][self.name];
            let expected = |series: &str| record[series][step].as_f64().expect("a number");
            let loss = (outcome.loss_nats_per_token - expected("loss")).abs();
            let norm = (outcome.gradient_norm / expected("grad_norm") - 1.0).abs();
            assert!(loss < LOSS, "run {}: loss of step {step} is off by {loss:e}", self.name);
            assert!(norm < NORM_RELATIVE, "run {}: norm of step {step} is off by {norm:e}", self.name);
            self.worst = [self.worst[0].max(loss), self.worst[1].max(norm)];
        }
        self.step += steps;
    }

    fn grow_to(&mut self, depth: usize) {
        for block in self.engine.layers().len()..depth {
            self.reference.append(&mut self.engine, block);
        }
    }

    fn fresh_adamw(&mut self) {
        for (id, spec) in self.reference.shape.tensors(&self.engine.layers()) {
            self.engine.set_moments(id, &Moments::zero(spec.len())).expect("it has this size");
        }
    }

    #[expect(clippy::print_stdout, reason = "shown with --nocapture: how much room the tolerances leave")]
    fn report(&self) {
        println!("run {} in f64: loss {:.1e}, norm {:.1e} relative", self.name, self.worst[0], self.worst[1]);
    }
}

#[test]
fn a_whole_training() {
    let mut run = Run::start("a", 6);
    run.train(40, 0, None, |_| RATE);
    run.report();
}

#[test]
fn b_growth_with_fresh_adamw_in_each_phase() {
    let mut run = Run::start("b", 2);
    run.train(10, 0, None, |_| RATE);
    for (new, [first, second]) in [(2, [7, 8]), (4, [7, 8])] {
        run.grow_to(new + 2);
        run.fresh_adamw();
        run.train(first, new as u64, None, |_| RATE);
        run.fresh_adamw();
        run.train(second, 0, None, |_| RATE);
    }
    run.report();
}

#[test]
fn c_clipping_and_schedule() {
    let mut run = Run::start("c", 6);
    run.train(40, 0, Some(1.0), |step| match step {
        0..5 => RATE * (step as f64 + 1.0) / 5.0,
        _ => 6e-5 + 0.5 * (1.0 + (std::f64::consts::PI * (step as f64 - 5.0) / 35.0).cos()) * 5.4e-4,
    });
    run.report();
}

#[test]
fn d_stacking_with_moments() {
    let mut run = Run::start("d", 3);
    run.train(15, 0, None, |_| RATE);
    for source in 0..3 {
        let at = LayerIndex(run.engine.layers().len());
        run.engine.duplicate(LayerId(source), LayerId(source + 3), at).expect("the layer is new");
    }
    run.train(15, 0, None, |_| RATE);
    run.report();
}

#[test]
fn e_one_adamw_through_all_phases() {
    let mut run = Run::start("e", 2);
    run.train(8, 0, None, |_| RATE);
    for new in [2, 4] {
        run.grow_to(new + 2);
        run.train(5, new as u64, None, |_| RATE);
        run.train(5, 0, None, |_| RATE);
    }
    run.fresh_adamw();
    run.train(12, 0, None, |_| RATE);
    run.report();
}
