//! Training runs against PyTorch's records: loss and gradient norm of every step, parameters at the end of
//! every phase, held-out loss around every growth. Tolerances are the README's, chosen there so that known
//! mistakes (wrong GELU, wrong epsilon, shared step counters, ...) fall outside.

use std::ops::Range;

use engine::{Edit, Engine, Execution, LayerId, LayerIndex, Moments, Part, Snapshot, TensorId, Trainable};
use serde_json::Value;

use super::reference::{Reference, adamw, by_name, l2, mean, train};

const LOSS: f64 = 5e-6;
const NORM_RELATIVE: f64 = 1e-5;
/// An update cannot tell the sign of a gradient that is zero but for rounding: see the README.
const FREE_BIAS: f64 = 2e-5;
const RATE: f64 = 6e-4;

/// How far parameters may be at the end of a phase.
struct EndTolerance {
    mean: f64,
    l2_relative: f64,
    first4: f64,
}

const TIGHT: EndTolerance = EndTolerance { mean: 1e-5, l2_relative: 1e-5, first4: 2e-5 };
/// Where a fresh AdamW takes its first step on gradients near zero.
const AFTER_FRESH_ADAMW: EndTolerance = EndTolerance { mean: 1e-5, l2_relative: 5e-4, first4: 1e-3 };

/// One recorded run being followed; `worst` holds the largest deviations so far.
struct Run {
    reference: Reference,
    engine: Box<dyn Engine>,
    name: &'static str,
    end: EndTolerance,
    worst: [f64; 6],
}

impl Run {
    fn start(name: &'static str, depth: usize, end: EndTolerance) -> Run {
        let reference = Reference::load();
        let engine = reference.engine(depth);
        let mut run = Run { reference, engine, name, end, worst: [0.0; 6] };
        let at_start = run.record()["eval_loss_start"].as_f64().expect("a number");
        run.check_held_out(at_start, "start");
        run
    }

    fn record(&self) -> Value {
        self.reference.expected["runs"][self.name].clone()
    }

    fn all(&self) -> Trainable {
        Trainable::all(&self.reference.shape, &self.engine.layers())
    }

    /// These blocks and the shared tensors.
    fn blocks(&self, layers: Range<u64>) -> Trainable {
        let layers: Vec<LayerId> = layers.map(LayerId).collect();
        Trainable::all(&self.reference.shape, &layers)
    }

    /// Trains through the steps of phase number `phase` and checks its end.
    fn phase(&mut self, phase: usize, trainable: &Trainable, clip: Option<f64>, rate: impl Fn(usize) -> f64) {
        let record = self.record();
        let phase = &record["phases"][phase];
        let number = |key: &str| phase[key].as_u64().expect("a count") as usize;
        let before = self.frozen(trainable);
        for step in number("first_step")..number("first_step") + number("n_steps") {
            let batch = self.reference.batch(step);
            let outcome = train(&mut *self.engine, &batch, trainable, &adamw(rate(step), clip));
            let expected = &record["steps"][step];
            let loss = expected["loss"].as_f64().expect("a number");
            let norm = expected["grad_norm"].as_f64().expect("a number");
            self.within(0, (outcome.loss_nats_per_token - loss).abs(), LOSS, &format!("loss of step {step}"));
            let relative = (outcome.gradient_norm / norm - 1.0).abs();
            self.within(1, relative, NORM_RELATIVE, &format!("gradient norm of step {step}"));
        }
        assert_eq!(before, self.frozen(trainable), "frozen tensors keep every bit of weights and moments");
        let at_end = phase["eval_loss_end"].as_f64().expect("a number");
        self.check_held_out(at_end, phase["phase"].as_str().expect("a name"));
        self.check_parameters(&phase["end_params"]);
    }

    /// Weights and moments of what does not train.
    fn frozen(&self, trainable: &Trainable) -> Vec<(TensorId, engine::TensorState)> {
        let all = Snapshot::take(&*self.engine, &self.reference.shape).expect("all can be read");
        all.tensors.into_iter().filter(|(id, _)| !trainable.contains(*id)).collect()
    }

