//! One optimizer step, and the reading of its outcome, at the latest one step later.

use engine::{AdamW, Step, StepPlan, TokenBatch, Wait};
use plugin_host::api::{LossPoint, RunEvent};
use sha2::{Digest, Sha256};

use super::saving::push_recent;
use super::{Run, progress};
use crate::audit::hexadecimal;
use crate::costs::timed;
use crate::measured;
use crate::records::StepRecord;
use crate::{RunConfig, TrainError, Training};

impl Run<'_> {
    pub(super) fn step(&mut self) -> Result<(), TrainError> {
        let config = self.parts.config;
        let sequences = config.training.sequences_per_step;
        let state = &mut self.state;
        let progress = progress(config, &state.costs);
        let rate = state.course.schedule.rate(state.step.0, progress);
        let corpus = self.parts.corpus;
        let (seed, cursor) = (config.seed, state.costs.tokens);
        let batch =
            timed(&mut state.costs.wall.data_seconds, || corpus.training_batch(seed, cursor, sequences))?;
        state.batches_sha256 = chained(&state.batches_sha256, &batch);

        let Training { micro_batch_sequences, recompute, .. } = config.training;
        let execution = state.course.execution.clone();
        let trainable = state.course.trainable.clone();
        let statistics = measured::wanted(self.measure, state.step);
        let plan =
            StepPlan { recompute, execution, statistics, ..StepPlan::new(trainable, micro_batch_sequences) };
        let update = adamw(config, rate);
        let engine = &mut *self.parts.engine;
        timed(&mut state.costs.wall.training_seconds, || {
            engine.step(&batch, &plan)?;
            engine.optimize(&update)
        })?;
        state.costs.add_step(&self.step_cost);
        self.unread.push_back(StepRecord {
            step: state.step,
            tokens: state.costs.tokens,
            flops: state.costs.flops.total(),
            loss_nats_per_token: f64::NAN,
            gradient_norm: f64::NAN,
            learning_rate: rate,
            depth: state.course.depth(),
            phase: state.course.phase.clone(),
        });
        state.step = state.step.next();
        state.decided = false;
        self.read_outcomes(Wait::ForOlder)
    }

    /// Writes down every step whose loss is known by now.
    pub(super) fn read_outcomes(&mut self, wait: Wait) -> Result<(), TrainError> {
        while !self.unread.is_empty() {
            let engine = &mut *self.parts.engine;
            let outcome = timed(&mut self.state.costs.wall.training_seconds, || engine.outcome(wait))?;
            let Some(outcome) = outcome else { return Ok(()) };
            let Some(mut record) = self.unread.pop_front() else { return Ok(()) };
            record.loss_nats_per_token = outcome.loss_nats_per_token;
            record.gradient_norm = outcome.gradient_norm;
            check_finite(record.step, outcome.loss_nats_per_token, outcome.gradient_norm)?;
            self.logs.metrics.add(&record)?;
            if let Some(statistics) = outcome.statistics {
                self.state.untold.measured.push(measured::of_step(record.step, &statistics));
            }
            let point = LossPoint { step: record.step.0, loss_nats_per_token: record.loss_nats_per_token };
            push_recent(&mut self.state.losses, point);
            self.report_step(record);
        }
        Ok(())
    }

    fn report_step(&mut self, record: StepRecord) {
        let tokens_per_second = self.speedometer.passed(self.step_cost.tokens);
        (self.parts.report)(RunEvent::Step {
            run: self.name.clone(),
            step: record.step.0,
            tokens: record.tokens.0,
            flops: record.flops.as_f64(),
            progress: progress(self.parts.config, &self.state.costs),
            loss_nats_per_token: record.loss_nats_per_token,
            gradient_norm: record.gradient_norm,
            learning_rate: record.learning_rate,
            depth: record.depth,
            phase: record.phase,
            wall_seconds: self.state.costs.wall.training_seconds,
            tokens_per_second,
        });
    }
}

fn adamw(config: &RunConfig, rate: f64) -> AdamW {
    let optimizer = &config.optimizer;
    AdamW {
        rate,
        beta1: optimizer.beta1,
        beta2: optimizer.beta2,
        epsilon: optimizer.epsilon,
        weight_decay: optimizer.weight_decay,
        clip_norm: (optimizer.clip_norm > 0.0).then_some(optimizer.clip_norm),
    }
}

fn check_finite(step: Step, loss: f64, gradient_norm: f64) -> Result<(), TrainError> {
    let numbers = [("loss", loss), ("gradient norm", gradient_norm)];
    match numbers.into_iter().find(|(_, value)| !value.is_finite()) {
        Some((what, value)) => Err(TrainError::NotFinite { what, step, value }),
        None => Ok(()),
    }
}

/// The hash of all batches so far: of the hash before and this batch's ids.
fn chained(before: &str, batch: &TokenBatch) -> String {
    let mut hash = Sha256::new_with_prefix(before.as_bytes());
    let bytes: Vec<u8> = batch.rows().iter().flat_map(|id| id.to_le_bytes()).collect();
    hash.update(&bytes);
    hexadecimal(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_named() {
        let said = |loss, gradient_norm| {
            check_finite(Step(7), loss, gradient_norm).map_err(|error| error.to_string())
        };
        assert_eq!(said(2.5, 0.3), Ok(()));
        assert_eq!(said(f64::NAN, f64::NAN), Err("the loss at step 7 is NaN".into()));
        assert_eq!(said(2.5, f64::INFINITY), Err("the gradient norm at step 7 is inf".into()));
    }
}
