//! A run read back from its folder and gone through once more, step by step, without an engine: its course, its costs, what
//! its strategy was shown and told, what was decided. Whatever follows from the log is worked out again and held against
//! what the log says, so that a file which somebody has changed is noticed.
//!
//! Not in a log, and so not here: what was measured in steps, and when the run was interrupted.

use std::collections::BTreeMap;

use engine::Step;
use plugin_host::api::{
    Action, Block, Evaluation, Event, GrowthReceipt, LossPoint, Plan, Probe, Probed, StepContext,
};

use crate::costs::budget::{flops_left, progress, step_fits};
use crate::costs::{Costs, StepCost};
use crate::course::boundary::Moment;
use crate::course::boundary::probe_of;
use crate::course::schedule::RunningSchedule;
use crate::course::shown::Shown;
use crate::course::{Course, Rules};
use crate::folder::RunFolder;
use crate::folder::binding::RunFile;
use crate::folder::records::{Decision, EvaluationRecord, StepRecord};
use crate::storage::read_whole_lines;
use crate::{RunConfig, TrainError};

/// A run as its folder has it, finished or not.
pub struct RecordedRun {
    /// What it is made of.
    pub file: RunFile,
    /// What its strategy said before the first step.
    pub plan: Plan,
    folder: RunFolder,
    steps: Vec<StepRecord>,
    losses: Vec<LossPoint>,
    evaluations: Vec<EvaluationRecord>,
    decisions: BTreeMap<u64, Vec<Decision>>,
}

impl RecordedRun {
    /// Reads a run's logs; of one that is under way, what is there by now.
    ///
    /// # Errors
    /// A folder that holds no run, or a log that cannot be read.
    pub fn read(folder: RunFolder) -> Result<RecordedRun, TrainError> {
        let file = folder.bound_run()?;
        let steps: Vec<StepRecord> = read_whole_lines(&folder.metrics_file())?;
        let (mut plan, mut decisions) = (None, BTreeMap::<u64, Vec<Decision>>::new());
        for decision in read_whole_lines(&folder.decisions_file())? {
            match (decision, &plan) {
                (Decision::Planned { plan: said }, None) => plan = Some(said),
                (decision, _) => decisions.entry(step_of(&decision).0).or_default().push(decision),
            }
        }
        let plan = plan.ok_or_else(|| TrainError::Damaged {
            path: folder.decisions_file(),
            reason: "does not begin with a plan".into(),
        })?;
        let loss = |step: &StepRecord| LossPoint {
            step: step.step.0,
            loss_nats_per_token: step.loss_nats_per_token,
        };
        Ok(RecordedRun {
            // A step that was skipped has no loss that a strategy could be shown.
            losses: steps.iter().filter(|step| step.skipped.is_none()).map(loss).collect(),
            evaluations: read_whole_lines(&folder.evaluations_file())?,
            file,
            plan,
            folder,
            steps,
            decisions,
        })
    }

    /// What it decided before that step.
    pub(crate) fn decided(&self, step: Step) -> Decided<'_> {
        let mut decided = Decided::default();
        for decision in self.decisions.get(&step.0).into_iter().flatten() {
            match decision {
                Decision::Requested { requests, .. } if decided.losses.is_some() => {
                    decided.after_probe = requests;
                }
                Decision::Requested { requests, .. } => decided.requests = requests,
                Decision::Probed { losses, .. } => decided.losses = Some(losses),
                Decision::Edited(receipt) => decided.receipt = Some(receipt),
                Decision::Rejected { .. } => decided.is_rejected = true,
                _ => {}
            }
        }
        decided
    }

    fn config(&self) -> &RunConfig {
        &self.file.config
    }
}

fn step_of(decision: &Decision) -> Step {
    match decision {
        Decision::Planned { .. } => Step(0),
        Decision::Requested { step, .. }
        | Decision::Probed { step, .. }
        | Decision::Refused { step, .. }
        | Decision::Rejected { step, .. }
        | Decision::PhaseStarted { step, .. }
        | Decision::Stopped { step, .. } => *step,
        Decision::Edited(receipt) => Step(receipt.step),
        Decision::PhaseEnded(audit) => audit.end_step,
    }
}

