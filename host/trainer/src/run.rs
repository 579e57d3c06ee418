//! The loop of one run, read top to bottom:
//!
//! ```text
//! start, or go on from the newest checkpoint
//! until the budget is spent or the strategy stops:
//!     evaluate if it is due                     -> evals.jsonl, event
//!     save if it is due                         -> checkpoints/
//!     ask the strategy                          -> requests, decisions.jsonl
//!     carry the requests out                    -> receipt, event; rolled back if rejected
//!     forward, backward, update                 -> metrics.jsonl, event
//! evaluate, audit, save, DONE
//! ```
//!
//! Evaluation comes before growth: the loss right after an insertion is not comparable. A checkpoint comes
//! before the strategy is asked, so that going on asks again, and nothing grows twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use data::Corpus;
use engine::{
    AdamW, Edit, Engine, Flops, LayerIndex, ModelShape, Snapshot, Step, StepPlan, TensorId, TensorRole,
    TokenBatch, Wait,
};
use plugin_host::Loaded;
use plugin_host::api::{
    Action, Actions, Budget, Evaluation, Event, GrowthStrategy, Key, LossPoint, ModelFacts, Plan, RunEvent,
    RunFacts, StepContext,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::audit::{PhaseStart, hexadecimal};
use crate::binding::RunFile;
use crate::boundary::{Boundary, Judgement};
use crate::checkpoint::{self, LogLengths, RunState};
use crate::costs::{Costs, Speedometer, StepCost, peak_memory_bytes, timed};
use crate::course::{Course, Rules};
use crate::folder::{JsonLines, RunFolder, create_folder, write_json};
use crate::growth::{self, Gardener, Initializers, Probe};
use crate::initial::InitialModel;
use crate::records::{Decision, EvaluationRecord, StepRecord};
use crate::schedule::RunningSchedule;
use crate::{RunConfig, TrainError};

/// Most training losses and evaluations that a strategy is shown.
const RECENT: usize = 1024;

/// What a run is made of.
pub struct Parts<'a> {
    /// Its configuration, checked.
    pub config: &'a RunConfig,
    /// An engine with no block yet.
    pub engine: Box<dyn Engine>,
    /// Decides.
    pub strategy: Loaded<dyn GrowthStrategy>,
    /// Fill in new blocks, by slot.
    pub initializers: Initializers,
    /// The model that baseline and grown runs share.
    pub initial: InitialModel,
    /// What is read.
    pub corpus: &'a Corpus,
    /// Where it is written down.
    pub folder: &'a RunFolder,
    /// Where events go.
    pub report: &'a (dyn Fn(RunEvent) + Sync),
    /// Set when the run is to save and stop.
    pub interrupt: &'a AtomicBool,
}

/// What a finished run came to; also the content of `DONE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// `arm/seed-N`.
    pub run: String,
    /// Steps taken.
    pub steps: Step,
    /// Last validation loss in nats per token.
    pub loss_nats_per_token: f64,
    /// What it has cost.
    pub costs: Costs,
    /// Why the strategy ended the run, if it did.
    pub stopped: Option<String>,
    /// Most memory that the process held, in bytes, other runs in it included.
    pub peak_memory_bytes: Option<u64>,
    /// Most device memory held, in bytes.
    pub device_memory_peak_bytes: Option<u64>,
}

/// Trains one run to its end, going on from its newest checkpoint if it has one.
///
/// # Errors
/// Whatever ends the run before its time. Where the state of the coming step is still whole (a plugin's
/// fault, an interruption) it is saved first.
pub fn run(parts: Parts<'_>) -> Result<RunSummary, TrainError> {
    let mut run = Run::start(parts)?;
    let outcome = run.train_until_done();
    if let Err(error) = &outcome {
        let reason = error.to_string();
        (run.parts.report)(RunEvent::RunStopped { run: run.name.clone(), reason });
    }
    outcome
}

/// What a strategy is told about a run.
pub(crate) fn run_facts(config: &RunConfig) -> RunFacts {
    let shape = &config.model;
    RunFacts {
        model: ModelFacts {
            layers: shape.layers,
            width: shape.width,
            heads: shape.heads,
            context: shape.context,
            vocabulary: shape.vocabulary,
            init_std: shape.init_std,
        },
        tokens_per_step: config.tokens_per_step().0,
        budget: Budget {
            reference_steps: config.budget.reference_steps,
            flops: config.budget.flops.map(Flops::as_f64),
        },
        constant_rate: config.schedule.is_constant(),
    }
}

