//! What a strategy is asked before a step, and how what it requests is carried out.

use engine::{Snapshot, Step, Wait};
use plugin_host::api::{Action, Actions, Block, Event, Key, Measured, Probe, RunEvent, StepContext};

use super::{BeforeAsking, Run};
use crate::checkpoint::RunState;
use crate::costs::budget::{flops_left, progress};
use crate::costs::{StepCost, timed};
use crate::course::Course;
use crate::course::boundary::{Boundary, Judgement, Moment, probe_of};
use crate::course::shown::Shown;
use crate::folder::records::Decision;
use crate::growth::audit::PhaseStart;
use crate::growth::looking::{seen, without_gradient};
use crate::growth::{self, Gardener, Grown, Looks};
use crate::storage::JsonLines;
use crate::trail::StepKey;
use crate::{RunConfig, TrainError};

impl Run<'_> {
    /// Asks the strategy, and carries out what it requests.
    pub(super) fn decide(&mut self) -> Result<(), TrainError> {
        self.before_asking = Some(self.before_asking()?);
        let (rules, events) = (self.rules.clone(), self.events_to_tell());
        let mut boundary = Boundary::new(&self.state.course, &rules, self.moment(false));
        let asked = self.ask(&events, &mut boundary);
        self.settle_asking(&mut boundary, asked)?;
        self.ask_shadows(&events)?;
        // Now, so that an evaluation which is requested here is told before the next step.
        self.state.untold.evaluation = false;
        let told = tellable(&self.state.untold.measured, self.state.step);
        self.state.untold.measured.drain(..told);
        let Boundary { course, taken, .. } = boundary;
        match probe_of(&taken).cloned() {
            Some(probe) => self.decide_by_probe(taken, &probe)?,
            None if taken.is_empty() => {}
            None => self.apply(course, taken)?,
        }
        self.begin_first_phase()?;
        self.state.decided = true;
        self.before_asking = None;
        self.resumed = false;
        Ok(())
    }

    fn before_asking(&mut self) -> Result<BeforeAsking, TrainError> {
        // First the plugins: a shadow that fails in this leaves a line.
        let plugins = self.saved_plugins()?;
        Ok(BeforeAsking {
            plugins,
            decisions_length: self.logs.decisions.length(),
            shadows_length: self.logs.shadows.as_ref().map_or(0, JsonLines::length),
            untold: self.state.untold.clone(),
            spent_flops: self.state.costs.spent_flops(),
        })
    }

    /// What the strategy has not been told of yet, oldest first.
    fn events_to_tell(&self) -> Vec<Event> {
        let state = &self.state;
        let mut events = Vec::new();
        if self.resumed {
            events.push(Event::Resumed { step: state.step.0 });
        }
        let measured = &state.untold.measured[..tellable(&state.untold.measured, state.step)];
        events.extend(measured.iter().cloned().map(Event::Measured));
        if let Some(last) = state.evaluations.last().filter(|_| state.untold.evaluation) {
            events.push(Event::Evaluated { step: last.step, loss_nats_per_token: last.loss_nats_per_token });
        }
        events
    }

    fn ask_shadows(&mut self, events: &[Event]) -> Result<(), TrainError> {
        let moment = self.moment(false);
        let context = context(self.parts.config, &self.state, &self.blocks_view);
        self.shadows.ask(&context, events, &self.state.course, moment, &mut self.logs)
    }

    fn moment(&self, after_probe: bool) -> Moment {
        let (config, costs) = (self.parts.config, &self.state.costs);
        let (progress, flops_left) = (progress(config, costs), flops_left(config, costs));
        Moment { step: self.state.step, progress, flops_left, after_probe }
    }

    /// Writes down what was refused; a fault goes up, once the state before it is saved.
    fn settle_asking(
        &mut self,
        boundary: &mut Boundary<'_>,
        asked: Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        for (request, reason) in boundary.refused.drain(..) {
            let step = self.state.step;
            self.logs.decisions.add(&Decision::Refused { step, request, reason })?;
        }
        asked.or_else(|fault| self.saved_before(fault))
    }

    /// Tries out the candidates, tells the strategy what came of it, and carries out what it asks for then.
    fn decide_by_probe(&mut self, requests: Vec<Action>, probe: &Probe) -> Result<(), TrainError> {
        self.log_requests(&requests)?;
        self.hold_one_copy()?;
        let probed = match self.probe(probe) {
            Ok(probed) => probed,
            Err(fault) => return self.saved_before(fault),
        };
        let (moment, course) = (self.moment(true), &self.state.course);
        self.shadows.tell_probed(&probed, &requests, course, moment, &mut self.logs)?;
        let probed = Event::Probed(probed);
        self.do_errands(requests)?;
        let rules = self.rules.clone();
        let mut boundary = Boundary::new(&self.state.course, &rules, self.moment(true));
        let strategy = &mut self.parts.strategy;
        let asked = timed(&mut self.state.costs.wall.plugin_seconds, || {
            let mut actions = Actions::new(&mut boundary);
            strategy.ask("on_event", |strategy| strategy.on_event(&probed, &mut actions))
        });
        self.settle_asking(&mut boundary, asked.map_err(TrainError::from))?;
        let Boundary { course, taken, .. } = boundary;
        if taken.is_empty() { Ok(()) } else { self.apply(course, taken) }
    }

    fn log_requests(&mut self, requests: &[Action]) -> Result<(), TrainError> {
        let RunState { step, costs, .. } = &self.state;
        self.logs.decisions.add(&Decision::Requested {
            step: *step,
            tokens: costs.tokens,
            flops: costs.flops.total(),
            requests: requests.to_vec(),
        })
    }

    /// The state of the coming step is whole: it is saved, then the fault goes up.
    fn saved_before<T>(&mut self, fault: TrainError) -> Result<T, TrainError> {
        if let Some(other) = self.fault_ahead(&fault) {
            return Err(other);
        }
        if let Err(second) = self.save(None) {
            tracing::warn!(run = self.name, "the run could not be saved after a fault: {second}");
        }
        Err(fault)
    }

    fn ask(&mut self, events: &[Event], boundary: &mut Boundary<'_>) -> Result<(), TrainError> {
        let context = context(self.parts.config, &self.state, &self.blocks_view);
        let strategy = &mut self.parts.strategy;
        let mut actions = Actions::new(boundary);
        let mut seconds = 0.0;
        let asked = timed(&mut seconds, || {
            for event in events {
                strategy.ask("on_event", |strategy| strategy.on_event(event, &mut actions))?;
            }
            strategy.ask("before_step", |strategy| strategy.before_step(&context, &mut actions))
        });
        self.state.costs.wall.plugin_seconds += seconds;
        Ok(asked?)
    }

    /// Carries out requests that were taken; a fault or a rejection leaves everything as it was.
    fn apply(&mut self, course: Course, requests: Vec<Action>) -> Result<(), TrainError> {
        if !requests.iter().all(can_be_asked_at_every_step) {
            self.read_outcomes(Wait::ForAll)?;
        }
        self.log_requests(&requests)?;
        let new_phase = course.begins_phase(&self.state.course, &requests);
        let phase_start = self.state.phase_start.clone();
        let within_phase = growth::changes_tensors(&requests) && !new_phase;
        if new_phase && self.state.step.0 > 0 {
            self.end_phase()?;
        } else if within_phase {
            self.audit_within_phase()?;
        }
        if growth::changes_tensors(&requests) {
            self.hold_one_copy()?;
        }
        let started = std::time::Instant::now();
        let carried_out = self.change_tensors(&course, &requests);
        self.state.costs.wall.growth_seconds += started.elapsed().as_secs_f64();
        match carried_out {
            Ok(Verdict::Kept) => {}
            Ok(Verdict::Rejected(reason)) => {
                let step = self.state.step;
                self.logs.decisions.add(&Decision::Rejected { step, reason })?;
                return if new_phase { self.begin_phase() } else { Ok(()) };
            }
            Err(fault) => {
                // Going on ends the phase again.
                self.state.phase_start = phase_start;
                return self.saved_before(fault);
            }
        }
        self.state.course = course;
        self.blocks_view = self.state.course.view();
        self.step_cost = StepCost::of(&self.parts.config.model, &self.state.course);
        self.step_key = StepKey::of(&self.state.course);
        if new_phase {
            self.begin_phase()?;
        } else if within_phase {
            self.look_again_within_phase()?;
        }
        self.leave_trail(&requests, new_phase)?;
        self.do_errands(requests)
    }

    /// What requests did to tensors becomes part of the run's trail.
    fn leave_trail(&mut self, requests: &[Action], new_phase: bool) -> Result<(), TrainError> {
        let RunState { trail, phase_start, course, step, .. } = &mut self.state;
        match phase_start {
            _ if !growth::changes_tensors(requests) => {}
            Some(start) if new_phase => trail.add_tensors(&start.sha256()),
            // Blocks that are made anew within a phase.
            _ if growth::edits_stack(requests) => {
                let shape = course.shape(&self.parts.config.model);
                trail.add_tensors(&PhaseStart::take(&*self.parts.engine, &shape, course, *step)?.sha256());
            }
            _ => trail.add_rules(requests),
        }
        Ok(())
    }

    /// Requests that concern tensors. On any error the engine is what it was before.
    fn change_tensors(&mut self, course: &Course, requests: &[Action]) -> Result<Verdict, TrainError> {
        if !growth::changes_tensors(requests) {
            return Ok(Verdict::Kept);
        }
        let edits = growth::edits_stack(requests);
        self.need_tensors()?;
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
        let looks = &self.looks;
        let seen_before =
            if edits { Some(seen(&mut *self.parts.engine, looks, &self.state.course)?) } else { None };
        let grown = self.carry_out(course, requests, before)?;
        let engine = &mut *self.parts.engine;
        let Some(seen_before) = seen_before else { return Ok(Verdict::Kept) };
        let shape = &course.shape(&self.parts.config.model);
        let recompute = self.parts.config.training.recompute;
        let without_gradient =
            without_gradient(engine, shape, &self.looks, course, &grown.made(), recompute)?;
        let looks =
            Looks { before: seen_before, after: seen(engine, &self.looks, course)?, without_gradient };
        let receipt = growth::receipt(self.state.step, &grown, before, engine, &looks)?;
        self.logs.decisions.add(&Decision::Edited(receipt.clone()))?;
        if !receipt.others_bit_identical {
            return Err(TrainError::Internal("an edit touched a block that it should not".into()));
        }
        (self.parts.report)(RunEvent::Edited { run: self.name.clone(), receipt: receipt.clone() });
        let mut judgement = Judgement::default();
        let edited = Event::Edited(receipt.clone());
        self.parts
            .strategy
            .ask("on_event", |strategy| strategy.on_event(&edited, &mut Actions::new(&mut judgement)))?;
        self.shadows.tell_edited(&receipt, requests, &mut self.logs)?;
        for (key, value) in judgement.metrics {
            self.report_metric(key, value);
        }
        Ok(judgement.rejected.map_or(Verdict::Kept, Verdict::Rejected))
    }

    /// Carries out the requests that concern tensors.
    pub(super) fn carry_out(
        &mut self,
        course: &Course,
        requests: &[Action],
        before: &Snapshot,
    ) -> Result<Grown, TrainError> {
        let mut gardener = Gardener {
            whole: &self.parts.config.model,
            initial: &self.parts.initial,
            initializers: &mut self.parts.initializers,
            key: Key::of_seed(self.parts.config.seed).named("initializers"),
        };
        let engine = &mut *self.parts.engine;
        let grown = gardener.carry_out(engine, requests, &self.state.course, before)?;
        if engine.layers() != course.layers() {
            return Err(TrainError::Internal("the engine's stack is not the one that was decided".into()));
        }
        Ok(grown)
    }

    /// Requests that change nothing of the model.
    fn do_errands(&mut self, mut requests: Vec<Action>) -> Result<(), TrainError> {
        // Checkpoints last: going on from one, the errands beside it are not done again.
        requests.sort_by_key(|request| matches!(request, Action::Checkpoint(_)));
        for request in requests {
            match request {
                Action::Metric { key, value } => self.report_metric(key, value),
                Action::Evaluate => {
                    self.need_tensors()?;
                    self.evaluate()?;
                }
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
        self.report_metric_at(self.state.step, key, value);
    }

    pub(super) fn report_metric_at(&self, step: Step, key: String, value: f64) {
        (self.parts.report)(RunEvent::Metric { run: self.name.clone(), step: step.0, key, value });
    }
}

/// What a strategy is shown before the coming step.
fn context<'a>(config: &'a RunConfig, state: &'a RunState, blocks: &'a [Block]) -> StepContext<'a> {
    let RunState { step, costs, course, losses, evaluations, .. } = state;
    Shown { config, step: *step, costs, course, blocks, losses, evaluations }.context()
}

/// Whether a step need not wait for the ones before it because of that request.
fn can_be_asked_at_every_step(request: &Action) -> bool {
    matches!(
        request,
        Action::Execute(_)
            | Action::ExecuteWholeStack
            | Action::Gate(_)
            | Action::Rates(_)
            | Action::Schedule(_)
    )
}

/// How many of what was measured may be told before that step: as with losses, on no engine earlier than on another.
fn tellable(measured: &[Measured], step: Step) -> usize {
    measured.partition_point(|measured| measured.step + 2 <= step.0)
}

enum Verdict {
    Kept,
    Rejected(String),
}
