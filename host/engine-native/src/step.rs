//! [`Engine`] on a stack of device buffers: the order of calls, what each refuses, and what a phase reuses.
//!
//! Not here: the passes themselves (forward, backward) and the tensors (stack, param).

use std::collections::VecDeque;

use engine::{
    AdamW, Edit, Energy, Engine, EngineError, EngineInfo, Execution, FlopTerms, LayerId, LayerIndex, Model,
    ModelShape, Moments, Part, Statistics, StepMemory, StepOutcome, StepPlan, TensorId, TensorStatistics,
    TokenBatch, Wait, Wanted, Widths,
};

use crate::{
    arena::{Arena, Layout},
    backward::Share,
    check, evaluate,
    forward::Pass,
    kernels::{Form, Kernels},
    memory,
    plan::Plan,
    stack::Stack,
    statistics::{Watch, update_watched},
};

/// GPT-2 in training on one device. Where the device runs ahead of the host, what a step came to is read once the next one
/// is under way; else when it is optimized.
pub struct Step<K: Kernels> {
    kernels: K,
    stack: Stack<K::Buffer>,
    phase: Option<Phase<K>>,
    flops: FlopTerms,
    /// Of the last step.
    tally: K::Tally,
    in_flight: Option<InFlight>,
    unread: Option<Unread<K::Reading>>,
    outcomes: VecDeque<StepOutcome>,
}

/// A step that was not optimized yet.
struct InFlight {
    tokens: u64,
    wanted: Wanted,
    watch: Option<Watch>,
}

/// A step that was optimized, and whose numbers the device may still be forming.
struct Unread<R> {
    reading: R,
    tokens: u64,
    statistics: Option<Box<Statistics>>,
}

/// What stays the same from step to step, until the stack, the scope or the batch's measures change.
struct Phase<K: Kernels> {
    layers: Vec<LayerId>,
    form: Form,
    step: StepPlan,
    plan: Plan,
    layout: Layout,
    arena: Arena<K::Buffer>,
    tokens: K::Tokens,
}

impl<K: Kernels> Step<K> {
    /// A model of that shape with its shared tensors at zero and no block.
    ///
    /// # Errors
    /// A shape that describes no GPT-2, or a device without memory for it.
    pub fn new(shape: &ModelShape, kernels: K) -> Result<Step<K>, EngineError> {
        check(shape)?;
        let stack = Stack::new(shape, &kernels);
        let tally = kernels.tally();
        kernels.health()?;
        Ok(Step {
            kernels,
            stack,
            phase: None,
            flops: FlopTerms::default(),
            in_flight: None,
            unread: None,
            tally,
            outcomes: VecDeque::new(),
        })
    }

    /// [any time] What the last step and its update cost, counted kernel by kernel.
    pub fn flops(&self) -> FlopTerms {
        self.flops
    }

    /// [any time] The device.
    pub fn kernels(&self) -> &K {
        &self.kernels
    }

    /// [between steps] Inserts a copy of a block with its AdamW state, in the device's own numbers.
    ///
    /// # Errors
    /// As for an insertion, and a block to copy that is not there.
    pub fn duplicate(&mut self, from: LayerId, to: LayerId, at: LayerIndex) -> Result<(), EngineError> {
        self.phase = None;
        self.read_newest();
        self.stack.duplicate(from, to, at.0, &self.kernels)?;
        self.kernels.health()
    }

    fn form(&self, sequences: usize, length: usize) -> Form {
        Form::of(&self.stack.shape, sequences, length)
    }

    /// The phase that this step belongs to: the present one, or a new one in its place. Within a phase each step
    /// may run something else; its buffers are those of the most that any step has needed.
    fn enter(&mut self, step: &StepPlan, form: Form) -> Phase<K> {
        let layers = self.stack.layers();
        if let Some(phase) = self.phase.take()
            && (&phase.step.trainable, &phase.layers, phase.form) == (&step.trainable, &layers, form)
        {
            return self.follow(phase, step);
        }
        for (id, param) in self.stack.all_mut() {
            param.train(step.trainable.contains(id), &self.kernels);
        }
        let plan = Plan::new(&self.stack.shape, &layers, step);
        let layout = Layout::new(&plan);
        let arena = Arena::new(&layout, &form, &self.kernels);
        let tokens = self.kernels.tokens(form.rows(), plan.embeddings);
        Phase { layers, form, step: step.clone(), plan, layout, arena, tokens }
    }

    fn follow(&self, mut phase: Phase<K>, step: &StepPlan) -> Phase<K> {
        if phase.step != *step {
            phase.plan = Plan::new(&self.stack.shape, &phase.layers, step);
            phase.layout = Layout::new(&phase.plan);
            phase.arena.fit(&phase.layout, &phase.form, &self.kernels);
            phase.step = step.clone();
        }
        phase
    }