/// Share of the budget that these costs have spent, 0 to 1.
pub(crate) fn progress(config: &RunConfig, costs: &Costs) -> f64 {
    let share = match config.budget.flops {
        Some(flops) => costs.flops.total().as_f64() / flops.as_f64(),
        None => costs.tokens.0 as f64 / config.reference_tokens().0 as f64,
    };
    share.min(1.0)
}

/// Whether one more step fits the budget.
pub(crate) fn step_fits(config: &RunConfig, costs: &Costs, step: &StepCost) -> bool {
    match config.budget.flops {
        Some(flops) => costs.flops.total() + step.flops.total() <= flops,
        None => costs.tokens < config.reference_tokens(),
    }
}

struct Run<'a> {
    parts: Parts<'a>,
    name: String,
    rules: Rules,
    state: RunState,
    step_cost: StepCost,
    blocks_view: Vec<plugin_host::api::Block>,
    logs: Logs,
    validation: Vec<TokenBatch>,
    probe: Vec<TokenBatch>,
    resumed: bool,
    /// While the strategy is being asked: what the plugins had saved before that.
    before_asking: Option<SavedPlugins>,
    /// Steps whose losses have not been read yet, oldest first.
    unread: std::collections::VecDeque<StepRecord>,
    speedometer: Speedometer,
    stopped: Option<String>,
}

/// What the plugins saved, by file name.
type SavedPlugins = BTreeMap<String, plugin_host::api::Saved>;

struct Logs {
    metrics: JsonLines,
    evaluations: JsonLines,
    decisions: JsonLines,
}

impl Logs {
    fn open(folder: &RunFolder, lengths: LogLengths) -> Result<Logs, TrainError> {
        Ok(Logs {
            metrics: JsonLines::open(&folder.metrics_file(), lengths.metrics)?,
            evaluations: JsonLines::open(&folder.evaluations_file(), lengths.evaluations)?,
            decisions: JsonLines::open(&folder.decisions_file(), lengths.decisions)?,
        })
    }

    fn sync(&mut self) -> Result<LogLengths, TrainError> {
        Ok(LogLengths {
            metrics: self.metrics.sync()?,
            evaluations: self.evaluations.sync()?,
            decisions: self.decisions.sync()?,
        })
    }
}

// ---------------------------------------------------------------- start and end

impl<'a> Run<'a> {
    fn start(mut parts: Parts<'a>) -> Result<Run<'a>, TrainError> {
        let config = parts.config;
        let shape = &config.model;
        let info = parts.engine.info();
        let data = parts.corpus.describe()?;
        RunFile::new(config, &info, &parts.strategy, &parts.initializers, &data).claim(parts.folder)?;
        let plan = plan(&mut parts.strategy, config)?;
        let slots = parts.initializers.keys().cloned().collect();
        let rules = Rules::new(shape, &plan, slots).map_err(|error| parts.strategy.fault("plan", &error))?;
        let micro = config.training.micro_batch_sequences;
        let validation = parts.corpus.validation_batches(config.evaluation.sequences, micro)?;
        let probe = parts.corpus.validation_batches(config.audit.probe_sequences, micro)?;

        create_folder(&parts.folder.checkpoints())?;
        let found = newest_checkpoint(parts.folder, config)?;
        let resumed = found.is_some();
        let state = match found {
            Some((state, tensors)) => {
                tensors.restore(&mut *parts.engine)?;
                restore_plugins(&mut parts, &state)?;
                state
            }
            None => {
                fill_in(&mut *parts.engine, &parts.initial, plan.initial_depth)?;
                fresh_state(config, plan.initial_depth)
            }
        };
        let mut run = Run {
            name: config.name(),
            step_cost: StepCost::of(shape, &state.course, config.training.sequences_per_step),
            blocks_view: state.course.view(),
            logs: Logs::open(parts.folder, state.logs)?,
            unread: std::collections::VecDeque::new(),
            speedometer: Speedometer::new(),
            stopped: None,
            parts,
            rules,
            state,
            validation,
            probe,
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
            most_steps: run.most_steps(),
        });
        Ok(run)
    }

