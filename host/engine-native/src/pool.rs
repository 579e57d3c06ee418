//! An engine whose work runs on threads of its own. Not here: what the threads do.

use std::num::NonZeroUsize;

use engine::{
    AdamW, Edit, Engine, EngineError, EngineInfo, Execution, LayerId, Model, ModelShape, Moments, Part,
    StepMemory, StepOutcome, StepPlan, TensorId, TokenBatch, Wait, Widths,
};
use rayon::ThreadPool;

/// Passes every call on; those that compute run inside the pool.
pub(crate) struct InPool<E> {
    engine: E,
    pool: ThreadPool,
}

impl<E: Engine + 'static> InPool<E> {
    pub(crate) fn boxed(engine: E, threads: NonZeroUsize) -> Result<Box<dyn Engine>, EngineError> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build();
        let pool = pool.map_err(|error| EngineError::DeviceUnavailable {
            device: format!("cpu with {threads} threads"),
            reason: error.to_string(),
        })?;
        Ok(Box::new(InPool { engine, pool }))
    }
}

impl<E: Engine> Model for InPool<E> {
    fn layers(&self) -> Vec<LayerId> {
        self.engine.layers()
    }

    fn widths(&self) -> Widths {
        self.engine.widths()
    }

    fn edit(&mut self, edit: Edit) -> Result<(), EngineError> {
        self.engine.edit(edit)
    }

    fn read(&self, tensor: TensorId, part: Part) -> Result<Vec<f32>, EngineError> {
        self.engine.read(tensor, part)
    }

    fn write(&mut self, tensor: TensorId, weights: &[f32]) -> Result<(), EngineError> {
        self.engine.write(tensor, weights)
    }

    fn moments(&self, tensor: TensorId) -> Result<Moments, EngineError> {
        self.engine.moments(tensor)
    }

    fn set_moments(&mut self, tensor: TensorId, moments: &Moments) -> Result<(), EngineError> {
        self.engine.set_moments(tensor, moments)
    }
}

impl<E: Engine> Engine for InPool<E> {
    fn info(&self) -> EngineInfo {
        self.engine.info()
    }

    fn memory(
        &self,
        shape: &ModelShape,
        stack: &[LayerId],
        plan: &StepPlan,
        sequences: usize,
        length: usize,
    ) -> Option<StepMemory> {
        self.engine.memory(shape, stack, plan, sequences, length)
    }

    fn step(&mut self, batch: &TokenBatch, plan: &StepPlan) -> Result<(), EngineError> {
        self.pool.install(|| self.engine.step(batch, plan))
    }

    fn optimize(&mut self, update: &AdamW) -> Result<(), EngineError> {
        self.pool.install(|| self.engine.optimize(update))
    }

    fn outcome(&mut self, wait: Wait) -> Result<Option<StepOutcome>, EngineError> {
        self.engine.outcome(wait)
    }

    fn evaluate(&mut self, batch: &TokenBatch, execution: &Execution) -> Result<Vec<f32>, EngineError> {
        self.pool.install(|| self.engine.evaluate(batch, execution))
    }

    fn logits(&mut self, tokens: &[u32], execution: &Execution) -> Result<Vec<f32>, EngineError> {
        self.pool.install(|| self.engine.logits(tokens, execution))
    }
}
