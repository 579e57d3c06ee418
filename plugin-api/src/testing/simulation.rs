//! A run without a model: steps pass, losses fall by a stated rule, and a strategy is asked as a host would ask.

use super::stack::Stack;
use super::transcript::{Decision, Transcript};
use crate::{
    Action, ActionSink, Actions, Budget, Error, Evaluation, Event, GrowthReceipt, GrowthStrategy, Key,
    LossPoint, Measure, Measured, ModelFacts, Plan, Probe, Probed, Pushed, Result, RunFacts, StepContext,
    Widths,
};

/// Most requests before one step, and most steps of a simulation.
const MOST_REQUESTS: usize = 4096;
const MOST_STEPS: u64 = 1_000_000;
/// Most losses and evaluations that a strategy is shown.
const RECENT: usize = 1024;

/// A run that is only simulated. Its fields may be changed before it is driven.
///
/// The loss in nats per token is `1 + 1 / depth + (ln(vocabulary) - 2) / (1 + steps / 20)`: it falls with every
/// step and is lower the deeper the stack. A step costs `6 × parameters × tokens` FLOPs.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedRun {
    /// What the strategy is told before the first step.
    pub facts: RunFacts,
    /// Steps between two evaluations.
    pub evaluate_every_steps: u64,
    /// The learning rate of every step.
    pub learning_rate: f64,
    /// The step before which the loss is no longer what the rule says, and what it is from there on: a spike, a
    /// plateau.
    pub loss_from_step: Option<(u64, f64)>,
    /// Of the blocks by position, from the embeddings up (1 where the list ends): the norm of the gradient that is measured
    /// at step 0; at others it is divided by `1 + steps / 20`. All other numbers that are measured are the same always.
    pub gradient_norms: Vec<f64>,
    /// Of the candidates of a probe by position (0 where the list ends): what is added to the losses that the rule gives.
    pub candidate_losses: Vec<f64>,
}

impl SimulatedRun {
    /// A run of that many steps for a model of that many layers, 32 wide, evaluated every tenth of the way.
    pub fn new(layers: usize, steps: u64) -> SimulatedRun {
        SimulatedRun {
            facts: RunFacts {
                model: ModelFacts {
                    layers,
                    width: 32,
                    heads: 4,
                    context: 16,
                    vocabulary: 256,
                    init_std: 0.02,
                    mlp_width: 128,
                },
                tokens_per_step: 128,
                budget: Budget { reference_steps: steps, flops: None },
                constant_rate: true,
                key: Key::of_seed(1).named("simulated run"),
            },
            evaluate_every_steps: (steps / 10).max(1),
            learning_rate: 1e-3,
            loss_from_step: None,
            gradient_norms: Vec::new(),
            candidate_losses: Vec::new(),
        }
    }

    /// Asks a strategy for its plan, then before every step, until the budget is spent or it stops the run.
    ///
    /// # Errors
    /// What the strategy answers, or a plan that no host would take.
    pub fn drive(&self, strategy: &mut dyn GrowthStrategy) -> Result<Transcript> {
        let plan = strategy.plan(&self.facts)?;
        let mut driving = Driving::start(self, plan)?;
        while driving.step(strategy)? {}
        Ok(driving.end())
    }

