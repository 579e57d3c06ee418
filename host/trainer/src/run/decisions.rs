//! What a strategy is asked before a step, and how what it requests is carried out.

use engine::{Engine, Snapshot, Step, TokenBatch, Wait};
use plugin_host::api::{Action, Actions, Event, Key, Measured, RunEvent, StepContext};

use super::saving::{losses_of, newest};
use super::{BeforeAsking, Run, progress};
use crate::TrainError;
use crate::boundary::{Boundary, Judgement};
use crate::checkpoint::RunState;
use crate::costs::{StepCost, timed};
use crate::course::Course;
use crate::growth::{self, Gardener, Probe, Seen};
use crate::records::Decision;

/// Tokens after which logits are compared: with a large vocabulary each has many.
const LOGIT_TOKENS: usize = 32;

impl Run<'_> {
    /// Asks the strategy, and carries out what it requests.
    pub(super) fn decide(&mut self) -> Result<(), TrainError> {
        let decisions_length = self.logs.decisions.length();
        let (plugins, untold) = (self.saved_plugins()?, self.state.untold.clone());
        self.before_asking = Some(BeforeAsking { plugins, decisions_length, untold });
        let progress = progress(self.parts.config, &self.state.costs);
        let rules = self.rules.clone();
        let mut boundary = Boundary::new(&self.state.course, &rules, self.state.step, progress);
        let asked = self.ask(&mut boundary, progress);
        for (request, reason) in boundary.refused.drain(..) {
            let step = self.state.step;
            self.logs.decisions.add(&Decision::Refused { step, request, reason })?;
        }
        if let Err(fault) = asked {
            return self.saved_before(fault);
        }
        // Now, so that an evaluation which is requested here is told before the next step.
        self.state.untold.evaluation = false;
        let told = tellable(&self.state.untold.measured, self.state.step);
        self.state.untold.measured.drain(..told);
        let Boundary { course, taken, .. } = boundary;
        if !taken.is_empty() {
            self.apply(course, taken)?;
        }
        self.begin_first_phase()?;
        self.state.decided = true;
        self.before_asking = None;
        self.resumed = false;
        Ok(())
    }

    /// The state of the coming step is whole: it is saved, then the fault goes up.
    fn saved_before<T>(&mut self, fault: TrainError) -> Result<T, TrainError> {
        if let Err(second) = self.save(None) {
            tracing::warn!(run = self.name, "the run could not be saved after a fault: {second}");
        }
        Err(fault)
    }

    fn ask(&mut self, boundary: &mut Boundary<'_>, progress: f64) -> Result<(), TrainError> {
        let state = &mut self.state;
        // Losses are complete to the step before the last one on every engine; none is shown earlier on a
        // faster one, so that all decide alike.
        let known = state.losses.partition_point(|loss| loss.step + 2 <= state.step.0);
        let flops = state.costs.flops.total();
        let context = StepContext {
            step: state.step.0,
            tokens: state.costs.tokens.0,
            flops: flops.as_f64(),
            learning_rate: state.course.schedule.clone().rate(state.step.0, progress),
            progress,
            phase: &state.course.phase,
            blocks: &self.blocks_view,
            losses: newest(&state.losses[..known]),
            evaluations: newest(&state.evaluations),
        };
        let mut events = Vec::new();
        if self.resumed {
            events.push(Event::Resumed { step: state.step.0 });
        }
        let measured = &state.untold.measured[..tellable(&state.untold.measured, state.step)];
        events.extend(measured.iter().cloned().map(Event::Measured));
        if let Some(last) = state.evaluations.last().filter(|_| state.untold.evaluation) {
            events.push(Event::Evaluated { step: last.step, loss_nats_per_token: last.loss_nats_per_token });
        }
        let strategy = &mut self.parts.strategy;
        let mut actions = Actions::new(boundary);
        let mut seconds = 0.0;
        let asked = timed(&mut seconds, || {
            for event in &events {
                strategy.ask("on_event", |strategy| strategy.on_event(event, &mut actions))?;
            }
            strategy.ask("before_step", |strategy| strategy.before_step(&context, &mut actions))
        });
        state.costs.wall.plugin_seconds += seconds;
        Ok(asked?)
    }

    /// Carries out requests that were taken; a fault or a rejection leaves everything as it was.
    fn apply(&mut self, course: Course, requests: Vec<Action>) -> Result<(), TrainError> {
        if !requests.iter().all(|request| matches!(request, Action::Execute(_) | Action::ExecuteWholeStack)) {
            self.read_outcomes(Wait::ForAll)?;
        }
        let RunState { step, costs, .. } = &self.state;
        self.logs.decisions.add(&Decision::Requested {
            step: *step,
            tokens: costs.tokens,
            flops: costs.flops.total(),
            requests: requests.clone(),
        })?;
        let relabelled = requests.iter().any(|request| matches!(request, Action::Phase(_)));
        let old = &self.state.course;
        let new_phase = relabelled || course.trainable != old.trainable || course.blocks != old.blocks;
        let phase_start = self.state.phase_start.clone();
        let rules_alone = growth::changes_tensors(&requests) && !new_phase;
        if new_phase && self.state.step.0 > 0 {
            self.end_phase()?;
        } else if rules_alone {
            self.audit_before_rules()?;
        }
        let started = std::time::Instant::now();
        let carried_out = self.change_tensors(&course, &requests);
        self.state.costs.wall.growth_seconds += started.elapsed().as_secs_f64();
        match carried_out {
            Ok(Verdict::Kept) => {}
            Ok(Verdict::Rejected(reason)) => {
                let step = self.state.step;
                self.logs.decisions.add(&Decision::Rejected { step, reason })?;
                return self.begin_phase();
            }
            Err(fault) => {
                // Going on ends the phase again.
                self.state.phase_start = phase_start;
                return self.saved_before(fault);
            }
        }
        self.state.course = course;
        self.blocks_view = self.state.course.view();
        let sequences = self.parts.config.training.sequences_per_step;
        self.step_cost = StepCost::of(&self.parts.config.model, &self.state.course, sequences);
        if new_phase {
            self.begin_phase()?;
        } else if rules_alone {
            self.look_again_after_rules()?;
        }
        self.do_errands(requests)
    }

    /// Requests that concern tensors. On any error the engine is what it was before.
    fn change_tensors(&mut self, course: &Course, requests: &[Action]) -> Result<Verdict, TrainError> {
        if !growth::changes_tensors(requests) {
            return Ok(Verdict::Kept);
        }
        let edits = growth::edits_stack(requests);
        let before = Snapshot::take(&*self.parts.engine, &self.parts.config.model)?;
        let changed = self.change_and_judge(course, requests, &before, edits);
        if !matches!(changed, Ok(Verdict::Kept)) {
            before.restore(&mut *self.parts.engine)?;
        }
        changed
    }

    fn change_and_judge(
        &mut self,
        course: &Course,
        requests: &[Action],
        before: &Snapshot,
        edits: bool,
    ) -> Result<Verdict, TrainError> {
        let seen_before = if edits { seen(&mut *self.parts.engine, &self.probe)? } else { Seen::default() };
        let mut gardener = Gardener {
            shape: &self.parts.config.model,
            initial: &self.parts.initial,
            initializers: &mut self.parts.initializers,
            key: Key::of_seed(self.parts.config.seed).named("initializers"),
        };
        let engine = &mut *self.parts.engine;
        let grown = gardener.carry_out(engine, requests, &self.state.course, before)?;
        if engine.layers() != course.layers() {
            return Err(TrainError::Internal("the engine's stack is not the one that was decided".into()));
        }
        if !edits {
            return Ok(Verdict::Kept);
        }
        let probe = Probe { before: seen_before, after: seen(engine, &self.probe)? };
        let receipt = growth::receipt(self.state.step, &grown, before, engine, &probe)?;
        self.logs.decisions.add(&Decision::Edited(receipt.clone()))?;
        if !receipt.others_bit_identical {
            return Err(TrainError::Internal("an edit touched a block that it should not".into()));
        }
        (self.parts.report)(RunEvent::Edited { run: self.name.clone(), receipt: receipt.clone() });
        let mut judgement = Judgement::default();
        self.parts.strategy.ask("on_event", |strategy| {
            strategy.on_event(&Event::Edited(receipt), &mut Actions::new(&mut judgement))
        })?;
        for (key, value) in judgement.metrics {
            self.report_metric(key, value);
        }
        Ok(judgement.rejected.map_or(Verdict::Kept, Verdict::Rejected))
    }

    /// Requests that change nothing of the model.
    fn do_errands(&mut self, mut requests: Vec<Action>) -> Result<(), TrainError> {
        // Checkpoints last: going on from one, the errands beside it are not done again.
        requests.sort_by_key(|request| matches!(request, Action::Checkpoint(_)));
        for request in requests {
            match request {
                Action::Metric { key, value } => self.report_metric(key, value),
                Action::Evaluate => self.evaluate()?,
                Action::Stop(reason) => {
                    let step = self.state.step;
                    self.logs.decisions.add(&Decision::Stopped { step, reason: reason.clone() })?;
                    self.state.stopped = Some(reason);
                }
                Action::Checkpoint(name) => {
                    // Going on from here, the strategy is not asked about this step again.
                    self.state.decided = true;
                    self.save(Some(&name))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn report_metric(&self, key: String, value: f64) {
        let (run, step) = (self.name.clone(), self.state.step.0);
        (self.parts.report)(RunEvent::Metric { run, step, key, value });
    }
}

/// What the probe batches show of the model.
fn seen(engine: &mut dyn Engine, probe: &[TokenBatch]) -> Result<Seen, TrainError> {
    let first: Vec<u32> =
        probe.iter().take(1).flat_map(|batch| batch.inputs(0, 1)).take(LOGIT_TOKENS).collect();
    Ok(Seen { losses: losses_of(engine, probe)?, logits: engine.logits(&first)? })
}

/// How many of what was measured may be told before that step: as with losses, on no engine earlier than on another.
fn tellable(measured: &[Measured], step: Step) -> usize {
    measured.partition_point(|measured| measured.step + 2 <= step.0)
}

enum Verdict {
    Kept,
    Rejected(String),
}