/// What a run decided before one step.
#[derive(Default)]
pub(crate) struct Decided<'a> {
    /// What its strategy asked for.
    pub requests: &'a [Action],
    /// What came of a probe, where that was asked for: of each candidate the loss of each step.
    losses: Option<&'a [Vec<f64>]>,
    /// What it asked for then.
    pub after_probe: &'a [Action],
    /// The receipt of its edits.
    pub receipt: Option<&'a GrowthReceipt>,
    /// Whether it took them back.
    pub is_rejected: bool,
}

impl<'a> Decided<'a> {
    /// The probe and what came of it.
    pub(crate) fn probed(&self, step: Step) -> Option<(&'a Probe, Probed)> {
        let probe = probe_of(self.requests)?;
        let losses = self.losses?.to_vec();
        Some((probe, Probed { step: step.0, steps: probe.steps, losses }))
    }

    /// What was carried out, or taken back.
    pub(crate) fn last_requests(&self) -> &'a [Action] {
        if self.losses.is_some() { self.after_probe } else { self.requests }
    }
}

/// A recorded run at one of its boundaries.
pub(crate) struct Playback<'a> {
    run: &'a RecordedRun,
    rules: Rules,
    /// The coming step.
    pub step: Step,
    /// What had been decided by then.
    pub course: Course,
    costs: Costs,
    step_cost: StepCost,
    blocks: Vec<Block>,
    evaluations: Vec<Evaluation>,
    is_evaluation_untold: bool,
}

impl<'a> Playback<'a> {
    /// Before the first step.
    ///
    /// # Errors
    /// A plan that makes no sense.
    pub(crate) fn new(run: &'a RecordedRun) -> Result<Playback<'a>, TrainError> {
        let (config, plan) = (run.config(), &run.plan);
        let slots = config.initializers.keys().cloned().collect();
        let rules = Rules::new(config, plan, slots)
            .map_err(|error| run.damaged_decisions(format!("holds a plan that cannot be: {error}")))?;
        let (depth, sequences) = (plan.initial_depth, config.training.sequences_per_step);
        let schedule = RunningSchedule::new(&config.schedule);
        let course = Course::start(&config.model, depth, sequences, schedule).planned(plan);
        Ok(Playback {
            step: Step(0),
            step_cost: StepCost::of(&config.model, &course),
            blocks: course.view(),
            costs: Costs::default(),
            evaluations: Vec::new(),
            is_evaluation_untold: false,
            course,
            rules,
            run,
        })
    }

    /// Comes to the boundary before the coming step; answers whether the run did.
    ///
    /// # Errors
    /// A log that does not follow from the others; so below.
    pub(crate) fn arrive(&mut self) -> Result<bool, TrainError> {
        let decided = self.run.decided(self.step);
        // A strategy may have been asked before a step that did not come: it stopped the run, or made steps too dear.
        let was_asked = self.run.folder.is_done() && self.fits() || !decided.requests.is_empty();
        if self.is_at_end() && !was_asked {
            return Ok(false);
        }
        if self.evaluation_is_due() {
            self.take_evaluation()?;
        }
        Ok(true)
    }

    /// Whether the coming step is one that the run has not taken.
    pub(crate) fn is_at_end(&self) -> bool {
        self.step.0 >= self.run.steps.len() as u64
    }

    fn fits(&self) -> bool {
        step_fits(self.run.config(), &self.costs, &self.step_cost)
    }

    /// What the run's strategy was shown.
    pub(crate) fn context(&self) -> StepContext<'_> {
        let (config, losses) = (self.run.config(), self.run.losses.as_slice());
        let (costs, course, blocks) = (&self.costs, &self.course, self.blocks.as_slice());
        Shown { config, step: self.step, costs, course, blocks, losses, evaluations: &self.evaluations }
            .context()
    }

    /// What it was told before that.
    pub(crate) fn event(&self) -> Option<Event> {
        let last = self.evaluations.last().filter(|_| self.is_evaluation_untold)?;
        Some(Event::Evaluated { step: last.step, loss_nats_per_token: last.loss_nats_per_token })
    }

    pub(crate) fn moment(&self) -> Moment {
        let (config, costs) = (self.run.config(), &self.costs);
        let (progress, flops_left) = (progress(config, costs), flops_left(config, costs));
        Moment { step: self.step, progress, flops_left, after_probe: false }
    }