    fn train_until_done(&mut self) -> Result<RunSummary, TrainError> {
        while self.stopped.is_none() && step_fits(self.parts.config, &self.state.costs, &self.step_cost) {
            if self.evaluation_is_due() {
                self.evaluate()?;
            }
            if self.parts.interrupt.load(Ordering::Relaxed) {
                self.save(None)?;
                return Err(TrainError::Interrupted { step: self.state.step });
            }
            if self.checkpoint_is_due() {
                self.save(None)?;
            }
            if !self.state.decided {
                self.decide()?;
                continue; // What was decided may have changed what the step costs.
            }
            self.step()?;
        }
        self.finish()
    }

    fn finish(&mut self) -> Result<RunSummary, TrainError> {
        self.read_outcomes(Wait::ForAll)?;
        let already = self.state.evaluations.last().is_some_and(|last| last.step == self.state.step.0);
        if !already {
            self.evaluate()?;
        }
        self.end_phase()?;
        self.save(None)?;
        let summary = RunSummary {
            run: self.name.clone(),
            steps: self.state.step,
            loss_nats_per_token: self
                .state
                .evaluations
                .last()
                .map_or(f64::NAN, |last| last.loss_nats_per_token),
            costs: self.state.costs.clone(),
            stopped: self.stopped.clone(),
            peak_memory_bytes: peak_memory_bytes(),
            device_memory_peak_bytes: self.parts.engine.info().device_memory_peak_bytes,
        };
        write_json(&self.parts.folder.done_file(), &summary)?;
        (self.parts.report)(RunEvent::RunFinished {
            run: self.name.clone(),
            steps: summary.steps.0,
            tokens: summary.costs.tokens.0,
            loss_nats_per_token: summary.loss_nats_per_token,
            wall_seconds: summary.costs.wall.training_seconds,
        });
        Ok(summary)
    }

    fn most_steps(&self) -> u64 {
        let config = self.parts.config;
        match config.budget.flops {
            None => config.budget.reference_steps,
            // Of the cheapest step so far: more cannot fit, as long as the model only grows.
            Some(flops) => {
                let left = flops.0.saturating_sub(self.state.costs.flops.total().0);
                let step = self.step_cost.flops.total().0.max(1);
                self.state.step.0 + u64::try_from(left / step).unwrap_or(u64::MAX)
            }
        }
    }
}

fn plan(strategy: &mut Loaded<dyn GrowthStrategy>, config: &RunConfig) -> Result<Plan, TrainError> {
    crate::rehearsal::plan(strategy, config, &config.initializers.keys().cloned().collect())
}