    /// The same, but before `step` the state is saved and a new instance goes on from it, as after an
    /// interruption. A strategy that keeps its promise ends with the transcript of [`drive`](SimulatedRun::drive).
    ///
    /// # Errors
    /// As for `drive`, and what `save`, `make` and `restore` answer.
    ///
    /// ```
    /// # use sapwood_plugin::*;
    /// # #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// # struct Config {}
    /// # struct Counting { asked: u64 }
    /// # impl Plugin for Counting {
    /// #     type Config = Config;
    /// #     fn new(_: Config) -> Result<Counting> { Ok(Counting { asked: 0 }) }
    /// # }
    /// # impl GrowthStrategy for Counting {
    /// #     fn plan(&mut self, run: &RunFacts) -> Result<Plan> { Ok(Plan::fixed_depth(run.model.layers, run.model.layers)) }
    /// #     fn before_step(&mut self, _: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
    /// #         self.asked += 1;
    /// #         if self.asked == 7 { actions.evaluate()?; }
    /// #         Ok(())
    /// #     }
    /// #     fn save(&self) -> Result<Saved> { Saved::new(1, &self.asked) }
    /// #     fn restore(&mut self, saved: &Saved) -> Result<()> { self.asked = saved.read(1)?; Ok(()) }
    /// # }
    /// use sapwood_plugin::testing::{SimulatedRun, plugin};
    ///
    /// let run = SimulatedRun::new(2, 20);
    /// let whole = run.drive(&mut plugin::<Counting>("{}")?)?;
    /// let resumed = run.drive_interrupted(|| plugin::<Counting>("{}"), 5)?;
    /// assert_eq!(whole, resumed);
    /// # sapwood_plugin::Result::Ok(())
    /// ```
    pub fn drive_interrupted<S: GrowthStrategy>(
        &self,
        mut make: impl FnMut() -> Result<S>,
        step: u64,
    ) -> Result<Transcript> {
        let mut strategy = make()?;
        let plan = strategy.plan(&self.facts)?;
        let mut driving = Driving::start(self, plan)?;
        loop {
            if driving.step == step {
                let saved = strategy.save()?;
                strategy = make()?;
                strategy.plan(&self.facts)?;
                strategy.restore(&saved)?;
                driving.resumed = true;
            }
            if !driving.step(&mut strategy)? {
                return Ok(driving.end());
            }
        }
    }

    fn loss(&self, step: u64, depth: usize) -> f64 {
        if let Some((_, loss)) = self.loss_from_step.filter(|(from, _)| step >= *from) {
            return loss;
        }
        let start = libm::log(self.facts.model.vocabulary as f64) - 2.0;
        1.0 + 1.0 / depth.max(1) as f64 + start / (1.0 + step as f64 / 20.0)
    }

    fn flops_of_a_step(&self, stack: &Stack) -> f64 {
        let ModelFacts { width: final_width, heads: final_heads, vocabulary, context, .. } = self.facts.model;
        let Widths { width, heads, mlp_width } = stack.widths;
        let attention = heads * final_width / final_heads.max(1);
        let block = ((4 * attention + 2 * mlp_width) * width) as f64;
        let shared = ((vocabulary + context) * width) as f64;
        6.0 * (shared + block * stack.blocks.len() as f64) * stack.batch.tokens() as f64
    }

    fn reference_tokens(&self) -> u64 {
        self.facts.budget.reference_steps.saturating_mul(self.facts.tokens_per_step)
    }
}

struct Driving<'a> {
    run: &'a SimulatedRun,
    plan: Plan,
    stack: Stack,
    step: u64,
    tokens: u64,
    flops: f64,
    losses: Vec<LossPoint>,
    evaluations: Vec<Evaluation>,
    /// Not told yet, oldest first.
    measured: Vec<Measured>,
    depths: Vec<usize>,
    decisions: Vec<Decision>,
    resumed: bool,
}