    /// Forward and backward over all micro-batches.
    fn train(&mut self, batch: &TokenBatch, phase: &mut Phase<K>, mut watch: Option<&mut Watch>) {
        self.flops = FlopTerms::default();
        self.stack.all_mut().for_each(|(_, param)| param.forget_gradient());
        let kernels = &self.kernels;
        kernels.restart(&mut self.tally);
        let Phase { plan, layout, arena, tokens, form, .. } = phase;
        let at_once = form.sequences;
        for first in (0..batch.sequences()).step_by(at_once) {
            let form = Form { sequences: at_once.min(batch.sequences() - first), ..*form };
            let inputs: Vec<u32> = batch.inputs(first, form.sequences).collect();
            let targets: Vec<u32> = batch.targets(first, form.sequences).collect();
            kernels.load(&inputs, &targets, tokens);
            let share = Share { tokens: &*tokens, tokens_of_step: batch.tokens().0 };
            let (flops, watch) = (&mut self.flops, watch.as_deref_mut());
            let mut pass = Pass { kernels, plan, layout, form, first, flops, watch };
            pass.forward(share.tokens, &self.stack, arena);
            pass.backward(&share, &mut self.stack, arena);
            kernels.add_losses(&arena.losses, form.rows(), &mut self.tally);
            kernels.submit();
        }
    }

    /// Waits for the newest step, so that all outcomes can be told and all counters are right.
    fn read_newest(&mut self) {
        let Some(Unread { reading, tokens, statistics }) = self.unread.take() else { return };
        let tallied = self.kernels.tallied(&reading);
        self.stack.all_mut().for_each(|(_, param)| param.settle(tallied.is_finite()));
        if !tallied.is_finite() {
            self.flops.optimizer.0 = 0;
        }
        let loss_nats_per_token = tallied.loss_nats / tokens as f64;
        let gradient_norm = tallied.gradient_norm();
        self.outcomes.push_back(StepOutcome { loss_nats_per_token, gradient_norm, statistics });
    }

    /// That answer, unless the device has failed: then it means nothing.
    fn healthy<T>(&self, answer: T) -> Result<T, EngineError> {
        self.kernels.health().map(|()| answer)
    }

    /// Updates tensor by tensor, each with its norms.
    fn update_watched(&mut self, with: &AdamW) -> Vec<(TensorId, TensorStatistics)> {
        let largest = self.stack.all().map(|param| param.spec.len()).max().unwrap_or(0);
        let mut scratch = self.kernels.zeros(largest);
        let Step { stack, kernels, flops, tally, .. } = self;
        let updated = stack.all_mut().filter_map(|(id, param)| {
            let update = param.update(with.rate_factor(id), kernels)?;
            flops.optimizer.0 += 12 * update.len as u128;
            Some(update_watched(kernels, id, with, tally, update, &mut scratch))
        });
        updated.collect()
    }

    fn update(&mut self, with: &AdamW) {
        let all = self.stack.all_mut();
        let tensors: Vec<_> =
            all.filter_map(|(id, param)| param.update(with.rate_factor(id), &self.kernels)).collect();
        self.flops.optimizer.0 = tensors.iter().map(|tensor| 12 * tensor.len as u128).sum();
        self.kernels.adamw(with, &self.tally, tensors);
    }
}

impl<K: Kernels> Model for Step<K> {
    fn layers(&self) -> Vec<LayerId> {
        self.stack.layers()
    }

    fn widths(&self) -> Widths {
        self.stack.shape.widths()
    }

    fn edit(&mut self, edit: Edit) -> Result<(), EngineError> {
        // A block that left and came back has no gradient buffers, though the scope reads the same.
        self.phase = None;
        self.read_newest();
        self.stack.edit(edit, &self.kernels)?;
        self.kernels.health()
    }

    fn read(&self, tensor: TensorId, part: Part) -> Result<Vec<f32>, EngineError> {
        let held = self.stack.get(tensor)?;
        let len = held.spec.len();
        self.healthy(match part {
            Part::Weights => self.kernels.download(&held.weights, len),
            Part::Gradient => match held.last_gradient() {
                Some(gradient) => self.kernels.download(gradient, len),
                None => vec![0.0; len],
            },
        })
    }

    fn write(&mut self, tensor: TensorId, weights: &[f32]) -> Result<(), EngineError> {
        self.stack.get_mut(tensor)?.set_weights(tensor, weights, &self.kernels)?;
        self.kernels.health()
    }

