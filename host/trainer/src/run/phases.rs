//! Phases: spans in which what trains does not change, each audited when it is over.

use engine::{ModelShape, TensorId, TensorRole};
use plugin_host::api::RunEvent;

use super::Run;
use crate::TrainError;
use crate::checkpoint::RunState;
use crate::costs::timed;
use crate::course::Course;
use crate::folder::records::Decision;
use crate::growth::audit::PhaseStart;

impl Run<'_> {
    /// A strategy that says nothing before step 0 still has a phase, and that is audited as any other.
    pub(super) fn begin_first_phase(&mut self) -> Result<(), TrainError> {
        if self.state.phase_start.is_none() { self.begin_phase() } else { Ok(()) }
    }

    pub(super) fn begin_phase(&mut self) -> Result<(), TrainError> {
        self.need_tensors()?;
        let shape = &self.shape();
        let RunState { course, step, costs, .. } = &mut self.state;
        let engine = &*self.parts.engine;
        let start = timed(&mut costs.wall.growth_seconds, || PhaseStart::take(engine, shape, course, *step))?;
        let tensors = shape.tensors(&course.layers()).len();
        self.logs.decisions.add(&Decision::PhaseStarted {
            step: *step,
            label: course.phase.clone(),
            layers: course.layers(),
            trainable: course.trainable.iter().map(|tensor| tensor.to_string()).collect(),
            gradients_stop_below: lowest_that_needs_gradients(shape, course),
        })?;
        (self.parts.report)(RunEvent::PhaseStarted {
            run: self.name.clone(),
            step: step.0,
            label: course.phase.clone(),
            depth: course.depth(),
            trainable_tensors: course.trainable.len(),
            tensors,
        });
        self.state.phase_start = Some(start);
        Ok(())
    }

    /// An AdamW rule, or blocks made anew, may change what is frozen in the middle of a phase: it has to be intact up to
    /// there, and is looked at again from there on.
    pub(super) fn audit_within_phase(&mut self) -> Result<(), TrainError> {
        self.need_tensors()?;
        let Some(start) = &self.state.phase_start else { return Ok(()) };
        let (engine, shape) = (&*self.parts.engine, &self.state.course.shape(&self.parts.config.model));
        let seconds = &mut self.state.costs.wall.growth_seconds;
        let audit = timed(seconds, || start.audit(engine, shape, self.state.step))?;
        if audit.frozen_bit_identical { Ok(()) } else { Err(frozen_changed(&audit.label)) }
    }

    pub(super) fn look_again_within_phase(&mut self) -> Result<(), TrainError> {
        let Some(start) = &mut self.state.phase_start else { return Ok(()) };
        let (engine, shape) = (&*self.parts.engine, &self.state.course.shape(&self.parts.config.model));
        let seconds = &mut self.state.costs.wall.growth_seconds;
        Ok(timed(seconds, || start.look_again(engine, shape))?)
    }

    pub(super) fn end_phase(&mut self) -> Result<(), TrainError> {
        self.need_tensors()?;
        let Some(start) = self.state.phase_start.take() else { return Ok(()) };
        let (engine, shape, step) =
            (&*self.parts.engine, &self.state.course.shape(&self.parts.config.model), self.state.step);
        let seconds = &mut self.state.costs.wall.growth_seconds;
        let audit = timed(seconds, || start.audit(engine, shape, step))?;
        let intact = audit.frozen_bit_identical;
        if intact && self.parts.config.checkpoints.at_phase_end {
            // Before the phase's end is on record: going on from here ends it again.
            self.state.phase_start = Some(start);
            self.save(Some("phase-end"))?;
            self.state.phase_start = None;
        }
        let label = audit.label.clone();
        self.logs.decisions.add(&Decision::PhaseEnded(audit))?;
        if !intact {
            return Err(frozen_changed(&label));
        }
        Ok(())
    }
}

fn frozen_changed(phase: &str) -> TrainError {
    TrainError::Internal(format!("a frozen tensor changed in the phase `{phase}`"))
}

/// Where back-propagation may stop: `None` where gradients reach the embeddings.
fn lowest_that_needs_gradients(shape: &ModelShape, course: &Course) -> Option<engine::LayerId> {
    let embeddings = shape
        .shared_tensors()
        .into_iter()
        .filter(|spec| matches!(spec.role, TensorRole::TokenEmbedding | TensorRole::PositionEmbedding));
    if embeddings.map(|spec| TensorId::shared(spec.class)).any(|tensor| course.trainable.contains(tensor)) {
        return None;
    }
    course.blocks.iter().map(|block| block.layer).find(|&layer| course.trainable.touches(layer))
}
