//! [`Engine`] on a stack of device buffers: the order of calls, what each refuses, and what a phase reuses.
//!
//! Not here: the passes themselves (forward, backward) and the tensors (stack, param).

use std::collections::VecDeque;

use engine::{
    AdamW, Edit, Engine, EngineError, EngineInfo, FlopTerms, LayerId, LayerIndex, ModelShape, Moments, Part,
    StepOutcome, StepPlan, TensorId, TokenBatch, Trainable, Wait,
};

use crate::{
    NAME,
    arena::Arena,
    backward::Share,
    check, evaluate,
    forward::Pass,
    kernels::{Form, Kernels, Write},
    plan::Plan,
    stack::Stack,
};

/// GPT-2 in training on one device. Every call returns when its work is done, so that no outcome is ever
/// held back.
pub struct Step<K: Kernels> {
    kernels: K,
    stack: Stack<K::Buffer>,
    phase: Option<Phase<K::Buffer>>,
    flops: FlopTerms,
    /// The mean loss of a step that was not optimized yet.
    loss_in_flight: Option<f64>,
    outcomes: VecDeque<StepOutcome>,
}

/// What stays the same from step to step, until the stack, the scope or the batch's measures change.
struct Phase<B> {
    trainable: Trainable,
    layers: Vec<LayerId>,
    form: Form,
    plan: Plan,
    arena: Arena<B>,
    tokens: Vec<u32>,
    targets: Vec<u32>,
}

impl<K: Kernels> Step<K> {
    /// A model of that shape with its shared tensors at zero and no block.
    ///
    /// # Errors
    /// A shape that describes no GPT-2.
    pub fn new(shape: &ModelShape, kernels: K) -> Result<Step<K>, EngineError> {
        check(shape)?;
        let stack = Stack::new(shape, &kernels);
        let (flops, outcomes) = (FlopTerms::default(), VecDeque::new());
        Ok(Step { kernels, stack, phase: None, flops, loss_in_flight: None, outcomes })
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
        self.stack.duplicate(from, to, at.0, &self.kernels)
    }

    fn form(&self, sequences: usize, length: usize) -> Form {
        let ModelShape { width, heads, vocabulary, norm_epsilon: epsilon, .. } = self.stack.shape;
        Form { sequences, length, width, heads, vocabulary, epsilon }
    }

    /// The phase that this step belongs to: the present one, or a new one in its place.
    fn enter(&mut self, trainable: &Trainable, form: Form) -> Phase<K::Buffer> {
        let layers = self.stack.layers();
        if let Some(phase) = self.phase.take()
            && (&phase.trainable, &phase.layers, phase.form) == (trainable, &layers, form)
        {
            return phase;
        }
        for (id, param) in self.stack.all_mut() {
            param.train(trainable.contains(id), &self.kernels);
        }
        let plan = Plan::new(&self.stack.shape, &layers, trainable);
        let arena = Arena::new(&plan, &form, &self.kernels);
        let (tokens, targets) = (Vec::new(), Vec::new());
        Phase { trainable: trainable.clone(), layers, form, plan, arena, tokens, targets }
    }

    /// Forward and backward over all micro-batches; the sum of all losses.
    fn train(&mut self, batch: &TokenBatch, phase: &mut Phase<K::Buffer>) -> f64 {
        self.flops = FlopTerms::default();
        let Phase { plan, arena, tokens, targets, form, .. } = phase;
        let at_once = form.sequences;
        let mut loss_nats = 0.0;
        for first in (0..batch.sequences()).step_by(at_once) {
            let form = Form { sequences: at_once.min(batch.sequences() - first), ..*form };
            tokens.clear();
            tokens.extend(batch.inputs(first, form.sequences));
            targets.clear();
            targets.extend(batch.targets(first, form.sequences));
            let write = if first == 0 { Write::Replace } else { Write::Add };
            let share = Share { tokens, targets, tokens_of_step: batch.tokens().0, write };
            let mut pass = Pass { kernels: &self.kernels, form, flops: &mut self.flops };
            pass.forward(share.tokens, &self.stack, arena);
            pass.backward(&share, plan, &mut self.stack, arena);
            loss_nats += self.kernels.sum(&arena.losses, form.rows());
        }
        loss_nats
    }
}