    fn moments(&self, tensor: TensorId) -> Result<Moments, EngineError> {
        let unread = self.unread.as_ref();
        let was_made = unread.is_none_or(|step| self.kernels.tallied(&step.reading).is_finite());
        self.healthy(self.stack.get(tensor)?.moments(was_made, &self.kernels))
    }

    fn set_moments(&mut self, tensor: TensorId, moments: &Moments) -> Result<(), EngineError> {
        self.read_newest();
        self.stack.get_mut(tensor)?.set_moments(tensor, moments, &self.kernels)?;
        self.kernels.health()
    }
}

impl<K: Kernels> Engine for Step<K> {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            engine: self.kernels.engine_name(),
            device: self.kernels.words(),
            device_memory_peak_bytes: self.kernels.memory_peak_bytes(),
            clocks: self.kernels.clocks(),
            graphs: self.kernels.graphs(),
            plain_steps_only: false,
        }
    }

    fn energy(&self) -> Energy {
        self.kernels.energy()
    }

    fn memory(
        &self,
        shape: &ModelShape,
        stack: &[LayerId],
        plan: &StepPlan,
        sequences: usize,
        length: usize,
    ) -> Option<StepMemory> {
        let form = Form::of(shape, plan.micro_batch_sequences.min(sequences), length);
        Some(memory::of_step(&self.kernels, shape, stack, plan, form))
    }

    fn step(&mut self, batch: &TokenBatch, plan: &StepPlan) -> Result<(), EngineError> {
        self.stack.shape.check_batch(batch)?;
        self.stack.check_scope(&plan.trainable)?;
        plan.execution.check(&self.stack.layers(), batch.sequences())?;
        if batch.sequences() == 0 || plan.micro_batch_sequences == 0 {
            return Err(EngineError::BadBatch(
                "a step needs at least one row, and so does a micro-batch".into(),
            ));
        }
        self.in_flight = None;
        let form = self.form(plan.micro_batch_sequences.min(batch.sequences()), batch.length());
        let mut phase = self.enter(plan, form);
        self.kernels.health()?;
        let mut watch = plan.statistics.blocks.then(|| Watch::new(&phase.plan));
        self.train(batch, &mut phase, watch.as_mut());
        self.phase = Some(phase);
        self.kernels.health()?;
        let (tokens, wanted) = (batch.tokens().0, plan.statistics);
        self.in_flight = Some(InFlight { tokens, wanted, watch });
        Ok(())
    }

    fn optimize(&mut self, update: &AdamW) -> Result<(), EngineError> {
        let Some(InFlight { tokens, wanted, watch }) = self.in_flight.take() else { return Ok(()) };
        // Whether the step before this one was left out decides what this one's counters say. The device has this one's
        // passes to run meanwhile.
        self.read_newest();
        let trained = self.stack.all().filter_map(|param| Some((param.last_gradient()?, param.spec.len())));
        let reading = self.kernels.finish_tally(&trained.collect::<Vec<_>>(), &mut self.tally);
        let mut statistics = Statistics::default();
        if !wanted.tensors {
            self.update(update);
        } else if self.kernels.tallied(&reading).is_finite() {
            // Nothing is measured of an update that is not made.
            statistics.tensors = self.update_watched(update);
        }
        self.kernels.submit();
        self.kernels.health()?;
        statistics.blocks = watch.map(|watch| watch.blocks()).unwrap_or_default();
        let statistics = (wanted != Wanted::default()).then(|| Box::new(statistics));
        self.unread = Some(Unread { reading, tokens, statistics });
        if !self.kernels.runs_ahead() {
            self.read_newest();
        }
        Ok(())
    }

    fn outcome(&mut self, wait: Wait) -> Result<Option<StepOutcome>, EngineError> {
        if wait == Wait::ForAll {
            self.read_newest();
        }
        let oldest = self.outcomes.pop_front();
        self.healthy(oldest)
    }

    fn evaluate(&mut self, batch: &TokenBatch, execution: &Execution) -> Result<Vec<f32>, EngineError> {
        self.stack.shape.check_batch(batch)?;
        execution.check(&self.stack.layers(), batch.sequences())?;
        let form = self.form(batch.sequences(), batch.length());
        let plan = Plan::forward_only(&self.stack.shape, &self.stack.layers(), execution);
        self.healthy(evaluate::losses(&self.kernels, &self.stack, &plan, batch, form))
    }

    fn logits(&mut self, tokens: &[u32], execution: &Execution) -> Result<Vec<f32>, EngineError> {
        self.stack.shape.check_tokens(tokens)?;
        execution.check(&self.stack.layers(), 1)?;
        let form = self.form(1, tokens.len());
        let plan = Plan::forward_only(&self.stack.shape, &self.stack.layers(), execution);
        self.healthy(evaluate::logits(&self.kernels, &self.stack, &plan, tokens, form))
    }
}
