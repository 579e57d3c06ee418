//! Beginning as a copy of another run that has the first steps in common: nothing is computed twice.
//!
//! The strategy is asked before every step as always, with the other run's losses. Tensors are taken from the other's
//! checkpoints (`forks/STEP`) wherever they are looked at or changed. Each of these holds the other's trail, and that has
//! to be this run's: then all that the tensors have come from is the same, and so are they.

use std::collections::BTreeMap;

use engine::{Flops, Step};
use serde::{Deserialize, Serialize};

use super::Run;
use crate::checkpoint::{self, RunState};
use crate::costs::budget::progress;
use crate::folder::RunFolder;
use crate::folder::records::{EvaluationRecord, StepRecord, SuiteRecord};
use crate::storage::read_whole_lines;
use crate::{ErrorClass, RunConfig, SuiteResult, TrainError};

/// What a run begins as a copy of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The other run's name.
    pub run: String,
    /// Its folder, with a checkpoint below `forks` for every step before which this run looks at tensors.
    pub folder: RunFolder,
    /// The first step that is this run's own.
    pub until: Step,
}

/// What a run took over from another one; it is charged with it as if it had trained it itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedPrefix {
    /// The other run's name.
    pub run: String,
    /// Steps.
    pub steps: Step,
    /// Exact FLOPs.
    pub flops: Flops,
    /// Training seconds, as the other run measured them.
    pub training_seconds: f64,
}

/// The other run's first steps, as it has written them down.
pub(super) struct Ahead {
    prefix: Prefix,
    steps: BTreeMap<Step, StepRecord>,
    /// The first before each step.
    evaluations: BTreeMap<Step, EvaluationRecord>,
    /// By step and name.
    suites: BTreeMap<Step, BTreeMap<String, SuiteRecord>>,
    /// The step before which the engine's tensors are this run's.
    tensors_before: Option<Step>,
}

impl Ahead {
    /// Reads what the other run has written; `None` where there is no checkpoint to end at.
    ///
    /// # Errors
    /// What it has written cannot be read: this run has to be trained from its own start.
    pub(super) fn open(prefix: Prefix, config: &RunConfig) -> Result<Option<Ahead>, TrainError> {
        if !prefix.folder.fork(prefix.until).is_dir() {
            return Ok(None);
        }
        let unreadable = |error: TrainError| TrainError::OtherPrefix {
            run: prefix.run.clone(),
            step: Step(0),
            reason: error.to_string(),
        };
        let mut evaluations = BTreeMap::new();
        for record in
            read_whole_lines::<EvaluationRecord>(&prefix.folder.evaluations_file()).map_err(unreadable)?
        {
            // A second one before the same step was asked for, after what was decided there.
            evaluations.entry(record.step).or_insert(record);
        }
        let mut suites: BTreeMap<Step, BTreeMap<String, SuiteRecord>> = BTreeMap::new();
        if !config.evaluation.suites.is_empty() {
            for record in read_whole_lines::<SuiteRecord>(&prefix.folder.suites_file()).map_err(unreadable)? {
                suites.entry(record.step).or_default().insert(record.suite.clone(), record);
            }
        }
        let steps = read_whole_lines::<StepRecord>(&prefix.folder.metrics_file()).map_err(unreadable)?;
        let steps = steps.into_iter().map(|record| (record.step, record)).collect();
        // The initial model is the engine's already.
        Ok(Some(Ahead { prefix, steps, evaluations, suites, tensors_before: Some(Step(0)) }))
    }

    fn differs(&self, step: Step, reason: &str) -> TrainError {
        TrainError::OtherPrefix { run: self.prefix.run.clone(), step, reason: reason.into() }
    }
}