impl<K: Kernels> Engine for Step<K> {
    fn info(&self) -> EngineInfo {
        EngineInfo { engine: NAME, device: self.kernels.words(), device_memory_peak_bytes: None }
    }

    fn layers(&self) -> Vec<LayerId> {
        self.stack.layers()
    }

    fn step(&mut self, batch: &TokenBatch, plan: &StepPlan) -> Result<(), EngineError> {
        self.stack.check_batch(batch)?;
        self.stack.check_scope(&plan.trainable)?;
        if batch.sequences() == 0 || plan.micro_batch_sequences == 0 {
            return Err(EngineError::BadBatch(
                "a step needs at least one row, and so does a micro-batch".into(),
            ));
        }
        self.loss_in_flight = None;
        let form = self.form(plan.micro_batch_sequences.min(batch.sequences()), batch.length());
        let mut phase = self.enter(&plan.trainable, form);
        let loss_nats = self.train(batch, &mut phase);
        self.phase = Some(phase);
        self.loss_in_flight = Some(loss_nats / batch.tokens().0 as f64);
        Ok(())
    }

    fn optimize(&mut self, update: &AdamW) -> Result<(), EngineError> {
        let Some(loss_nats_per_token) = self.loss_in_flight.take() else { return Ok(()) };
        let trained = self.stack.all().filter_map(|param| Some((param.gradient.as_ref()?, param.spec.len())));
        let gradient_norm = self.kernels.squared_norm(&trained.collect::<Vec<_>>()).sqrt();
        let clip = update.clip_norm.map_or(1.0, |most| (most / (gradient_norm + 1e-6)).min(1.0));
        let tensors: Vec<_> =
            self.stack.all_mut().filter_map(|(_, param)| param.update(&self.kernels)).collect();
        self.flops.optimizer.0 = tensors.iter().map(|tensor| 12 * tensor.len as u128).sum();
        self.kernels.adamw(update, clip, tensors);
        self.outcomes.push_back(StepOutcome { loss_nats_per_token, gradient_norm });
        Ok(())
    }

    fn outcome(&mut self, _: Wait) -> Result<Option<StepOutcome>, EngineError> {
        Ok(self.outcomes.pop_front())
    }

    fn evaluate(&mut self, batch: &TokenBatch) -> Result<Vec<f32>, EngineError> {
        self.stack.check_batch(batch)?;
        let form = self.form(batch.sequences(), batch.length());
        Ok(evaluate::losses(&self.kernels, &self.stack, batch, form))
    }

    fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.stack.check_tokens(tokens)?;
        Ok(evaluate::logits(&self.kernels, &self.stack, tokens, self.form(1, tokens.len())))
    }

    fn edit(&mut self, edit: Edit) -> Result<(), EngineError> {
        // A block that left and came back has no gradient buffers, though the scope reads the same.
        self.phase = None;
        self.stack.edit(edit, &self.kernels)
    }

    fn read(&self, tensor: TensorId, part: Part) -> Result<Vec<f32>, EngineError> {
        let held = self.stack.get(tensor)?;
        let len = held.spec.len();
        Ok(match part {
            Part::Weights => self.kernels.download(&held.weights, len),
            Part::Gradient => match &held.gradient {
                Some(gradient) => self.kernels.download(gradient, len),
                None => vec![0.0; len],
            },
        })
    }

    fn write(&mut self, tensor: TensorId, weights: &[f32]) -> Result<(), EngineError> {
        self.stack.get_mut(tensor)?.set_weights(tensor, weights, &self.kernels)
    }

    fn moments(&self, tensor: TensorId) -> Result<Moments, EngineError> {
        Ok(self.stack.get(tensor)?.moments(&self.kernels))
    }

    fn set_moments(&mut self, tensor: TensorId, moments: &Moments) -> Result<(), EngineError> {
        self.stack.get_mut(tensor)?.set_moments(tensor, moments, &self.kernels)
    }
}
