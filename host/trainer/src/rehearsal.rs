//! A dry run: the strategy decides over all steps of the budget on a [`ScriptedEngine`] without weights,
//! so that what it asks for is checked and priced before anything is trained.

pub(crate) mod trial;
pub(crate) mod turns;

use std::collections::BTreeSet;

use engine::{
    AdamW, Edit, Engine, EngineInfo, Execution, Flops, LayerId, LayerIndex, Model, ScriptedEngine, Step,
    StepPlan, TokenBatch, Trainable, Wait, Weights, Widths,
};
use plugin_host::Loaded;
use plugin_host::api::{
    Action, Actions, Block, Evaluation, Event, GrowthReceipt, GrowthStrategy, LossPoint, Plan, Probe, Probed,
};
use serde::Serialize;

use crate::config::MOST_STEPS;
use crate::costs::budget::{flops_left, progress, step_fits};
use crate::costs::{Costs, StepCost};
use crate::course::boundary::{Boundary, Judgement, Moment, probe_of};
use crate::course::schedule::RunningSchedule;
use crate::course::shown::Shown;
use crate::course::shown::run_facts;
use crate::course::{Course, Rules, told_widths};
use crate::growth::changes_tensors;
use crate::rehearsal::trial::WantedBlock;
use crate::rehearsal::turns::Turns;
use crate::trail::StepKey;
use crate::{ConfigError, RunConfig, TrainError};

/// What a run will do and cost, as far as its strategy can be foreseen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rehearsal {
    /// Steps.
    pub steps: Step,
    /// What they cost.
    pub costs: Costs,
    /// Spans in which what trains does not change.
    pub phases: Vec<RehearsedPhase>,
    /// Checkpoints that the strategy asks for by name, which are kept.
    pub named_checkpoints: u64,
    /// What it asks of its initializers.
    #[serde(skip)]
    pub wanted: BTreeSet<WantedBlock>,
    /// Where what its steps do to tensors changes.
    #[serde(skip)]
    pub turns: Turns,
}

/// A span in which what trains does not change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RehearsedPhase {
    /// Its label.
    pub label: String,
    /// Its first step.
    pub first_step: Step,
    /// Its length.
    pub steps: u64,
    /// Blocks.
    pub depth: usize,
    /// Parameters that train.
    pub trainable_parameters: u64,
    /// What one of its steps costs.
    pub step: Costs,
    /// How wide the model is.
    pub widths: Widths,
    /// The stack, from the embeddings up.
    #[serde(skip)]
    pub layers: Vec<LayerId>,
    /// What trains.
    #[serde(skip)]
    pub trainable: Trainable,
    /// Whether it ends with a change of tensors, before which the host takes a copy of the model that a
    /// rejection goes back to.
    pub ends_with_a_copy: bool,
}

impl Rehearsal {
    /// Exact FLOPs of the steps before that one, probes aside.
    pub fn flops_until(&self, until: Step) -> Flops {
        let of_phase = |phase: &RehearsedPhase| {
            let steps = until.0.saturating_sub(phase.first_step.0).min(phase.steps);
            Flops(phase.step.flops.total().0 * u128::from(steps))
        };
        self.phases.iter().map(of_phase).fold(Flops(0), |sum, flops| sum + flops)
    }
}

/// Asks a strategy for its plan and checks it against what the study offers.
///
/// # Errors
/// The strategy refuses the run, or wants an initializer that the study does not name.
pub(crate) fn plan(
    strategy: &mut Loaded<dyn GrowthStrategy>,
    config: &RunConfig,
    slots: &BTreeSet<String>,
    engine: &EngineInfo,
) -> Result<Plan, TrainError> {
    let plan =
        strategy.call(|strategy| strategy.plan(&run_facts(config))).map_err(|error| match error.field() {
            Some(field) => TrainError::from(ConfigError::new(
                format!("strategy.config.{field}"),
                format!("the strategy `{}` refuses this run: {}", config.strategy.id, error.message()),
                format!("`sapwood plugin inspect {}` prints what it takes", config.strategy.id),
            )),
            None => strategy.fault("plan", &error).into(),
        })?;
    let wishes = [
        (plan.executes, "chooses what runs in a step", "always runs the whole stack"),
        (plan.measure.is_some(), "wants steps to be measured", "measures losses alone"),
    ];
    let unfulfilled = wishes.into_iter().find(|(wished, ..)| *wished && engine.plain_steps_only);
    if let Some((_, wish, instead)) = unfulfilled {
        let (id, engine) = (&config.strategy.id, engine.engine);
        return Err(ConfigError::new(
            "strategy.use",
            format!("the strategy `{id}` {wish}, but the engine `{engine}` {instead}"),
            "leave out `--engine`: the default one can",
        )
        .into());
    }
    for slot in &plan.slots {
        if !slots.contains(slot) {
            let id = &config.strategy.id;
            return Err(ConfigError::new(
                "initializers",
                format!("the strategy `{id}` wants an initializer for `{slot}`, but none is named"),
                format!(
                    "add `initializers.{slot} = {{ use = \"…\" }}` to the arm; `sapwood plugin list` shows which there are"
                ),
            )
            .into());
        }
    }
    if let Some(unknown) = slots.iter().find(|slot| !plan.slots.contains(slot)) {
        let id = &config.strategy.id;
        return Err(ConfigError::new(
            format!("initializers.{unknown}"),
            format!("the strategy `{id}` has no slot `{unknown}`"),
            format!("it has {}", if plan.slots.is_empty() { "none".into() } else { plan.slots.join(", ") }),
        )
        .into());
    }
    Ok(plan)
}