impl Run<'_> {
    /// Makes the engine's tensors those before the coming step.
    pub(super) fn need_tensors(&mut self) -> Result<(), TrainError> {
        let step = self.state.step;
        let Some(ahead) = self.ahead.as_mut().filter(|ahead| ahead.tensors_before != Some(step)) else {
            return Ok(());
        };
        let fork = ahead.prefix.folder.fork(step);
        if !fork.is_dir() {
            return Err(ahead.differs(step, "it looks at its tensors here, and the other run has kept none"));
        }
        // Damaged or gone, it is the other run's: this one can do without.
        let loaded = checkpoint::load(&fork, &self.parts.config.model);
        let (theirs, tensors) = loaded.map_err(|error| ahead.differs(step, &error.to_string()))?;
        if !self.state.trail.is_known()
            || theirs.trail != self.state.trail
            || theirs.skipped != self.state.skipped
        {
            return Err(ahead.differs(step, "their trails differ"));
        }
        tensors.restore(&mut *self.parts.engine)?;
        ahead.tensors_before = Some(step);
        take_times(&mut self.state, &theirs);
        self.state.batches_sha256 = theirs.batches_sha256;
        Ok(())
    }

    /// Where a run that is still a copy has a fault, there is no state of it to save: by itself it has.
    pub(super) fn fault_ahead(&self, fault: &TrainError) -> Option<TrainError> {
        let ahead = self.ahead.as_ref().filter(|_| fault.class() != ErrorClass::Interrupted)?;
        Some(ahead.differs(self.state.step, &fault.to_string()))
    }

    /// Goes on by itself where the prefix is over.
    pub(super) fn leave_prefix(&mut self) -> Result<(), TrainError> {
        let step = self.state.step;
        if self.ahead.as_ref().is_none_or(|ahead| ahead.prefix.until != step) {
            return Ok(());
        }
        self.need_tensors()?;
        let Some(ahead) = self.ahead.take() else { return Ok(()) };
        let costs = &self.state.costs;
        self.state.shared = Some(SharedPrefix {
            run: ahead.prefix.run,
            steps: step,
            flops: costs.flops.total(),
            training_seconds: costs.wall.training_seconds,
        });
        // Now, so that the other run need not keep its own any longer.
        self.save(None)
    }

    /// The other run's evaluation before the coming step, where the engine's tensors are of another one.
    pub(super) fn evaluated_ahead(&mut self) -> Result<Option<f64>, TrainError> {
        let step = self.state.step;
        let Some(ahead) = self.ahead.as_ref().filter(|ahead| ahead.tensors_before != Some(step)) else {
            return Ok(None);
        };
        let record =
            ahead.evaluations.get(&step).ok_or_else(|| ahead.differs(step, "it is evaluated here"))?;
        self.state.batches_sha256.clone_from(&record.batches_sha256);
        self.state.costs.wall.training_seconds = record.wall_seconds;
        self.state.costs.joules = record.joules;
        Ok(Some(record.loss_nats_per_token))
    }

    /// What these suites came to in the other run before the coming step; `None` where they are to be asked here, the engine's
    /// tensors being this run's by then.
    pub(super) fn asked_ahead(&mut self, due: &[usize]) -> Result<Option<Vec<SuiteResult>>, TrainError> {
        let step = self.state.step;
        let Some(ahead) = self.ahead.as_ref().filter(|ahead| ahead.tensors_before != Some(step)) else {
            return Ok(None);
        };
        let of_step = ahead.suites.get(&step);
        let result = |&index: &usize| {
            let record = of_step?.get(&self.parts.suites[index].config.name)?;
            Some(record.result.clone())
        };
        if let Some(results) = due.iter().map(result).collect() {
            return Ok(Some(results));
        }
        // It was stopped before them, and has saved without them.
        self.need_tensors()?;
        Ok(None)
    }

    /// Takes the coming step over from the other run.
    pub(super) fn step_ahead(&mut self) -> Result<(), TrainError> {
        let (step, state) = (self.state.step, &mut self.state);
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        let theirs = ahead.steps.get(&step).ok_or_else(|| ahead.differs(step, "it takes this step"))?;
        let progress = progress(self.parts.config, &state.costs);
        let learning_rate = state.course.schedule.rate(step, progress);
        state.trail.add_step(self.step_key, learning_rate);
        ahead.tensors_before = None;
        let StepRecord { loss_nats_per_token, gradient_norm, skipped, .. } = theirs.clone();
        let record = self.pass_step(learning_rate);
        self.enter_step(StepRecord { loss_nats_per_token, gradient_norm, skipped, ..record })
    }
}

/// Times are the other run's, as the work was; but a run's calls of its plugins are its own.
fn take_times(state: &mut RunState, theirs: &RunState) {
    let own = std::mem::replace(&mut state.costs.wall, theirs.costs.wall.clone());
    state.costs.wall.plugin_seconds = own.plugin_seconds;
    state.costs.wall.plugins = own.plugins;
    state.costs.alone &= theirs.costs.alone;
    state.costs.joules = theirs.costs.joules.filter(|_| state.costs.alone);
}