impl Driving<'_> {
    fn start(run: &SimulatedRun, plan: Plan) -> Result<Driving<'_>> {
        let stack = Stack::new(&plan, &run.facts)?;
        Ok(Driving {
            run,
            plan,
            stack,
            step: 0,
            tokens: 0,
            flops: 0.0,
            losses: Vec::new(),
            evaluations: Vec::new(),
            measured: Vec::new(),
            depths: Vec::new(),
            decisions: Vec::new(),
            resumed: false,
        })
    }

    /// Whether one more step fits the budget, after asking the strategy before it and taking it.
    fn step(&mut self, strategy: &mut dyn GrowthStrategy) -> Result<bool> {
        if self.stack.stopped.is_some() || self.is_spent() {
            return Ok(false);
        }
        if self.step >= MOST_STEPS {
            return Err(Error::new(format!("the budget is not spent after {MOST_STEPS} steps")));
        }
        self.decide(strategy)?;
        if self.stack.stopped.is_some() {
            return Ok(false);
        }
        let depth = self.stack.blocks.len();
        let loss_nats_per_token = self.run.loss(self.step, depth);
        self.losses.push(LossPoint { step: self.step, loss_nats_per_token });
        let due = |measure: &Measure| self.step % measure.every_steps.max(1) == 0;
        if let Some(measure) = self.plan.measure.filter(due) {
            self.measured.push(self.run.measured(self.step, measure, &self.stack));
        }
        self.tokens += self.stack.batch.tokens();
        self.flops += self.run.flops_of_a_step(&self.stack);
        self.depths.push(depth);
        self.step += 1;
        Ok(true)
    }

    fn is_spent(&self) -> bool {
        let budget = &self.run.facts.budget;
        match budget.flops {
            Some(flops) => self.flops + self.run.flops_of_a_step(&self.stack) > flops,
            None => self.tokens + self.stack.batch.tokens() > self.run.reference_tokens(),
        }
    }

    fn decide(&mut self, strategy: &mut dyn GrowthStrategy) -> Result<()> {
        let mut events = Vec::new();
        if std::mem::take(&mut self.resumed) {
            events.push(Event::Resumed { step: self.step });
        }
        let known = self.measured.partition_point(|measured| measured.step + 2 <= self.step);
        events.extend(self.measured.drain(..known).map(Event::Measured));
        events.extend(self.evaluate_if_due());
        let mut boundary = self.boundary(false);
        let mut actions = Actions::new(&mut boundary);
        for event in &events {
            strategy.on_event(event, &mut actions)?;
        }
        strategy.before_step(&self.context(), &mut actions)?;
        match boundary.taken.iter().find_map(as_probe).cloned() {
            None => self.settle(strategy, boundary),
            Some(probe) => {
                let Boundary { taken, refused, .. } = boundary;
                self.decisions.push(Decision { step: self.step, taken, refused, rejected: None });
                let probed = Event::Probed(self.probed(&probe)?);
                let mut boundary = self.boundary(true);
                strategy.on_event(&probed, &mut Actions::new(&mut boundary))?;
                self.settle(strategy, boundary)
            }
        }
    }

    fn boundary(&self, after_probe: bool) -> Boundary {
        let (stack, step) = (self.stack.before_next(), self.step);
        Boundary { stack, step, after_probe, taken: Vec::new(), refused: Vec::new() }
    }

    /// Every candidate's losses by the rule, its costs charged.
    fn probed(&mut self, probe: &Probe) -> Result<Probed> {
        let mut losses = Vec::new();
        for (number, candidate) in probe.candidates.iter().enumerate() {
            let tried = self.stack.tried(candidate, self.step)?;
            let added = self.run.candidate_losses.get(number).copied().unwrap_or(0.0);
            let steps = self.step..self.step + probe.steps;
            losses.push(steps.map(|step| self.run.loss(step, tried.blocks.len()) + added).collect());
            self.flops += self.run.flops_of_a_step(&tried) * probe.steps as f64;
        }
        Ok(Probed { step: self.step, steps: probe.steps, losses })
    }

    /// Carries out what was asked for, unless the strategy takes it back.
    fn settle(&mut self, strategy: &mut dyn GrowthStrategy, boundary: Boundary) -> Result<()> {
        let Boundary { stack, taken, refused, .. } = boundary;
        if taken.is_empty() && refused.is_empty() {
            return Ok(());
        }
        let rejected = self.judged(strategy, &stack)?;
        if rejected.is_none() {
            self.stack = stack;
        }
        self.decisions.push(Decision { step: self.step, taken, refused, rejected });
        Ok(())
    }

    fn context(&self) -> StepContext<'_> {
        // As on a real engine, the loss of the last step is not known yet.
        let known = self.losses.len().saturating_sub(1);
        let budget = &self.run.facts.budget;
        let spent = budget
            .flops
            .map_or(self.tokens as f64 / self.run.reference_tokens() as f64, |flops| self.flops / flops);
        StepContext {
            step: self.step,
            tokens: self.tokens,
            flops: self.flops,
            learning_rate: self.run.learning_rate,
            progress: spent.min(1.0),
            phase: &self.stack.phase,
            blocks: &self.stack.blocks,
            losses: newest(&self.losses[..known]),
            evaluations: newest(&self.evaluations),
        }
    }

    fn evaluate_if_due(&mut self) -> Option<Event> {
        if self.step % self.run.evaluate_every_steps.max(1) != 0 {
            return None;
        }
        let loss_nats_per_token = self.run.loss(self.step, self.stack.blocks.len());
        self.evaluations.push(Evaluation { step: self.step, tokens: self.tokens, loss_nats_per_token });
        Some(Event::Evaluated { step: self.step, loss_nats_per_token })
    }

    /// Shows the strategy the receipt of an edit; answers why it takes the edit back, if it does.
    fn judged(&self, strategy: &mut dyn GrowthStrategy, stack: &Stack) -> Result<Option<String>> {
        let new = |after: &Stack, before: &Stack| {
            let blocks = after.blocks.iter();
            let missing = blocks.filter(|block| before.blocks.iter().all(|other| other.id != block.id));
            missing.map(|block| block.id).collect::<Vec<_>>()
        };
        let (new_layers, removed_layers) = (new(stack, &self.stack), new(&self.stack, stack));
        let replaced_layers = stack.replaced.clone();
        let widened = stack.widths != self.stack.widths;
        if new_layers.is_empty() && removed_layers.is_empty() && replaced_layers.is_empty() && !widened {
            return Ok(None);
        }
        let loss_before = self.run.loss(self.step, self.stack.blocks.len());
        let receipt = GrowthReceipt {
            step: self.step,
            depth_before: self.stack.blocks.len(),
            depth_after: stack.blocks.len(),
            new_layers,
            removed_layers,
            replaced_layers,
            loss_before,
            loss_after: loss_before,
            largest_token_loss_change: 0.0,
            largest_logit_change: None,
            claim: None,
            widths: widened.then_some([self.stack.widths, stack.widths]),
            activation_rms_before: Vec::new(),
            activation_rms_after: Vec::new(),
            without_gradient: Vec::new(),
            moments: Vec::new(),
            others_bit_identical: true,
        };
        let mut judgement = Judgement(None);
        strategy.on_event(&Event::Edited(receipt), &mut Actions::new(&mut judgement))?;
        Ok(judgement.0)
    }

    fn end(self) -> Transcript {
        Transcript {
            plan: self.plan,
            decisions: self.decisions,
            depths: self.depths,
            layers: self.stack.blocks.iter().map(|block| block.id).collect(),
            stopped: self.stack.stopped,
        }
    }
}