    fn grow(&mut self, blocks: Range<usize>, growth: usize) {
        for block in blocks {
            self.reference.append(&mut *self.engine, block);
        }
        self.check_growth(growth);
    }

    fn check_growth(&mut self, growth: usize) {
        let after = self.record()["growth"][growth]["eval_loss_after"].as_f64().expect("a number");
        self.check_held_out(after, "right after growth");
    }

    fn fresh_adamw(&mut self) {
        for (id, spec) in self.reference.shape.tensors(&self.engine.layers()) {
            self.engine.set_moments(id, &Moments::zero(spec.len())).expect("it has this size");
        }
    }

    fn check_held_out(&mut self, expected: f64, when: &str) {
        let losses =
            self.engine.evaluate(&self.reference.held_out(), &Execution::WholeStack).expect("a good batch");
        self.within(2, (mean(&losses) - expected).abs(), LOSS, &format!("held-out loss, {when}"));
    }

    fn check_parameters(&mut self, record: &Value) {
        let weights = by_name(&*self.engine, &self.reference.shape, Part::Weights);
        for (name, expected) in record.as_object().expect("tensors by name") {
            let values = &weights[name];
            let number = |key: &str| expected[key].as_f64().expect("a number");
            let free = name.ends_with("c_attn.bias[k]");
            let tolerance = |usual| if free { FREE_BIAS } else { usual };
            // Or the share that one element as far off as an element may be has in it.
            let usual = self.end.mean.max(self.end.first4 / values.len() as f64);
            self.within(3, (mean(values) - number("mean")).abs(), tolerance(usual), name);
            let scale = if free { 1.0 } else { l2_scale(number("l2"), values.len()) };
            // A difference of 2e-5 in each of 64 elements.
            let usual = if free { 8.0 * FREE_BIAS } else { self.end.l2_relative };
            self.within(if free { 5 } else { 4 }, (l2(values) - number("l2")).abs() / scale, usual, name);
            let first4 = expected["first4"].as_array().expect("four numbers");
            for (value, expected) in values.iter().zip(first4) {
                let off = (f64::from(*value) - expected.as_f64().expect("a number")).abs();
                self.within(5, off, tolerance(self.end.first4), name);
            }
        }
    }

    fn within(&mut self, kind: usize, off: f64, tolerance: f64, what: &str) {
        self.worst[kind] = self.worst[kind].max(off);
        assert!(off <= tolerance, "run {}: {what} is off by {off:e}, tolerance {tolerance:e}", self.name);
    }

    #[expect(clippy::print_stdout, reason = "shown with --nocapture: how much room the tolerances leave")]
    fn report(&self) {
        let [loss, norm, held_out, mean, l2, first4] = self.worst;
        println!(
            "run {}: loss {loss:.1e}, norm {norm:.1e} relative, held-out {held_out:.1e}; at the ends of \
             phases: mean {mean:.1e}, L2 {l2:.1e} relative, values {first4:.1e}",
            self.name
        );
    }
}

/// What a deviation of an L2 norm is relative to: the norm, but no less than `2 / sqrt(n)`. The README allows a
/// single element twice what it allows the norm; below that floor one such element among `n` would break the norm
/// (after a fresh AdamW, whose first update is the sign of a gradient that may be rounding noise, one does).
fn l2_scale(norm: f64, elements: usize) -> f64 {
    norm.max(2.0 / (elements as f64).sqrt())
}

#[test]
fn gradients_of_the_first_step() {
    let reference = Reference::load();
    let mut engine = reference.engine(6);
    let all = Trainable::all(&reference.shape, &engine.layers());
    train(&mut *engine, &reference.batch(0), &all, &adamw(RATE, None));
    let gradients = by_name(&*engine, &reference.shape, Part::Gradient);
    let record = reference.expected["grad0"].as_object().expect("tensors by name");
    assert_eq!(gradients.len(), record.len());
    for (name, expected) in record {
        let number = |key: &str| expected[key].as_f64().expect("a number");
        let values = &gradients[name];
        if name.ends_with("c_attn.bias[k]") {
            assert!(l2(values) < FREE_BIAS, "{name} is zero in theory, not {:e}", l2(values));
            continue;
        }
        let typical = number("l2") / (values.len() as f64).sqrt();
        let off = (l2(values) / number("l2") - 1.0).abs();
        assert!(off < 1e-5, "{name}: L2 is off by {off:e}");
        let off = (mean(values) - number("mean")).abs() / typical;
        assert!(off < 1e-5, "{name}: mean is off by {off:e} of a typical element");
        for (value, expected) in values.iter().zip(expected["first4"].as_array().expect("four numbers")) {
            let off = (f64::from(*value) - expected.as_f64().expect("a number")).abs() / typical;
            assert!(off < 1e-4, "{name}: an element is off by {off:e} of a typical one");
        }
    }
}

