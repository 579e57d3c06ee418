//! One optimizer step, and the reading of its outcome, at the latest one step later.

use std::collections::BTreeMap;

use data::ReadAhead;
use engine::{AdamW, Step, StepPlan, TensorId, TokenBatch, Wait, Wanted};
use plugin_host::api::{Batch, LossPoint, RunEvent};
use sha2::{Digest, Sha256};

use super::measured;
use super::{Parts, Run};
use crate::costs::budget::progress;
use crate::costs::{Costs, timed};
use crate::course::Course;
use crate::course::shown::push_recent;
use crate::folder::records::StepRecord;
use crate::{OnNonFinite, RunConfig, TrainError, Training};

/// A step, ready to be taken.
pub(super) struct Prepared {
    pub(super) batch: TokenBatch,
    /// The batch in whole rows, as the data have it.
    rows: Option<TokenBatch>,
    pub(super) plan: StepPlan,
    pub(super) update: AdamW,
}

/// The step that comes on that course after these costs.
pub(super) fn prepared(
    parts: &Parts<'_>,
    batches: &mut ReadAhead,
    course: &mut Course,
    step: Step,
    costs: &mut Costs,
    statistics: Wanted,
) -> Result<Prepared, TrainError> {
    let config = parts.config;
    let progress = progress(config, costs);
    let rate = course.schedule.rate(step, progress);
    let (context, Batch { length, .. }) = (config.model.context, course.batch);
    let whole_rows = course.batch.tokens() as usize / context;
    let cursor = costs.tokens;
    let batch = timed(&mut costs.wall.data_seconds, || batches.batch(cursor, whole_rows))?;
    let (batch, rows) = if length == context { (batch, None) } else { (batch.cut(length), Some(batch)) };

    let Training { micro_batch_sequences, recompute, .. } = config.training;
    let micro_batch_sequences = micro_batch_sequences * (context / length);
    let (execution, trainable) = (course.execution_of_step(), course.trainable.clone());
    let plan =
        StepPlan { recompute, execution, statistics, ..StepPlan::new(trainable, micro_batch_sequences) };
    let update = adamw(config, rate, course.rate_factors(&config.model));
    Ok(Prepared { batch, rows, plan, update })
}