    /// Pays for what was tried out here.
    pub(crate) fn try_out(&mut self) -> Result<(), TrainError> {
        self.is_evaluation_untold = false;
        let Some((probe, probed)) = self.run.decided(self.step).probed(self.step) else { return Ok(()) };
        let progress = progress(self.run.config(), &self.costs);
        for (candidate, losses) in probe.candidates.iter().zip(&probed.losses) {
            let tried = self.course.tried(candidate, &self.rules, self.step, progress);
            let tried = tried.map_err(|error| self.not_decided(&error))?;
            let cost = StepCost::of(&self.run.config().model, &tried);
            // One whose loss was no number any more ended with that step, which has no entry.
            let steps = probe.steps.min(losses.len() as u64 + 1);
            (0..steps).for_each(|_| self.costs.add_probe_step(&cost));
        }
        Ok(())
    }

    /// Does what was decided here, and takes the step; not at the end.
    pub(crate) fn go_on(&mut self) -> Result<(), TrainError> {
        let decided = self.run.decided(self.step);
        if decided.probed(self.step).is_some() {
            self.evaluate_as_asked(decided.requests)?;
        }
        let requests = decided.last_requests();
        let progress = progress(self.run.config(), &self.costs);
        let course = self.course.tried(requests, &self.rules, self.step, progress);
        let course = course.map_err(|error| self.not_decided(&error))?;
        if !decided.is_rejected {
            self.course = course;
            self.blocks = self.course.view();
            self.step_cost = StepCost::of(&self.run.config().model, &self.course);
            self.evaluate_as_asked(requests)?;
        }
        self.take_step()
    }

    fn take_step(&mut self) -> Result<(), TrainError> {
        let record = self.run.steps.get(self.step.0 as usize);
        let record = record.ok_or_else(|| self.run.damaged_metrics(self.step))?;
        let progress = progress(self.run.config(), &self.costs);
        let rate = self.course.schedule.rate(self.step, progress);
        self.costs.add_step(&self.step_cost);
        let same = record.step == self.step
            && record.learning_rate.to_bits() == rate.to_bits()
            && (record.tokens, record.flops) == (self.costs.tokens, self.costs.flops.total())
            && (record.depth, record.phase.as_str()) == (self.course.depth(), self.course.phase.as_str());
        if !same {
            return Err(self.run.damaged_metrics(self.step));
        }
        self.step = self.step.next();
        Ok(())
    }

    fn evaluation_is_due(&self) -> bool {
        let due = self.run.config().evaluation_is_due(self.step, self.costs.tokens);
        due && self.evaluations.last().is_none_or(|last| last.step != self.step.0)
    }

    fn evaluate_as_asked(&mut self, requests: &[Action]) -> Result<(), TrainError> {
        let asked = requests.iter().filter(|request| matches!(request, Action::Evaluate));
        asked.into_iter().try_for_each(|_| self.take_evaluation())
    }

    fn take_evaluation(&mut self) -> Result<(), TrainError> {
        let next = self.run.evaluations.get(self.evaluations.len());
        let next = next.filter(|next| next.step == self.step).ok_or_else(|| TrainError::Damaged {
            path: self.run.folder.evaluations_file(),
            reason: format!("lacks the evaluation before step {}", self.step),
        })?;
        let EvaluationRecord { step, tokens, loss_nats_per_token, .. } = *next;
        self.evaluations.push(Evaluation { step: step.0, tokens: tokens.0, loss_nats_per_token });
        self.is_evaluation_untold = true;
        Ok(())
    }

    fn not_decided(&self, error: &plugin_host::api::Error) -> TrainError {
        let step = self.step;
        self.run.damaged_decisions(format!("holds what cannot have been decided before step {step}: {error}"))
    }
}

impl RecordedRun {
    fn damaged_decisions(&self, reason: String) -> TrainError {
        TrainError::Damaged { path: self.folder.decisions_file(), reason }
    }

    fn damaged_metrics(&self, step: Step) -> TrainError {
        let reason =
            format!("has at step {step} another rate, cost, depth or phase than the decisions come to");
        TrainError::Damaged { path: self.folder.metrics_file(), reason }
    }
}