#[test]
fn a_whole_training() {
    let mut run = Run::start("a", 6, TIGHT);
    run.phase(0, &run.all(), None, |_| RATE);
    run.report();
}

#[test]
fn b_growth_with_fresh_adamw_in_each_phase() {
    let mut run = Run::start("b", 2, AFTER_FRESH_ADAMW);
    run.phase(0, &run.all(), None, |_| RATE);
    for (growth, phase) in [(0, 1), (1, 3)] {
        let new = 2 + 2 * growth;
        run.grow(new..new + 2, growth);
        run.fresh_adamw();
        run.phase(phase, &run.blocks(new as u64..new as u64 + 2), None, |_| RATE);
        run.fresh_adamw();
        run.phase(phase + 1, &run.all(), None, |_| RATE);
    }
    run.report();
}

#[test]
fn c_clipping_and_schedule() {
    let mut run = Run::start("c", 6, TIGHT);
    run.phase(0, &run.all(), Some(1.0), |step| match step {
        0..5 => RATE * (step as f64 + 1.0) / 5.0,
        _ => 6e-5 + 0.5 * (1.0 + (std::f64::consts::PI * (step as f64 - 5.0) / 35.0).cos()) * 5.4e-4,
    });
    run.report();
}

#[test]
fn d_stacking_with_moments() {
    let mut run = Run::start("d", 3, TIGHT);
    run.phase(0, &run.all(), None, |_| RATE);
    for source in 0..3 {
        copy_block(&mut run, LayerId(source), LayerId(source + 3));
    }
    run.check_growth(0);
    run.phase(1, &run.all(), None, |_| RATE);
    run.report();
}

#[test]
fn e_one_adamw_through_all_phases() {
    let mut run = Run::start("e", 2, AFTER_FRESH_ADAMW);
    run.phase(0, &run.all(), None, |_| RATE);
    run.phase(1, &run.all(), None, |_| RATE);
    for (growth, phase) in [(0, 2), (1, 4)] {
        let new = 2 + 2 * growth;
        run.grow(new..new + 2, growth);
        run.phase(phase, &run.blocks(new as u64..new as u64 + 2), None, |_| RATE);
        run.phase(phase + 1, &run.all(), None, |_| RATE);
    }
    let updates = |run: &Run, layer| {
        let id = TensorId::block(LayerId(layer), run.reference.shape.block_tensors()[0].class);
        run.engine.moments(id).expect("it is in the stack").updates
    };
    assert_eq!([0, 2, 4].map(|layer| updates(&run, layer)), [18, 15, 10], "each tensor counts for itself");
    run.fresh_adamw();
    run.phase(6, &run.all(), None, |_| RATE);
    run.report();
}

/// On top of the stack, weights and AdamW state alike.
fn copy_block(run: &mut Run, from: LayerId, to: LayerId) {
    let engine = &mut *run.engine;
    let classes: Vec<_> = run.reference.shape.block_tensors().into_iter().map(|spec| spec.class).collect();
    let read = |engine: &dyn Engine, class| engine.read(TensorId::block(from, class), Part::Weights);
    let weights = classes.iter().map(|&class| (class, read(engine, class).expect("it is there"))).collect();
    let at = LayerIndex(engine.layers().len());
    engine.edit(Edit::Insert { at, layer: to, weights }).expect("the layer is new");
    for class in classes {
        let moments = engine.moments(TensorId::block(from, class)).expect("it is there");
        engine.set_moments(TensorId::block(to, class), &moments).expect("it has this size");
    }
}