impl Run<'_> {
    pub(super) fn step(&mut self) -> Result<(), TrainError> {
        if self.ahead.is_some() {
            return self.step_ahead();
        }
        let state = &mut self.state;
        let statistics = measured::wanted(self.measure, state.step);
        let (parts, batches) = (&self.parts, &mut self.batches);
        let Prepared { batch, rows, plan, update } =
            prepared(parts, batches, &mut state.course, state.step, &mut state.costs, statistics)?;
        state.batches_sha256 = chained(&state.batches_sha256, rows.as_ref().unwrap_or(&batch));
        state.trail.add_step(self.step_key, update.rate);
        let engine = &mut *self.parts.engine;
        // What was used since the last look is a step's only where the device may still have been at one.
        let since = self.energy.as_mut().and_then(|energy| energy.joules_since(engine));
        let before = if self.unread.is_empty() { since.map(|_| 0.0) } else { since };
        timed(&mut state.costs.wall.training_seconds, || {
            engine.step(&batch, &plan)?;
            engine.optimize(&update)
        })?;
        let within = self.energy.as_mut().and_then(|energy| energy.joules_since(engine));
        state.costs.add_joules(before.zip(within).map(|(before, within)| before + within));
        let record = self.pass_step(update.rate);
        self.unread.push_back(record);
        self.read_outcomes(Wait::ForOlder)
    }

    /// The coming step is taken, here or by the run that this one is a copy of: it is charged, and the next one comes. Answers
    /// what is to be written down of it, without its loss and norm.
    pub(super) fn pass_step(&mut self, learning_rate: f64) -> StepRecord {
        let state = &mut self.state;
        state.costs.add_step(&self.step_cost);
        let step = state.step;
        state.step = step.next();
        state.decided = false;
        StepRecord {
            step,
            tokens: state.costs.tokens,
            flops: state.costs.flops.total(),
            loss_nats_per_token: f64::NAN,
            gradient_norm: f64::NAN,
            learning_rate,
            depth: state.course.depth(),
            phase: state.course.phase.clone(),
            skipped: None,
        }
    }

    /// Writes down every step whose loss is known by now.
    pub(super) fn read_outcomes(&mut self, wait: Wait) -> Result<(), TrainError> {
        let waits = wait == Wait::ForAll && !self.unread.is_empty();
        while !self.unread.is_empty() {
            let engine = &mut *self.parts.engine;
            let outcome = timed(&mut self.state.costs.wall.training_seconds, || engine.outcome(wait))?;
            let Some(outcome) = outcome else { break };
            let Some(mut record) = self.unread.pop_front() else { break };
            record.loss_nats_per_token = outcome.loss_nats_per_token;
            record.gradient_norm = outcome.gradient_norm;
            record.skipped = skipped_for(&record);
            // Of an update that was not made nothing is told.
            if let Some(statistics) = outcome.statistics.filter(|_| record.skipped.is_none()) {
                self.state.untold.measured.push(measured::of_step(record.step, &statistics));
            }
            self.enter_step(record)?;
        }
        if waits {
            // The device has finished a step meanwhile.
            let used = self.energy.as_mut().and_then(|energy| energy.joules_since(&*self.parts.engine));
            self.state.costs.add_joules(used);
        }
        Ok(())
    }

    /// Writes down a step whose loss is known, and tells of it.
    pub(super) fn enter_step(&mut self, record: StepRecord) -> Result<(), TrainError> {
        if let Some(reason) = &record.skipped {
            self.may_skip(&record)?;
            tracing::warn!(run = self.name, "step {} is skipped: {reason}", record.step);
            self.state.skipped.push(record.step);
            self.logs.metrics.add(&record)?;
            self.speedometer.passed(self.step_cost.tokens);
            // Reporters are told of steps with their losses; this one has none.
            self.report_metric_at(record.step, "skipped_step".into(), 1.0);
            return Ok(());
        }
        self.logs.metrics.add(&record)?;
        let point = LossPoint { step: record.step.0, loss_nats_per_token: record.loss_nats_per_token };
        push_recent(&mut self.state.losses, point);
        self.report_step(record);
        Ok(())
    }

    /// Whether the run goes on after such a step.
    fn may_skip(&self, record: &StepRecord) -> Result<(), TrainError> {
        let skipped = self.state.skipped.len();
        match self.parts.config.training.on_non_finite {
            OnNonFinite::Skip { at_most } if (skipped as u64) < at_most => Ok(()),
            _ => {
                let (what, value) = not_finite(record).unwrap_or(("loss", record.loss_nats_per_token));
                Err(TrainError::NotFinite { what, step: record.step, value, skipped })
            }
        }
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

fn adamw(config: &RunConfig, rate: f64, rate_factors: BTreeMap<TensorId, f64>) -> AdamW {
    let optimizer = &config.optimizer;
    AdamW {
        rate,
        beta1: optimizer.beta1,
        beta2: optimizer.beta2,
        epsilon: optimizer.epsilon,
        weight_decay: optimizer.weight_decay,
        clip_norm: (optimizer.clip_norm > 0.0).then_some(optimizer.clip_norm),
        rate_factors,
    }
}

/// Why the engine has not made the step's update, if it has not.
fn skipped_for(record: &StepRecord) -> Option<String> {
    not_finite(record).map(|(what, value)| format!("the {what} is {value}"))
}

/// What of a step is no number.
fn not_finite(record: &StepRecord) -> Option<(&'static str, f64)> {
    let numbers = [("loss", record.loss_nats_per_token), ("gradient norm", record.gradient_norm)];
    numbers.into_iter().find(|(_, value)| !value.is_finite())
}

/// The hash of all batches so far: of the hash before and this batch's ids.
fn chained(before: &str, batch: &TokenBatch) -> String {
    let mut hash = Sha256::new_with_prefix(before.as_bytes());
    let bytes: Vec<u8> = batch.rows().iter().flat_map(|id| id.to_le_bytes()).collect();
    hash.update(&bytes);
    format!("{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_named() {
        let said = |loss_nats_per_token, gradient_norm| {
            skipped_for(&StepRecord {
                step: Step(7),
                tokens: engine::Tokens(0),
                flops: engine::Flops(0),
                loss_nats_per_token,
                gradient_norm,
                learning_rate: 0.1,
                depth: 1,
                phase: String::new(),
                skipped: None,
            })
        };
        assert_eq!(said(2.5, 0.3), None);
        assert_eq!(said(f64::NAN, f64::NAN).as_deref(), Some("the loss is NaN"));
        assert_eq!(said(2.5, f64::INFINITY).as_deref(), Some("the gradient norm is inf"));
    }
}
