//! [`Engine`] on a stack of Burn tensors: the order of calls, and what each refuses.
//!
//! Not here: the arithmetic (model, step, adamw) and the tensors (stack, param).

use std::{collections::VecDeque, mem};

use engine::{
    AdamW, Edit, Energy, Engine, EngineError, EngineInfo, Execution, LayerId, Model, ModelShape, Moments,
    Part, StepMemory, StepOutcome, StepPlan, TensorId, TokenBatch, Wait, Widths,
};

use crate::{NAME, adamw, evaluate, operation::Compute, param, stack::Stack, step};

/// Every call returns when its work is done, so that no outcome is ever held back.
pub(crate) struct Oracle<B: Compute<Plain = B>> {
    stack: Stack<B>,
    device_in_words: String,
    energy: Energy,
    /// The mean loss of a step that was not optimized yet.
    loss_in_flight: Option<f64>,
    outcomes: VecDeque<StepOutcome>,
}

impl<B: Compute<Plain = B>> Oracle<B> {
    /// `energy` is what that device tells.
    pub(crate) fn new(
        shape: &ModelShape,
        device: B::Device,
        device_in_words: String,
        energy: Energy,
    ) -> Oracle<B> {
        let stack = Stack::new(shape, device);
        Oracle { stack, device_in_words, energy, loss_in_flight: None, outcomes: VecDeque::new() }
    }
}

impl<B: Compute<Plain = B>> Model for Oracle<B> {
    fn layers(&self) -> Vec<LayerId> {
        self.stack.layers.clone()
    }

    fn widths(&self) -> Widths {
        self.stack.shape.widths()
    }

    fn edit(&mut self, edit: Edit) -> Result<(), EngineError> {
        self.stack.edit(edit)
    }

    fn read(&self, tensor: TensorId, part: Part) -> Result<Vec<f32>, EngineError> {
        let held = self.stack.get(tensor)?;
        match part {
            Part::Weights => param::to_host(&held.weights),
            Part::Gradient => held.gradient(),
        }
    }

    fn write(&mut self, tensor: TensorId, weights: &[f32]) -> Result<(), EngineError> {
        self.stack.get_mut(tensor)?.set_weights(tensor, weights)
    }

    fn moments(&self, tensor: TensorId) -> Result<Moments, EngineError> {
        self.stack.get(tensor)?.moments()
    }

    fn set_moments(&mut self, tensor: TensorId, moments: &Moments) -> Result<(), EngineError> {
        self.stack.get_mut(tensor)?.set_moments(tensor, moments)
    }
}

impl<B: Compute<Plain = B>> Engine for Oracle<B> {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            engine: NAME,
            device: self.device_in_words.clone(),
            device_memory_peak_bytes: None,
            clocks: None,
            graphs: None,
            plain_steps_only: true,
        }
    }

    fn energy(&self) -> Energy {
        self.energy
    }

    fn memory(&self, _: &ModelShape, _: &[LayerId], _: &StepPlan, _: usize, _: usize) -> Option<StepMemory> {
        None // Burn's autodiff decides for itself what it keeps.
    }

    fn step(&mut self, batch: &TokenBatch, plan: &StepPlan) -> Result<(), EngineError> {
        plan.check_plain(NAME)?;
        self.stack.shape.check_batch(batch)?;
        self.stack.check_scope(&plan.trainable)?;
        if batch.sequences() == 0 || plan.micro_batch_sequences == 0 {
            return Err(EngineError::BadBatch(
                "a step needs at least one row, and so does a micro-batch".into(),
            ));
        }
        self.loss_in_flight = None;
        self.loss_in_flight = Some(step::backward(&mut self.stack, batch, plan)?);
        Ok(())
    }

    fn optimize(&mut self, update: &AdamW) -> Result<(), EngineError> {
        let Some(loss_nats_per_token) = self.loss_in_flight.take() else { return Ok(()) };
        let params = &mut self.stack.params;
        let squared = params.values().map(adamw::squared_norm).sum::<Result<f64, EngineError>>()?;
        let gradient_norm = squared.sqrt();
        let clip = adamw::clip_factor(update, gradient_norm);
        if StepOutcome::is_finite(loss_nats_per_token, gradient_norm) {
            *params = mem::take(params)
                .into_iter()
                .map(|(id, param)| (id, adamw::updated(param, update, update.rate_factor(id), clip)))
                .collect();
        }
        self.outcomes.push_back(StepOutcome { loss_nats_per_token, gradient_norm, statistics: None });
        Ok(())
    }

    fn outcome(&mut self, _: Wait) -> Result<Option<StepOutcome>, EngineError> {
        Ok(self.outcomes.pop_front())
    }

    fn evaluate(&mut self, batch: &TokenBatch, execution: &Execution) -> Result<Vec<f32>, EngineError> {
        execution.check_whole(NAME)?;
        self.stack.shape.check_batch(batch)?;
        evaluate::losses(&self.stack, batch)
    }

    fn logits(&mut self, tokens: &[u32], execution: &Execution) -> Result<Vec<f32>, EngineError> {
        execution.check_whole(NAME)?;
        self.stack.shape.check_tokens(tokens)?;
        evaluate::logits(&self.stack, tokens)
    }
}
