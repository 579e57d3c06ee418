//! Evaluations: when they are due of themselves, and what each leaves. Suites of questions: `suites.rs`.

use engine::{Engine, Execution, TokenBatch, Wait};
use plugin_host::api::{Evaluation, RunEvent};

use super::Run;
use crate::checkpoint::RunState;
use crate::costs::timed;
use crate::course::shown::push_recent;
use crate::folder::records::EvaluationRecord;
use crate::{TrainError, growth};

impl Run<'_> {
    pub(super) fn evaluation_is_due(&self) -> bool {
        let RunState { step, costs, evaluations, .. } = &self.state;
        let due = self.parts.config.evaluation_is_due(*step, costs.tokens);
        due && evaluations.last().is_none_or(|last| last.step != step.0)
    }

    pub(super) fn evaluate(&mut self) -> Result<(), TrainError> {
        self.read_outcomes(Wait::ForAll)?;
        let loss = match self.evaluated_ahead()? {
            Some(loss) => loss,
            None => self.validation_loss()?,
        };
        let RunState { step, costs, course, .. } = &self.state;
        if !loss.is_finite() {
            return Err(TrainError::NotFinite {
                what: "validation loss",
                step: *step,
                value: loss,
                skipped: self.state.skipped.len(),
            });
        }
        self.logs.evaluations.add(&EvaluationRecord {
            step: *step,
            tokens: costs.tokens,
            flops: costs.flops.total(),
            flops_weight_matmul: costs.flops.weight_matmul(),
            flops_li2024: costs.flops_li2024,
            wall_seconds: costs.wall.training_seconds,
            joules: costs.joules,
            loss_nats_per_token: loss,
            batches_sha256: self.state.batches_sha256.clone(),
            depth: course.depth(),
            phase: course.phase.clone(),
        })?;
        (self.parts.report)(RunEvent::Evaluated {
            run: self.name.clone(),
            step: step.0,
            tokens: costs.tokens.0,
            loss_nats_per_token: loss,
        });
        let evaluation = Evaluation { step: step.0, tokens: costs.tokens.0, loss_nats_per_token: loss };
        push_recent(&mut self.state.evaluations, evaluation);
        self.state.untold.evaluation = true;
        Ok(())
    }

    fn validation_loss(&mut self) -> Result<f64, TrainError> {
        let engine = &mut *self.parts.engine;
        let (batches, execution) = (&self.validation, self.state.course.execution_of_model());
        let seconds = &mut self.state.costs.wall.evaluation_seconds;
        let losses = timed(seconds, || losses_of(engine, batches, &execution))?;
        Ok(growth::mean(&losses))
    }
}

/// Every token's loss, batch after batch.
pub(super) fn losses_of(
    engine: &mut dyn Engine,
    batches: &[TokenBatch],
    execution: &Execution,
) -> Result<Vec<f32>, TrainError> {
    let mut losses = Vec::new();
    for batch in batches {
        losses.extend(engine.evaluate(batch, execution)?);
    }
    Ok(losses)
}
