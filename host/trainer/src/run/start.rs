//! How a run begins, or goes on from its newest checkpoint.

use std::collections::{BTreeMap, VecDeque};

use data::ReadAhead;
use engine::{EngineInfo, Snapshot, Step};
use plugin_host::Loaded;
use plugin_host::api::{GrowthStrategy, Plan, RunEvent};
use sha2::{Digest, Sha256};

use super::logs::Logs;
use super::shadows::Shadows;
use super::writer::Writer;
use super::{Ahead, Parts, Run, SavedPlugins};
use crate::checkpoint::{self, LogLengths, RunState, Untold};
use crate::costs::budget::most_steps;
use crate::costs::energy::EnergyCounter;
use crate::costs::{Costs, Speedometer, StepCost};
use crate::course::schedule::RunningSchedule;
use crate::course::{Course, Rules};
use crate::folder::RunFolder;
use crate::folder::binding::RunFile;
use crate::folder::records::Decision;
use crate::growth::Initializers;
use crate::storage::create_folder;
use crate::trail::{StepKey, Trail};
use crate::{RunConfig, TrainError};

impl<'a> Run<'a> {
    pub(super) fn start(mut parts: Parts<'a>) -> Result<Run<'a>, TrainError> {
        let config = parts.config;
        let shape = &config.model;
        let info = parts.engine.info();
        let data = parts.corpus.describe()?;
        let Parts { strategy, initializers, initial, .. } = &parts;
        RunFile::new(config, &info, strategy, initializers, initial, &data, parts.suites)
            .bind(parts.folder)?;
        let plan = plan(&mut parts.strategy, config, &info)?;
        let slots = parts.initializers.keys().cloned().collect();
        let rules = Rules::new(config, &plan, slots).map_err(|error| parts.strategy.fault("plan", &error))?;
        let micro = config.training.micro_batch_sequences;
        let validation = parts.corpus.validation_batches(config.evaluation.sequences, micro)?;
        let looks = parts.corpus.validation_batches(config.audit.probe_sequences, micro)?;

        create_folder(&parts.folder.checkpoints())?;
        checkpoint::remove_half_written(&parts.folder.checkpoints())?;
        let found = newest_checkpoint(parts.folder, config)?;
        let resumed = found.is_some();
        // What is measured in a step is not written down whole: such a run has to take its steps itself.
        let prefix = parts.prefix.take().filter(|_| !resumed && plan.measure.is_none());
        let ahead = prefix.map(|prefix| Ahead::open(prefix, config)).transpose()?.flatten();
        let mut state = match found {
            Some(found) => go_on(&mut parts, found)?,
            None => {
                let trail = Trail::start(config, &info, &data.sha256, parts.initial.sha256());
                begin(&mut parts, &plan, trail)?
            }
        };
        let energy = EnergyCounter::of(&*parts.engine).filter(|_| parts.alone);
        state.costs.sit(!resumed, parts.alone, energy.is_some());
        let (strategies, at) = (std::mem::take(&mut parts.shadows), (state.step, &state.plugins));
        let mut logs =
            Logs::open(parts.folder, state.logs, !parts.suites.is_empty(), !strategies.is_empty())?;
        let shadows = Shadows::start(strategies, config, &info, at, &mut logs)?;
        let mut run = Run {
            name: config.name(),
            step_cost: StepCost::of(shape, &state.course),
            step_key: StepKey::of(&state.course),
            ahead,
            blocks_view: state.course.view(),
            shadows,
            logs,
            batches: ReadAhead::new(parts.corpus, config.seed),
            unread: VecDeque::new(),
            speedometer: Speedometer::new(),
            energy,
            writer: Writer::default(),
            parts,
            rules,
            measure: plan.measure,
            state,
            validation,
            looks,
            resumed,
            before_asking: None,
        };
        if !resumed {
            run.logs.decisions.add(&Decision::Planned { plan })?;
        }
        (run.parts.report)(RunEvent::RunStarted {
            run: run.name.clone(),
            folder: run.parts.folder.path().to_path_buf(),
            first_step: run.state.step.0,
            most_steps: most_steps(config, run.state.step, &run.state.costs, &run.step_cost),
        });
        Ok(run)
    }
}

fn plan(
    strategy: &mut Loaded<dyn GrowthStrategy>,
    config: &RunConfig,
    engine: &EngineInfo,
) -> Result<Plan, TrainError> {
    crate::rehearsal::plan(strategy, config, &config.initializers.keys().cloned().collect(), engine)
}

/// As a checkpoint has it: tensors into the engine, states into the plugins.
fn go_on(parts: &mut Parts<'_>, found: (RunState, Snapshot)) -> Result<RunState, TrainError> {
    let (state, tensors) = found;
    let run = parts.config.name();
    tracing::info!(run, "goes on from the checkpoint before step {}", state.step);
    let (before, now) = (parts.folder.bound_run()?.made_by.device, parts.engine.info().device);
    if before != now {
        tracing::warn!(
            run,
            "it was begun on {before} and goes on with {now}: its last digits may be others than on one device alone"
        );
    }
    tensors.restore(&mut *parts.engine)?;
    restore_plugins(parts, &state)?;
    Ok(state)
}

/// From the initial model.
fn begin(parts: &mut Parts<'_>, plan: &Plan, trail: Trail) -> Result<RunState, TrainError> {
    let state = fresh_state(parts.config, plan, trail);
    parts.initial.fill_in(&mut *parts.engine, plan.initial_depth, state.course.widths)?;
    Ok(state)
}

/// The newest checkpoint that is whole; a damaged one is passed over with a warning that says what is lost.
fn newest_checkpoint(
    folder: &RunFolder,
    config: &RunConfig,
) -> Result<Option<(RunState, Snapshot)>, TrainError> {
    for path in checkpoint::list(&folder.checkpoints())? {
        match checkpoint::load(&path, &config.model) {
            Ok(found) => return Ok(Some(found)),
            // It is whole: going on from an older one would throw its steps away.
            Err(error @ TrainError::OtherFormat { .. }) => return Err(error),
            Err(error) => tracing::warn!(
                run = config.name(),
                "{error}; the checkpoint {} is passed over, and the steps since the one before it are done again",
                path.display()
            ),
        }
    }
    Ok(None)
}

fn restore_plugins(parts: &mut Parts<'_>, state: &RunState) -> Result<(), TrainError> {
    let saved = state.plugins.get("strategy").ok_or_else(|| no_state("strategy"))?;
    parts.strategy.ask("restore", |strategy| strategy.restore(saved))?;
    restore_initializers(&mut parts.initializers, &state.plugins)
}

pub(super) fn restore_initializers(
    initializers: &mut Initializers,
    plugins: &SavedPlugins,
) -> Result<(), TrainError> {
    for (slot, initializer) in initializers {
        let saved = plugins.get(&initializer_state(slot)).ok_or_else(|| no_state(slot))?;
        initializer.ask("restore", |initializer| initializer.restore(saved))?;
    }
    Ok(())
}

fn no_state(name: &str) -> TrainError {
    TrainError::Internal(format!("the checkpoint holds no state of `{name}`"))
}

pub(super) fn initializer_state(slot: &str) -> String {
    format!("initializer-{slot}")
}

fn fresh_state(config: &RunConfig, plan: &Plan, trail: Trail) -> RunState {
    RunState {
        step: Step(0),
        decided: false,
        stopped: None,
        course: Course::start(
            &config.model,
            plan.initial_depth,
            config.training.sequences_per_step,
            RunningSchedule::new(&config.schedule),
        )
        .planned(plan),
        costs: Costs::default(),
        phase_start: None,
        losses: Vec::new(),
        evaluations: Vec::new(),
        suites_asked: BTreeMap::new(),
        untold: Untold::default(),
        batches_sha256: format!("{:x}", Sha256::digest(b"")),
        trail,
        skipped: Vec::new(),
        shared: None,
        logs: LogLengths::default(),
        plugins: BTreeMap::new(),
    }
}
