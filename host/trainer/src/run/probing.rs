//! Trying out ways to go on: each from the present state, on the data to come; afterwards all is as it was.

use std::sync::atomic::Ordering;

use engine::{Snapshot, Step, Wait, Wanted};
use plugin_host::api::{Action, Probe, Probed};

use super::Run;
use super::start::restore_initializers;
use super::step::{Prepared, prepared};
use crate::TrainError;
use crate::costs::budget::progress;
use crate::costs::{StepCost, timed};
use crate::folder::records::Decision;

impl Run<'_> {
    /// The training losses of every candidate.
    ///
    /// # Errors
    /// An initializer or the engine fails, or the run is interrupted; the state is then what it was, too.
    pub(super) fn probe(&mut self, probe: &Probe) -> Result<Probed, TrainError> {
        self.read_outcomes(Wait::ForAll)?;
        self.need_tensors()?;
        let before = Snapshot::take(&*self.parts.engine, &self.parts.config.model)?;
        let initializers = self.saved_initializers()?;
        let mut losses = Vec::new();
        for candidate in &probe.candidates {
            let tried = self.try_out(candidate, probe.steps, &before);
            before.restore(&mut *self.parts.engine)?;
            restore_initializers(&mut self.parts.initializers, &initializers)?;
            losses.push(tried?);
        }
        let (step, flops) = (self.state.step, self.state.costs.flops.total());
        self.logs.decisions.add(&Decision::Probed { step, losses: losses.clone(), flops })?;
        Ok(Probed { step: step.0, steps: probe.steps, losses })
    }

    /// Trains one candidate, and leaves the engine as that made it.
    fn try_out(
        &mut self,
        candidate: &[Action],
        steps: u64,
        before: &Snapshot,
    ) -> Result<Vec<f64>, TrainError> {
        let first = self.state.step;
        let progress = progress(self.parts.config, &self.state.costs);
        let course = self.state.course.tried(candidate, &self.rules, first, progress);
        let mut course = course
            .map_err(|error| TrainError::Internal(format!("a candidate passed the rules, but: {error}")))?;
        self.carry_out(&course, candidate, before)?;
        let cost = StepCost::of(&self.parts.config.model, &course);
        // As the run would go on with it.
        let mut costs = self.state.costs.clone();
        let mut losses = Vec::new();
        for step in (first.0..first.0 + steps).map(Step) {
            if self.parts.interrupt.load(Ordering::Relaxed) {
                return Err(TrainError::Interrupted { step: first });
            }
            let Prepared { batch, plan, update, .. } =
                prepared(&self.parts, &mut self.batches, &mut course, step, &mut costs, Wanted::default())?;
            let engine = &mut *self.parts.engine;
            let outcome = timed(&mut self.state.costs.wall.probing_seconds, || {
                engine.step(&batch, &plan)?;
                engine.optimize(&update)?;
                engine.outcome(Wait::ForAll)
            })?;
            costs.add_step(&cost);
            self.state.costs.add_probe_step(&cost);
            match outcome.map(|outcome| outcome.loss_nats_per_token) {
                Some(loss) if loss.is_finite() => losses.push(loss),
                _ => break,
            }
        }
        Ok(losses)
    }
}
