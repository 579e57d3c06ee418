//! Every arm rehearsed, and its runs laid out: what a study will do, before its first step. What is foreseen of cost, memory and
//! shared prefixes is worked out in `planning/`.

use std::collections::BTreeSet;
use std::path::Path;

use engine::{Engine, EngineInfo, Flops};
use trainer::{Initializers, Rehearsal, RehearsedPhase, RunConfig, TrainError, check_shadow, rehearse};

use super::Lab;
use crate::StudyError;
use crate::planning::foresight::{RunDisk, StagedPart};
use crate::planning::memory::{PhaseMemory, begun_with, fitting};

/// An arm as a dry run foresees it.
#[derive(Clone, Debug)]
pub struct PlannedArm {
    /// Its name.
    pub arm: String,
    /// What a run of it with the longest budget will do.
    pub rehearsal: Rehearsal,
    /// What those with shorter budgets will do, in the order of the runs.
    pub shorter: Vec<Rehearsal>,
    /// What its phases before the last cost against the baseline; `None` where there are none.
    pub staged: Option<StagedPart>,
    /// What a run of it takes on disk.
    pub disk: RunDisk,
    /// What each of its phases holds in memory; `None` where the engine cannot tell.
    pub memory: Option<Vec<PhaseMemory>>,
    /// The runs, one a seed and budget.
    pub runs: Vec<RunConfig>,
}

impl Lab<'_> {
    /// Rehearses every arm, the baseline first, and lays out the runs.
    ///
    /// # Errors
    /// An arm that cannot run.
    pub fn plan(&self) -> Result<Vec<PlannedArm>, StudyError> {
        self.plan_beside(None, &[])
    }

    /// The same of the baseline and these arms; of all where none is named. What is wrong with others is not found.
    ///
    /// # Errors
    /// One of them that cannot run.
    pub fn plan_arms(&self, arms: &[String]) -> Result<Vec<PlannedArm>, StudyError> {
        self.plan_beside(None, arms)
    }

    /// The same for runs in that folder: a micro-batch that was found when they were begun is kept.
    ///
    /// # Errors
    /// An arm that cannot run, or a micro-batch that does not fit below the limit as it is now.
    pub fn plan_for(&self, folder: &Path) -> Result<Vec<PlannedArm>, StudyError> {
        self.plan_beside(Some(folder), &[])
    }

    fn plan_beside(&self, folder: Option<&Path>, only: &[String]) -> Result<Vec<PlannedArm>, StudyError> {
        let baseline = &self.file.study.baseline;
        let (model, precision) = (&self.file.model, self.file.training.precision);
        let engine = (self.build_engine)(model, precision).map_err(TrainError::from)?;
        let alone = self.plan_arm(baseline, None, &*engine)?;
        let flops = alone.rehearsal.costs.flops.total();
        let mut planned = vec![alone];
        let is_wanted = |arm: &String| only.is_empty() || only.contains(arm);
        for arm in self.file.arms.keys().filter(|arm| *arm != baseline && is_wanted(arm)) {
            planned.push(self.plan_arm(arm, Some(flops), &*engine)?);
        }
        let whole = planned[0].rehearsal.clone();
        for arm in &mut planned {
            arm.staged = StagedPart::of(&arm.rehearsal, &whole);
        }
        self.tell_memory(&mut planned, &*engine, folder)?;
        Ok(planned)
    }

    /// What each phase will hold, after the micro-batch was found where the file leaves that to us.
    fn tell_memory(
        &self,
        planned: &mut [PlannedArm],
        engine: &dyn Engine,
        folder: Option<&Path>,
    ) -> Result<(), StudyError> {
        if let Some(limit) = self.file.training.memory_limit_mib {
            let runs: Vec<(&RunConfig, &[RehearsedPhase])> =
                planned.iter().map(|arm| (&arm.runs[0], arm.rehearsal.phases.as_slice())).collect();
            let begun_with = folder.and_then(begun_with);
            let sequences = fitting(engine, &runs, limit << 20, begun_with);
            let sequences = sequences.map_err(|error| self.source.locate(error))?;
            let runs = planned.iter_mut().flat_map(|arm| &mut arm.runs);
            runs.for_each(|run| run.training.micro_batch_sequences = sequences);
        }
        for PlannedArm { rehearsal, memory, runs, .. } in planned {
            let run = &runs[0];
            let sequences = run.training.micro_batch_sequences;
            *memory = PhaseMemory::of_phases(engine, run, &rehearsal.phases, sequences);
        }
        Ok(())
    }

    fn plan_arm(
        &self,
        arm: &str,
        baseline_flops: Option<Flops>,
        engine: &dyn Engine,
    ) -> Result<PlannedArm, StudyError> {
        let seeds = &self.file.study.seeds;
        let (mut runs, budgets) = (Vec::new(), self.file.budgets(arm));
        for budget in &budgets {
            let flops = baseline_flops.filter(|_| *budget == "compute");
            for &seed in seeds {
                runs.push(self.file.run(arm, seed, flops).map_err(|error| self.source.locate(error))?);
            }
        }
        // Budgets are in order of length.
        let longest = &runs[runs.len() - 1];
        let mut initializers = Initializers::new();
        for (slot, choice) in &longest.initializers {
            let loaded = self.registry.initializer(&self.at_home(choice)).map_err(TrainError::from);
            let at_slot = |error| self.at_choice(&format!("arms.{arm}.initializers.{slot}"), error);
            initializers.insert(slot.clone(), loaded.map_err(at_slot)?);
        }
        let mut shorter = Vec::new();
        for of_budget in runs.chunks(seeds.len()).take(budgets.len() - 1) {
            shorter.push(self.rehearse(arm, &of_budget[0], engine)?);
        }
        let rehearsal = self.rehearse(arm, longest, engine)?;
        for wanted in &rehearsal.wanted {
            if let Some(initializer) = initializers.get_mut(&wanted.slot) {
                let tried = wanted.try_out(initializer, self.file.model.width);
                tried.map_err(|error| self.in_arm(arm, error))?;
            }
        }
        self.check_shadows(arm, longest, &engine.info())?;
        let disk = RunDisk::of(&rehearsal, &self.file.model, &self.file.checkpoints);
        Ok(PlannedArm { arm: arm.to_owned(), rehearsal, shorter, staged: None, disk, memory: None, runs })
    }

    fn rehearse(&self, arm: &str, run: &RunConfig, engine: &dyn Engine) -> Result<Rehearsal, StudyError> {
        let slots: BTreeSet<String> = run.initializers.keys().cloned().collect();
        let strategy = self.strategy(run);
        let mut strategy =
            strategy.map_err(|error| self.at_choice(&format!("arms.{arm}.strategy"), error))?;
        rehearse(run, &mut strategy, &slots, &engine.info()).map_err(|error| self.in_arm(arm, error))
    }

    /// A shadow that cannot ride along is told of before anything is trained, as all that a study names is.
    fn check_shadows(&self, arm: &str, run: &RunConfig, engine: &EngineInfo) -> Result<(), StudyError> {
        for (index, choice) in run.shadows.iter().enumerate() {
            let loaded = self.shadow(choice);
            let checked = loaded.and_then(|shadow| check_shadow(shadow, run, engine));
            checked.map_err(|error| self.at_choice(&format!("arms.{arm}.shadows[{index}]"), error))?;
        }
        Ok(())
    }
}