fn newest<T>(recent: &[T]) -> &[T] {
    &recent[recent.len().saturating_sub(RECENT)..]
}

fn as_probe(action: &Action) -> Option<&Probe> {
    match action {
        Action::Probe(probe) => Some(probe),
        _ => None,
    }
}

/// Collects the requests before one step on a copy of the stack.
struct Boundary {
    stack: Stack,
    step: u64,
    /// Whether there was a probe before this step.
    after_probe: bool,
    taken: Vec<Action>,
    refused: Vec<(Action, String)>,
}

impl ActionSink for Boundary {
    fn push(&mut self, action: Action) -> Result<Pushed> {
        if self.taken.len() + self.refused.len() >= MOST_REQUESTS {
            return Err(Error::new(format!("more than {MOST_REQUESTS} requests before one step")));
        }
        let answer = match &action {
            Action::Probe(_) if self.after_probe => Err(Error::new("there was a probe before this step")),
            action => action.check_beside(&self.taken).and_then(|()| self.stack.decide(action, self.step)),
        };
        match &answer {
            Ok(_) => self.taken.push(action),
            Err(reason) => self.refused.push((action, reason.to_string())),
        }
        answer
    }
}

/// Why an edit is taken back, if it is.
struct Judgement(Option<String>);

impl ActionSink for Judgement {
    fn push(&mut self, action: Action) -> Result<Pushed> {
        match action {
            Action::Accept => self.0 = None,
            Action::Reject(reason) => self.0 = Some(reason),
            Action::Metric { value, .. } if value.is_finite() => {}
            other => {
                let what = format!("an edit is being judged; {other:?} has to wait for the next step");
                return Err(Error::new(what));
            }
        }
        Ok(Pushed::Taken)
    }
}