/// Runs the strategy dry over the whole budget.
///
/// # Errors
/// The strategy fails or asks for what cannot be.
pub fn rehearse(
    config: &RunConfig,
    strategy: &mut Loaded<dyn GrowthStrategy>,
    slots: &BTreeSet<String>,
    engine: &EngineInfo,
) -> Result<Rehearsal, TrainError> {
    let plan = plan(strategy, config, slots, engine)?;
    let rules = Rules::new(config, &plan, slots.clone());
    let rules = rules.map_err(|error| strategy.fault("plan", &error))?;
    let (depth, sequences) = (plan.initial_depth, config.training.sequences_per_step);
    let course =
        Course::start(&config.model, depth, sequences, RunningSchedule::new(&config.schedule)).planned(&plan);
    let mut rehearsing = Rehearsing::new(config, course)?;
    rehearsing.begin_phase();
    while !rehearsing.stopped && step_fits(config, &rehearsing.costs, &rehearsing.step_cost) {
        if !rehearsing.decided {
            rehearsing.decide(strategy, &rules)?;
            continue;
        }
        rehearsing.step()?;
    }
    Ok(rehearsing.result())
}

struct Rehearsing<'a> {
    config: &'a RunConfig,
    engine: ScriptedEngine,
    batch: TokenBatch,
    course: Course,
    /// The course's blocks, as a strategy sees them.
    blocks: Vec<Block>,
    costs: Costs,
    step_cost: StepCost,
    step: Step,
    decided: bool,
    stopped: bool,
    losses: Vec<LossPoint>,
    evaluations: Vec<Evaluation>,
    /// The newest evaluation, where the strategy has not been told of it.
    untold: Option<Event>,
    phases: Vec<RehearsedPhase>,
    named_checkpoints: u64,
    wanted: BTreeSet<WantedBlock>,
    step_key: StepKey,
    turns: Turns,
}