/// The newest checkpoint that is whole; a damaged one is passed over with a warning that says what is lost.
fn newest_checkpoint(
    folder: &RunFolder,
    config: &RunConfig,
) -> Result<Option<(RunState, Snapshot)>, TrainError> {
    for path in checkpoint::list(&folder.checkpoints())? {
        match checkpoint::load(&path, &config.model) {
            Ok(found) => return Ok(Some(found)),
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
    let missing = |name: &str| TrainError::Internal(format!("the checkpoint holds no state of `{name}`"));
    let saved = state.plugins.get("strategy").ok_or_else(|| missing("strategy"))?;
    let restored = parts.strategy.plugin.restore(saved);
    restored.map_err(|error| parts.strategy.fault("restore", &error))?;
    for (slot, initializer) in &mut parts.initializers {
        let saved = state.plugins.get(&initializer_state(slot)).ok_or_else(|| missing(slot))?;
        let restored = initializer.plugin.restore(saved);
        restored.map_err(|error| initializer.fault("restore", &error))?;
    }
    Ok(())
}

fn initializer_state(slot: &str) -> String {
    format!("initializer-{slot}")
}

fn fill_in(engine: &mut dyn Engine, initial: &InitialModel, depth: usize) -> Result<(), TrainError> {
    for (tensor, values) in initial.shared()? {
        engine.write(tensor, &values)?;
    }
    for position in 0..depth {
        let layer = engine::LayerId(position as u64);
        let weights = initial.block(layer)?.ok_or_else(|| {
            crate::ConfigError::new(
                "initial_model.from",
                format!("the initial model has {position} blocks; the strategy starts with {depth}"),
                "start from a deeper model, or leave `initial_model` out",
            )
        })?;
        engine.edit(Edit::Insert { at: LayerIndex(position), layer, weights })?;
    }
    Ok(())
}

fn fresh_state(config: &RunConfig, depth: usize) -> RunState {
    RunState {
        step: Step(0),
        decided: false,
        course: Course::start(&config.model, depth, RunningSchedule::new(&config.schedule)),
        costs: Costs::default(),
        phase_start: None,
        losses: Vec::new(),
        evaluations: Vec::new(),
        evaluation_untold: false,
        batches_sha256: hexadecimal(Sha256::new()),
        logs: LogLengths::default(),
        plugins: BTreeMap::new(),
    }
}

// ---------------------------------------------------------------- evaluation and checkpoints

impl Run<'_> {
    fn evaluation_is_due(&self) -> bool {
        let (step, config) = (self.state.step.0, self.parts.config);
        let at_token_budget = step == config.budget.reference_steps;
        let due = step % config.evaluation.every_steps == 0 || at_token_budget;
        due && self.state.evaluations.last().is_none_or(|last| last.step != step)
    }

    fn evaluate(&mut self) -> Result<(), TrainError> {
        self.read_outcomes(Wait::ForAll)?;
        let engine = &mut *self.parts.engine;
        let batches = &self.validation;
        let losses = timed(&mut self.state.costs.wall.evaluation_seconds, || losses_of(engine, batches))?;
        let loss = growth::mean(&losses);
        let RunState { step, costs, course, .. } = &self.state;
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { step: *step, loss });
        }
        self.logs.evaluations.add(&EvaluationRecord {
            step: *step,
            tokens: costs.tokens,
            flops: costs.flops.total(),
            flops_weight_matmul: costs.flops.weight_matmul(),
            flops_li2024: costs.flops_li2024,
            wall_seconds: costs.wall.training_seconds,
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
        self.state.evaluation_untold = true;
        Ok(())
    }

    fn checkpoint_is_due(&self) -> bool {
        let step = self.state.step.0;
        step > 0 && step.is_multiple_of(self.parts.config.checkpoints.every_steps) && !self.state.decided
    }

    /// Saves under the step's number, and a name where it is to be kept.
    fn save(&mut self, name: Option<&str>) -> Result<(), TrainError> {
        self.read_outcomes(Wait::ForAll)?;
        self.state.logs = self.logs.sync()?;
        self.state.plugins = match &self.before_asking {
            // Going on asks again; and a plugin that has panicked can say no more what its state is.
            Some(before) if !self.state.decided => before.clone(),
            _ => self.saved_plugins()?,
        };
        let config = self.parts.config;
        let checkpoints = self.parts.folder.checkpoints();
        let (engine, state) = (&*self.parts.engine, &self.state);
        let mut seconds = 0.0;
        timed(&mut seconds, || {
            let tensors = Snapshot::take(engine, &config.model)?;
            let number = format!("{:08}", state.step.0);
            let name = name.map_or(number.clone(), |name| format!("{number}-{name}"));
            checkpoint::save(&checkpoints, &name, &config.model, state, &tensors)?;
            checkpoint::prune(&checkpoints, config.checkpoints.keep)
        })?;
        self.state.costs.wall.checkpoint_seconds += seconds;
        Ok(())
    }

    fn saved_plugins(&self) -> Result<SavedPlugins, TrainError> {
        let strategy = &self.parts.strategy;
        let saved = strategy.plugin.save().map_err(|error| strategy.fault("save", &error))?;
        let mut all = BTreeMap::from([("strategy".to_owned(), saved)]);
        for (slot, initializer) in &self.parts.initializers {
            let saved = initializer.plugin.save().map_err(|error| initializer.fault("save", &error))?;
            all.insert(initializer_state(slot), saved);
        }
        Ok(all)
    }
}

/// Every token's loss, batch after batch.
fn losses_of(engine: &mut dyn Engine, batches: &[TokenBatch]) -> Result<Vec<f32>, TrainError> {
    let mut losses = Vec::new();
    for batch in batches {
        losses.extend(engine.evaluate(batch)?);
    }
    Ok(losses)
}

fn push_recent<T>(recent: &mut Vec<T>, newest: T) {
    recent.push(newest);
    // In bulk, so that a step does not move a thousand entries.
    if recent.len() >= 2 * RECENT {
        recent.drain(..RECENT);
    }
}

fn newest<T>(recent: &[T]) -> &[T] {
    &recent[recent.len().saturating_sub(RECENT)..]
}

// ---------------------------------------------------------------- decisions

impl Run<'_> {
    /// Asks the strategy, and carries out what it requests.
    fn decide(&mut self) -> Result<(), TrainError> {
        self.before_asking = Some(self.saved_plugins()?);
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
        let Boundary { course, taken, .. } = boundary;
        if !taken.is_empty() {
            self.apply(course, taken)?;
        }
        self.begin_first_phase()?;
        self.state.decided = true;
        self.state.evaluation_untold = false;
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
        if let Some(last) = state.evaluations.last().filter(|_| state.evaluation_untold) {
            events.push(Event::Evaluated { step: last.step, loss_nats_per_token: last.loss_nats_per_token });
        }
        let strategy = &mut self.parts.strategy;
        let mut actions = Actions::new(boundary);
        let mut seconds = 0.0;
        let asked = timed(&mut seconds, || {
            for event in &events {
                strategy
                    .plugin
                    .on_event(event, &mut actions)
                    .map_err(|error| strategy.fault("on_event", &error))?;
            }
            let asked = strategy.plugin.before_step(&context, &mut actions);
            asked.map_err(|error| strategy.fault("before_step", &error))
        });
        state.costs.wall.plugin_seconds += seconds;
        Ok(asked?)
    }

    /// Carries out requests that were taken; a fault or a rejection leaves everything as it was.
    fn apply(&mut self, course: Course, requests: Vec<Action>) -> Result<(), TrainError> {
        self.read_outcomes(Wait::ForAll)?;
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
        if new_phase && self.state.step.0 > 0 {
            self.end_phase()?;
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
            Err(fault) => return self.saved_before(fault),
        }
        self.state.course = course;
        self.blocks_view = self.state.course.view();
        let sequences = self.parts.config.training.sequences_per_step;
        self.step_cost = StepCost::of(&self.parts.config.model, &self.state.course, sequences);
        if new_phase {
            self.begin_phase()?;
        }
        self.do_errands(requests)
    }

    /// Requests that concern tensors. On any error the engine is what it was before.
    fn change_tensors(&mut self, course: &Course, requests: &[Action]) -> Result<Verdict, TrainError> {
        let edits = growth::edits_stack(requests);
        let optimizer = requests.iter().any(|request| matches!(request, Action::Optimizer(_)));
        if !edits && !optimizer {
            return Ok(Verdict::Kept);
        }
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
        let losses_before = if edits { losses_of(&mut *self.parts.engine, &self.probe)? } else { Vec::new() };
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
        let probe = Probe { before: losses_before, after: losses_of(engine, &self.probe)? };
        let receipt = growth::receipt(self.state.step, &grown, before, engine, &probe)?;
        self.logs.decisions.add(&Decision::Edited(receipt.clone()))?;
        if !receipt.others_bit_identical {
            return Err(TrainError::Internal("an edit touched a block that it should not".into()));
        }
        (self.parts.report)(RunEvent::Edited { run: self.name.clone(), receipt: receipt.clone() });
        let mut judgement = Judgement::default();
        let strategy = &mut self.parts.strategy;
        let judged = strategy.plugin.on_event(&Event::Edited(receipt), &mut Actions::new(&mut judgement));
        judged.map_err(|error| strategy.fault("on_event", &error))?;
        for (key, value) in judgement.metrics {
            self.report_metric(key, value);
        }
        Ok(judgement.rejected.map_or(Verdict::Kept, Verdict::Rejected))
    }

    /// Requests that change nothing of the model.
    fn do_errands(&mut self, requests: Vec<Action>) -> Result<(), TrainError> {
        for request in requests {
            match request {
                Action::Metric { key, value } => self.report_metric(key, value),
                Action::Evaluate => self.evaluate()?,
                Action::Stop(reason) => {
                    let step = self.state.step;
                    self.logs.decisions.add(&Decision::Stopped { step, reason: reason.clone() })?;
                    self.stopped = Some(reason);
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

enum Verdict {
    Kept,
    Rejected(String),
}

// ---------------------------------------------------------------- phases

impl Run<'_> {
    /// A strategy that says nothing before step 0 still has a phase, and that is audited as any other.
    fn begin_first_phase(&mut self) -> Result<(), TrainError> {
        if self.state.phase_start.is_none() { self.begin_phase() } else { Ok(()) }
    }

    fn begin_phase(&mut self) -> Result<(), TrainError> {
        let shape = &self.parts.config.model;
        let RunState { course, step, costs, .. } = &mut self.state;
        let engine = &*self.parts.engine;
        let start = timed(&mut costs.wall.growth_seconds, || PhaseStart::take(engine, shape, course, *step))?;
        let tensors = shape.tensors(&course.layers()).len();
        self.logs.decisions.add(&Decision::PhaseStarted {
            step: *step,
            label: course.phase.clone(),
            layers: course.layers(),
            trainable: course.trainable.iter().map(|tensor| tensor.to_string()).collect(),
            gradients_stop_below: lowest_that_needs_gradients(shape, course),
        })?;
        (self.parts.report)(RunEvent::PhaseStarted {
            run: self.name.clone(),
            step: step.0,
            label: course.phase.clone(),
            depth: course.depth(),
            trainable_tensors: course.trainable.len(),
            tensors,
        });
        self.state.phase_start = Some(start);
        Ok(())
    }

    fn end_phase(&mut self) -> Result<(), TrainError> {
        let Some(start) = self.state.phase_start.take() else { return Ok(()) };
        let (engine, shape, step) = (&*self.parts.engine, &self.parts.config.model, self.state.step);
        let seconds = &mut self.state.costs.wall.growth_seconds;
        let audit = timed(seconds, || start.audit(engine, shape, step))?;
        let intact = audit.frozen_bit_identical;
        self.logs.decisions.add(&Decision::PhaseEnded(audit))?;
        if !intact {
            return Err(TrainError::Internal(format!(
                "a frozen tensor changed in the phase `{}`",
                start.label
            )));
        }
        if self.parts.config.checkpoints.at_phase_end {
            // Going on from here has to end the phase again.
            self.state.phase_start = Some(start);
            self.save(Some("phase-end"))?;
            self.state.phase_start = None;
        }
        Ok(())
    }
}

/// Where back-propagation may stop: `None` where gradients reach the embeddings.
fn lowest_that_needs_gradients(shape: &ModelShape, course: &Course) -> Option<engine::LayerId> {
    let embeddings = shape
        .shared_tensors()
        .into_iter()
        .filter(|spec| matches!(spec.role, TensorRole::TokenEmbedding | TensorRole::PositionEmbedding));
    if embeddings.map(|spec| TensorId::shared(spec.class)).any(|tensor| course.trainable.contains(tensor)) {
        return None;
    }
    course.blocks.iter().map(|block| block.layer).find(|&layer| course.trainable.touches(layer))
}

// ---------------------------------------------------------------- the step

impl Run<'_> {
    fn step(&mut self) -> Result<(), TrainError> {
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

        let plan = StepPlan {
            trainable: state.course.trainable.clone(),
            micro_batch_sequences: config.training.micro_batch_sequences,
        };
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
    fn read_outcomes(&mut self, wait: Wait) -> Result<(), TrainError> {
        while !self.unread.is_empty() {
            let engine = &mut *self.parts.engine;
            let outcome = timed(&mut self.state.costs.wall.training_seconds, || engine.outcome(wait))?;
            let Some(outcome) = outcome else { return Ok(()) };
            let Some(mut record) = self.unread.pop_front() else { return Ok(()) };
            record.loss_nats_per_token = outcome.loss_nats_per_token;
            record.gradient_norm = outcome.gradient_norm;
            if !(outcome.loss_nats_per_token.is_finite() && outcome.gradient_norm.is_finite()) {
                return Err(TrainError::NotFinite { step: record.step, loss: outcome.loss_nats_per_token });
            }
            self.logs.metrics.add(&record)?;
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

/// The hash of all batches so far: of the hash before and this batch's ids.
fn chained(before: &str, batch: &TokenBatch) -> String {
    let mut hash = Sha256::new_with_prefix(before.as_bytes());
    let bytes: Vec<u8> = batch.rows().iter().flat_map(|id| id.to_le_bytes()).collect();
    hash.update(&bytes);
    hexadecimal(hash)
}