impl<'a> Rehearsing<'a> {
    fn new(config: &'a RunConfig, course: Course) -> Result<Rehearsing<'a>, TrainError> {
        let mut engine = ScriptedEngine::new(&config.model, Weights::Forgotten);
        follow(&mut engine, &course)?;
        Ok(Rehearsing {
            engine,
            // One token stands for a batch: the script's losses do not depend on what is read.
            batch: TokenBatch::new(vec![0, 0], 1, 1),
            step_cost: StepCost::of(&config.model, &course),
            step_key: StepKey::of(&course),
            turns: Turns::default(),
            config,
            blocks: course.view(),
            course,
            costs: Costs::default(),
            step: Step(0),
            decided: false,
            stopped: false,
            losses: Vec::new(),
            evaluations: Vec::new(),
            untold: None,
            phases: Vec::new(),
            named_checkpoints: 0,
            wanted: BTreeSet::new(),
        })
    }

    fn decide(&mut self, strategy: &mut Loaded<dyn GrowthStrategy>, rules: &Rules) -> Result<(), TrainError> {
        if self.config.evaluation_is_due(self.step, self.costs.tokens) {
            self.evaluate()?;
        }
        let untold = self.untold.take();
        let mut boundary = Boundary::new(&self.course, rules, self.moment(false));
        let Rehearsing { config, step, costs, course, blocks, losses, evaluations, .. } = &*self;
        let context = Shown { config, step: *step, costs, course, blocks, losses, evaluations }.context();
        let mut actions = Actions::new(&mut boundary);
        if let Some(event) = untold {
            strategy.ask("on_event", |strategy| strategy.on_event(&event, &mut actions))?;
        }
        strategy.ask("before_step", |strategy| strategy.before_step(&context, &mut actions))?;
        let Boundary { course, taken, .. } = boundary;
        self.decided = true;
        if taken.iter().any(looks_at_tensors) {
            self.turns.look(self.step);
        }
        match probe_of(&taken) {
            Some(probe) => self.decide_by_probe(strategy, rules, probe),
            None => self.settle(strategy, course, &taken),
        }
    }

    fn moment(&self, after_probe: bool) -> Moment {
        let (config, costs) = (self.config, &self.costs);
        let (progress, flops_left) = (progress(config, costs), flops_left(config, costs));
        Moment { step: self.step, progress, flops_left, after_probe }
    }

    /// The script's loss stands for every candidate's.
    fn decide_by_probe(
        &mut self,
        strategy: &mut Loaded<dyn GrowthStrategy>,
        rules: &Rules,
        probe: &Probe,
    ) -> Result<(), TrainError> {
        let loss = f64::from(self.engine.evaluate(&self.batch, &Execution::WholeStack)?[0]);
        let progress = progress(self.config, &self.costs);
        for candidate in &probe.candidates {
            let tried = self.course.tried(candidate, rules, self.step, progress);
            let tried = tried.map_err(|error| strategy.fault("before_step", &error))?;
            self.wanted.extend(WantedBlock::of(
                candidate,
                self.course.depth(),
                &self.course.shape(&self.config.model),
            ));
            let cost = StepCost::of(&self.config.model, &tried);
            (0..probe.steps).for_each(|_| self.costs.add_probe_step(&cost));
        }
        if let Some(phase) = self.phases.last_mut() {
            phase.ends_with_a_copy = true;
        }
        let losses = vec![vec![loss; probe.steps as usize]; probe.candidates.len()];
        let probed = Event::Probed(Probed { step: self.step.0, steps: probe.steps, losses });
        let mut boundary = Boundary::new(&self.course, rules, self.moment(true));
        let mut actions = Actions::new(&mut boundary);
        strategy.ask("on_event", |strategy| strategy.on_event(&probed, &mut actions))?;
        let Boundary { course, taken, .. } = boundary;
        self.settle(strategy, course, &taken)
    }

    fn settle(
        &mut self,
        strategy: &mut Loaded<dyn GrowthStrategy>,
        course: Course,
        taken: &[Action],
    ) -> Result<(), TrainError> {
        // Also those of an edit that is taken back: its initializer is asked before.
        self.wanted.extend(WantedBlock::of(
            taken,
            self.course.depth(),
            &self.course.shape(&self.config.model),
        ));
        if taken.is_empty() || self.rejects(strategy, &course)? {
            return Ok(());
        }
        self.stopped = taken.iter().any(|request| matches!(request, Action::Stop(_)));
        let named = taken.iter().filter(|request| matches!(request, Action::Checkpoint(_)));
        self.named_checkpoints += named.count() as u64;
        if let Some(phase) = self.phases.last_mut() {
            phase.ends_with_a_copy |= changes_tensors(taken);
        }
        self.take_over(course, taken)?;
        if changes_tensors(taken) {
            // The real run's trail has the tensors themselves instead.
            self.step_key = self.step_key.after(&(taken, &self.config.initializers));
        }
        self.evaluate_as_asked(taken)
    }

    /// Of one that is asked for the strategy is told before the next step.
    fn evaluate_as_asked(&mut self, requests: &[Action]) -> Result<(), TrainError> {
        let asked = requests.iter().filter(|request| matches!(request, Action::Evaluate));
        asked.into_iter().try_for_each(|_| self.evaluate())
    }

    fn evaluate(&mut self) -> Result<(), TrainError> {
        let loss_nats_per_token = f64::from(self.engine.evaluate(&self.batch, &Execution::WholeStack)?[0]);
        let (step, tokens) = (self.step.0, self.costs.tokens.0);
        self.evaluations.push(Evaluation { step, tokens, loss_nats_per_token });
        self.untold = Some(Event::Evaluated { step, loss_nats_per_token });
        Ok(())
    }

    /// Whether the strategy takes its edit back, on a receipt with the script's losses.
    fn rejects(
        &mut self,
        strategy: &mut Loaded<dyn GrowthStrategy>,
        course: &Course,
    ) -> Result<bool, TrainError> {
        if course.blocks == self.course.blocks && course.widths == self.course.widths {
            return Ok(false);
        }
        let ids = |course: &Course, but: &Course| {
            let new = course.layers().into_iter().filter(|layer| but.position(*layer).is_none());
            new.map(|layer| plugin_host::api::LayerId(layer.0)).collect()
        };
        let loss = f64::from(self.engine.evaluate(&self.batch, &Execution::WholeStack)?[0]);
        let receipt = GrowthReceipt {
            step: self.step.0,
            depth_before: self.course.depth(),
            depth_after: course.depth(),
            new_layers: ids(course, &self.course),
            removed_layers: ids(&self.course, course),
            replaced_layers: Vec::new(),
            loss_before: loss,
            loss_after: loss,
            largest_token_loss_change: 0.0,
            largest_logit_change: None,
            claim: None,
            widths: (course.widths != self.course.widths)
                .then(|| [self.course.widths, course.widths].map(told_widths)),
            activation_rms_before: Vec::new(),
            activation_rms_after: Vec::new(),
            without_gradient: Vec::new(),
            moments: Vec::new(),
            others_bit_identical: true,
        };
        let mut judgement = Judgement::default();
        strategy.ask("on_event", |strategy| {
            strategy.on_event(&Event::Edited(receipt), &mut Actions::new(&mut judgement))
        })?;
        Ok(judgement.rejected.is_some())
    }

    fn take_over(&mut self, course: Course, requests: &[Action]) -> Result<(), TrainError> {
        let new_phase = course.begins_phase(&self.course, requests);
        self.course = course;
        self.blocks = self.course.view();
        self.step_cost = StepCost::of(&self.config.model, &self.course);
        self.step_key = StepKey::of(&self.course);
        if new_phase {
            self.turns.look(self.step);
            follow(&mut self.engine, &self.course)?;
            self.begin_phase();
        }
        Ok(())
    }

    fn begin_phase(&mut self) {
        // A phase that was never trained in is none.
        self.phases.retain(|phase| phase.steps > 0);
        let mut step = Costs::default();
        step.add_step(&self.step_cost);
        let trains = |(tensor, spec): &(engine::TensorId, engine::TensorSpec)| {
            if self.course.trainable.contains(*tensor) { spec.len() as u64 } else { 0 }
        };
        self.phases.push(RehearsedPhase {
            label: self.course.phase.clone(),
            first_step: self.step,
            steps: 0,
            depth: self.course.depth(),
            trainable_parameters: self
                .course
                .shape(&self.config.model)
                .tensors(&self.course.layers())
                .iter()
                .map(trains)
                .sum(),
            step,
            widths: self.course.widths,
            layers: self.course.layers(),
            trainable: self.course.trainable.clone(),
            ends_with_a_copy: false,
        });
    }

    fn step(&mut self) -> Result<(), TrainError> {
        if self.step.0 >= MOST_STEPS {
            let message = format!("the budget is not spent after {MOST_STEPS} steps");
            return Err(ConfigError::new("budget", message, "choose a smaller budget").into());
        }
        let rate = self.course.schedule.rate(self.step, progress(self.config, &self.costs));
        self.turns.step(self.step, self.step_key.after(&rate.to_bits()));
        let plan = StepPlan::new(self.course.trainable.clone(), 1);
        self.engine.step(&self.batch, &plan)?;
        // The script's losses do not depend on the update's numbers.
        self.engine.optimize(&AdamW::NOTHING)?;
        while let Some(outcome) = self.engine.outcome(Wait::ForAll)? {
            let loss_nats_per_token = outcome.loss_nats_per_token;
            self.losses.push(LossPoint { step: self.step.0, loss_nats_per_token });
        }
        self.costs.add_step(&self.step_cost);
        if let Some(phase) = self.phases.last_mut() {
            phase.steps += 1;
        }
        self.step = self.step.next();
        self.decided = false;
        Ok(())
    }

    fn result(mut self) -> Rehearsal {
        self.phases.retain(|phase| phase.steps > 0);
        let Rehearsing { step, costs, phases, named_checkpoints, wanted, turns, .. } = self;
        Rehearsal { steps: step, costs, phases, named_checkpoints, wanted, turns }
    }
}

/// Whether a run has its tensors looked at or changed for that request, beside what begins a phase.
fn looks_at_tensors(request: &Action) -> bool {
    matches!(request, Action::Probe(_) | Action::Evaluate | Action::Checkpoint(_) | Action::Optimizer(_))
}

/// Makes the engine's stack that of the course.
fn follow(engine: &mut ScriptedEngine, course: &Course) -> Result<(), TrainError> {
    for layer in engine.layers() {
        if course.position(layer).is_none() {
            engine.edit(Edit::Remove { layer })?;
        }
    }
    for (position, layer) in course.layers().into_iter().enumerate() {
        if !engine.layers().contains(&layer) {
            engine.edit(Edit::Insert { at: LayerIndex(position), layer, weights: Vec::new() })?;
        }
    }
    if engine.widths() != course.widths {
        engine.edit(Edit::Resize { widths: course.widths, weights: Vec::new() })?;
    }
    if engine.layers() != course.layers() {
        engine.edit(Edit::Reorder { layers: course.layers() })?;
    }
    Ok(())
}
