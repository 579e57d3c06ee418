//! What has been decided so far: the stack, what trains, the phase and the schedule. Requests change a
//! course and nothing else; what they mean for the engine is done afterwards. So a dry run and a real run
//! decide alike, and a refused or rejected request leaves no trace.

pub(crate) mod boundary;
pub(crate) mod schedule;
pub(crate) mod shown;

use std::collections::{BTreeMap, BTreeSet};

use engine::{
    Entry, Execution, LayerId, ModelShape, Step, TensorClass, TensorId, TensorRole, Trainable, Widths,
};
use plugin_host::api::{
    Above, Action, Batch, Block, Error, Gate, Insert, OptimizerChange, OptimizerRule, Pass, Plan, Pushed,
    RateFactor, Replace, Result, ScheduleChange, Train, Which, Widen,
};

use crate::RunConfig;
use crate::course::schedule::RunningSchedule;

/// What a strategy may ask for in this run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The model at its final depth.
    pub shape: ModelShape,
    /// Most blocks, as the plan says.
    pub deepest: usize,
    /// Initializers that the study has filled in.
    pub slots: BTreeSet<String>,
    /// Those that the plan announced and the study has not, where the strategy only looks on.
    pub unfilled: BTreeSet<String>,
    /// Tokens of a step, as the study has it.
    pub tokens_per_step: u64,
    /// Whether the strategy may choose what runs in a step.
    pub executes: bool,
}

impl Rules {
    /// The rules of a run with that plan.
    ///
    /// # Errors
    /// A plan that makes no sense.
    pub fn new(config: &RunConfig, plan: &Plan, slots: BTreeSet<String>) -> Result<Rules> {
        let shape = &config.model;
        if plan.initial_depth > plan.deepest {
            let (initial, deepest) = (plan.initial_depth, plan.deepest);
            return Err(Error::new(format!(
                "the plan starts with {initial} blocks but is at most {deepest} deep"
            )));
        }
        if plan.measure.is_some_and(|measure| measure.every_steps == 0) {
            return Err(Error::new("the plan measures every 0 steps"));
        }
        let (whole, planned) = (told_widths(shape.widths()), plan.widths);
        if let Some(planned) = planned.filter(|planned| planned.has_zero() || !planned.is_within(whole)) {
            return Err(Error::new(format!("the plan starts with {planned}; the model has {whole}")));
        }
        let most = 8 * shape.layers;
        if plan.deepest > most {
            let deepest = plan.deepest;
            return Err(Error::new(format!("the plan grows to {deepest} blocks; the host allows {most}")));
        }
        Ok(Rules {
            shape: shape.clone(),
            deepest: plan.deepest,
            unfilled: plan.slots.iter().filter(|slot| !slots.contains(*slot)).cloned().collect(),
            slots,
            tokens_per_step: config.tokens_per_step().0,
            executes: plan.executes,
        })
    }
}

/// Widths as plugins are told of them.
pub(crate) fn told_widths(widths: Widths) -> plugin_host::api::Widths {
    let Widths { width, heads, mlp_width } = widths;
    plugin_host::api::Widths { width, heads, mlp_width }
}

/// Widths as engines know them.
pub(crate) fn engine_widths(widths: plugin_host::api::Widths) -> Widths {
    let plugin_host::api::Widths { width, heads, mlp_width } = widths;
    Widths { width, heads, mlp_width }
}

/// Largest step that a strategy may ask for, in multiples of the study's.
const MOST_BATCH_FACTOR: u64 = 64;

/// A block of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedBlock {
    /// Its identity.
    pub layer: LayerId,
    /// The step before which it was inserted.
    pub born_at: Step,
}

/// What has been decided so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// The stack, from the embeddings up.
    pub blocks: Vec<PlacedBlock>,
    /// The identity of the next new block.
    pub next_layer: LayerId,
    /// What trains.
    pub trainable: Trainable,
    /// What runs in a step, gates aside.
    pub execution: Execution,
    /// Gates of attention and MLP that are part of the model, where they are not 1.
    pub gates: BTreeMap<LayerId, [f32; 2]>,
    /// What learning rates are multiplied by; of several for a tensor the last counts.
    pub rates: Vec<RateFactor>,
    /// How much a step reads.
    pub batch: Batch,
    /// How wide the model is.
    pub widths: Widths,
    /// The phase's label; empty before the first.
    pub phase: String,
    /// The learning rate.
    pub schedule: RunningSchedule,
}

impl Course {
    /// A run's start: so many blocks, everything trains, so many sequences in a step.
    pub fn start(shape: &ModelShape, depth: usize, sequences: usize, schedule: RunningSchedule) -> Course {
        let blocks: Vec<PlacedBlock> =
            (0..depth as u64).map(|id| PlacedBlock { layer: LayerId(id), born_at: Step(0) }).collect();
        let layers: Vec<LayerId> = blocks.iter().map(|block| block.layer).collect();
        Course {
            trainable: Trainable::all(shape, &layers),
            execution: Execution::WholeStack,
            gates: BTreeMap::new(),
            rates: Vec::new(),
            batch: Batch { sequences, length: shape.context },
            widths: shape.widths(),
            next_layer: LayerId(depth as u64),
            phase: String::new(),
            blocks,
            schedule,
        }
    }

    /// The same with a narrower model, where the plan says so.
    #[must_use]
    pub fn planned(self, plan: &Plan) -> Course {
        Course { widths: plan.widths.map_or(self.widths, engine_widths), ..self }
    }

    /// The model as it is now, `whole` being what it is in the end.
    pub fn shape(&self, whole: &ModelShape) -> ModelShape {
        whole.with_widths(self.widths)
    }

    /// The stack's identities, from the embeddings up.
    pub fn layers(&self) -> Vec<LayerId> {
        self.blocks.iter().map(|block| block.layer).collect()
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// The stack as a strategy sees it.
    pub fn view(&self) -> Vec<Block> {
        let view = |block: &PlacedBlock| Block {
            id: plugin_host::api::LayerId(block.layer.0),
            born_at_step: block.born_at.0,
            trains: self.trainable.touches(block.layer).into(),
        };
        self.blocks.iter().map(view).collect()
    }

    /// Where a block stands.
    pub fn position(&self, layer: LayerId) -> Option<usize> {
        self.blocks.iter().position(|block| block.layer == layer)
    }

    /// Decides as asked, or refuses with the reason and changes nothing.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub fn decide(&mut self, action: &Action, rules: &Rules, step: Step, progress: f64) -> Result<Pushed> {
        action.check_well_formed()?;
        match action {
            Action::Insert(insert) => return self.insert(insert, rules, step),
            Action::Remove(layers) => self.remove(layers)?,
            Action::Replace(replace) => self.check_replace(replace, rules)?,
            Action::Execute(passes) => self.execution = self.execution_of(passes, rules)?,
            Action::ExecuteWholeStack => self.execution = Execution::WholeStack,
            Action::Train(train) => self.trainable = self.scope(train, &rules.shape)?,
            Action::Optimizer(rule) => self.check_optimizer(rule, &rules.shape)?,
            Action::Schedule(ScheduleChange::Scale(factor)) if !self.schedule.can_be_scaled(*factor) => {
                return Err(Error::new(format!(
                    "the rate would be far from the study's if multiplied by {factor}"
                )));
            }
            Action::Schedule(change) => self.schedule.change(change, step, progress),
            Action::Permute(layers) => self.permute(layers)?,
            Action::Gate(gates) => self.gate(gates, rules)?,
            Action::Rates(factors) => self.set_rates(factors, &rules.shape)?,
            Action::Batch(batch) => self.set_batch(*batch, rules)?,
            Action::Widen(widen) => self.widen(widen, rules)?,
            Action::Probe(probe) => {
                for candidate in &probe.candidates {
                    self.tried(candidate, rules, step, progress)?;
                }
            }
            Action::Phase(label) => self.phase.clone_from(label),
            Action::Checkpoint(_) | Action::Stop(_) | Action::Metric { .. } | Action::Evaluate => {}
            Action::Accept | Action::Reject(_) => {
                return Err(Error::new("there is no edit to accept or reject at this moment"));
            }
            other => return Err(Error::new(format!("this host does not know the request {other:?}"))),
        }
        Ok(Pushed::Taken)
    }

    /// Whether a phase begins where these requests made this course of that one: where it is named, or anything else trains or
    /// stands in the stack.
    pub(crate) fn begins_phase(&self, before: &Course, requests: &[Action]) -> bool {
        let is_named = requests.iter().any(|request| matches!(request, Action::Phase(_)));
        is_named
            || self.trainable != before.trainable
            || self.blocks != before.blocks
            || self.widths != before.widths
    }

    /// The course as a candidate of a probe would have it.
    ///
    /// # Errors
    /// The reason for which one of its requests would be refused.
    pub fn tried(&self, candidate: &[Action], rules: &Rules, step: Step, progress: f64) -> Result<Course> {
        let mut tried = self.clone();
        candidate.iter().try_for_each(|action| tried.decide(action, rules, step, progress).map(|_| ()))?;
        Ok(tried)
    }

    /// What runs in the coming step.
    pub fn execution_of_step(&self) -> Execution {
        self.gated(&self.execution)
    }

    /// What runs where the model is looked at: the whole stack, with its gates.
    pub fn execution_of_model(&self) -> Execution {
        self.gated(&Execution::WholeStack)
    }

    fn gated(&self, execution: &Execution) -> Execution {
        if self.gates.is_empty() {
            return execution.clone();
        }
        let mut entries = match execution {
            Execution::WholeStack => self.layers().into_iter().map(Entry::whole).collect(),
            Execution::Entries(entries) => entries.clone(),
        };
        for entry in &mut entries {
            let [attention, mlp] = self.gates.get(&entry.layer).copied().unwrap_or([1.0; 2]);
            entry.attention_gate *= attention;
            entry.mlp_gate *= mlp;
        }
        Execution::Entries(entries)
    }

    /// What the learning rate of each tensor is multiplied by, where it is multiplied.
    pub fn rate_factors(&self, shape: &ModelShape) -> BTreeMap<TensorId, f64> {
        let mut factors = BTreeMap::new();
        if self.rates.is_empty() {
            return factors;
        }
        for (tensor, _) in shape.tensors(&self.layers()) {
            if let Some(last) = self.rates.iter().rev().find(|rate| is_selected(tensor, &rate.which)) {
                factors.insert(tensor, last.factor);
            }
        }
        factors
    }

    fn permute(&mut self, layers: &[plugin_host::api::LayerId]) -> Result<()> {
        let places = layers.iter().map(|&layer| self.find(layer)).collect::<Result<Vec<usize>>>()?;
        if places.len() != self.depth() {
            let (given, depth) = (places.len(), self.depth());
            return Err(Error::new(format!("{given} blocks are put in order, the stack has {depth}")));
        }
        self.blocks = places.into_iter().map(|place| self.blocks[place]).collect();
        self.execution = Execution::WholeStack;
        Ok(())
    }

    fn gate(&mut self, gates: &[Gate], rules: &Rules) -> Result<()> {
        check_executes(rules)?;
        gates.iter().try_for_each(|gate| self.find(gate.layer).map(|_| ()))?;
        for &Gate { layer, attention, mlp } in gates {
            let layer = LayerId(layer.0);
            if (attention, mlp) == (1.0, 1.0) {
                self.gates.remove(&layer);
            } else {
                self.gates.insert(layer, [attention, mlp]);
            }
        }
        Ok(())
    }

    fn set_rates(&mut self, factors: &[RateFactor], shape: &ModelShape) -> Result<()> {
        for factor in factors {
            self.selected(&factor.which, shape)?;
        }
        self.rates = factors.to_vec();
        Ok(())
    }

    fn set_batch(&mut self, batch: Batch, rules: &Rules) -> Result<()> {
        let (Batch { sequences, length }, context) = (batch, rules.shape.context);
        if length > context || context % length != 0 {
            return Err(Error::new(format!("sequences of {length} tokens do not divide rows of {context}")));
        }
        if !batch.tokens().is_multiple_of(context as u64) {
            let what =
                format!("{sequences} sequences of {length} tokens are no whole number of rows of {context}");
            return Err(Error::new(what));
        }
        let (tokens, most) = (batch.tokens(), MOST_BATCH_FACTOR * rules.tokens_per_step);
        if tokens > most {
            return Err(Error::new(format!("a step of {tokens} tokens; the host takes {most}")));
        }
        if batch != self.batch {
            // Masks were made for the other one.
            self.execution = Execution::WholeStack;
        }
        self.batch = batch;
        Ok(())
    }

    fn widen(&mut self, widen: &Widen, rules: &Rules) -> Result<()> {
        check_slot(&widen.slot, rules)?;
        let (wanted, [now, most]) = (widen.widths, [self.widths, rules.shape.widths()].map(told_widths));
        if wanted == now || !now.is_within(wanted) || !wanted.is_within(most) {
            let what = format!("{wanted} are not between what there is, {now}, and may be, {most}");
            return Err(Error::new(what));
        }
        self.widths = engine_widths(wanted);
        Ok(())
    }

    fn insert(&mut self, insert: &Insert, rules: &Rules, step: Step) -> Result<Pushed> {
        let at = match insert.above {
            Above::Embedding => 0,
            Above::Layer(layer) => self.find(layer)? + 1,
        };
        if insert.count > rules.deepest.saturating_sub(self.depth()) {
            let (count, depth, deepest) = (insert.count, self.depth(), rules.deepest);
            return Err(Error::new(format!(
                "{count} more blocks on {depth} exceed the {deepest} that the plan announced"
            )));
        }
        check_slot(&insert.slot, rules)?;
        for &source in &insert.sources {
            self.find(source)?;
        }
        let first = self.next_layer;
        let new = (first.0..first.0 + insert.count as u64)
            .map(|id| PlacedBlock { layer: LayerId(id), born_at: step });
        self.trainable.extend(new.clone().flat_map(|block| {
            let classes = rules.shape.block_tensors().into_iter().map(|spec| spec.class);
            classes.map(move |class| TensorId::block(block.layer, class))
        }));
        self.blocks.splice(at..at, new);
        self.execution = Execution::WholeStack;
        self.next_layer.0 += insert.count as u64;
        Ok(Pushed::FirstLayer(plugin_host::api::LayerId(first.0)))
    }

    fn remove(&mut self, layers: &[plugin_host::api::LayerId]) -> Result<()> {
        for &layer in layers {
            self.find(layer)?;
        }
        let mut trainable = self.trainable.clone();
        for layer in layers {
            trainable.forget(LayerId(layer.0));
        }
        if trainable.is_empty() {
            return Err(Error::new("nothing would train any more"));
        }
        self.trainable = trainable;
        self.execution = Execution::WholeStack;
        self.gates.retain(|layer, _| !layers.iter().any(|removed| removed.0 == layer.0));
        self.blocks.retain(|block| !layers.iter().any(|layer| layer.0 == block.layer.0));
        Ok(())
    }

    fn check_replace(&self, replace: &Replace, rules: &Rules) -> Result<()> {
        check_slot(&replace.slot, rules)?;
        replace.layers.iter().chain(&replace.sources).try_for_each(|&layer| self.find(layer).map(|_| ()))
    }

    fn execution_of(&self, passes: &[Pass], rules: &Rules) -> Result<Execution> {
        check_executes(rules)?;
        let entry = |pass: &Pass| {
            let (layer, sequences) = (self.blocks[self.find(pass.layer)?].layer, pass.sequences.clone());
            if let Some(mask) = sequences.as_ref().filter(|mask| mask.len() != self.batch.sequences) {
                let (given, sequences) = (mask.len(), self.batch.sequences);
                return Err(Error::new(format!(
                    "the mask of block {layer} is for {given} sequences, a step has {sequences}"
                )));
            }
            let Pass { attention_gate, mlp_gate, .. } = *pass;
            Ok(Entry { layer, attention_gate, mlp_gate, sequences })
        };
        passes.iter().map(entry).collect::<Result<_>>().map(Execution::Entries)
    }

    /// The tensors that a request lets train. A tied head trains if either use of its tensor does.
    fn scope(&self, train: &Train, shape: &ModelShape) -> Result<Trainable> {
        let classes: Option<Vec<TensorClass>> = match &train.classes {
            None => None,
            Some(names) => Some(names.iter().map(|name| find_class(shape, name)).collect::<Result<_>>()?),
        };
        let mut scope = Trainable::default();
        for &layer in &train.layers {
            let layer = self.blocks[self.find(layer)?].layer;
            let specs = shape.block_tensors().into_iter();
            let wanted =
                specs.filter(|spec| classes.as_ref().is_none_or(|classes| classes.contains(&spec.class)));
            scope.extend(wanted.map(|spec| TensorId::block(layer, spec.class)));
        }
        for spec in shape.shared_tensors() {
            let wanted = match spec.role {
                TensorRole::TokenEmbedding => train.token_embedding || (shape.block.tied_head && train.head),
                TensorRole::PositionEmbedding => train.position_embedding,
                _ => train.final_norm,
            };
            if wanted {
                scope.extend([TensorId::shared(spec.class)]);
            }
        }
        if scope.is_empty() {
            return Err(Error::new("nothing would train"));
        }
        Ok(scope)
    }

    fn check_optimizer(&self, rule: &OptimizerRule, shape: &ModelShape) -> Result<()> {
        self.selected(&rule.which, shape)?;
        if let OptimizerChange::CopyFrom(source) = rule.change {
            self.find(source)?;
        }
        Ok(())
    }

    /// The tensors that a rule is about.
    ///
    /// # Errors
    /// A block or class that is not there.
    pub fn selected(&self, which: &Which, shape: &ModelShape) -> Result<Vec<TensorId>> {
        match which {
            Which::All | Which::Shared => {}
            Which::Layers(layers) => layers.iter().try_for_each(|&layer| self.find(layer).map(|_| ()))?,
            Which::Class(name) => find_class(shape, name).map(|_| ())?,
        }
        let all = shape.tensors(&self.layers()).into_iter().map(|(tensor, _)| tensor);
        Ok(all.filter(|&tensor| is_selected(tensor, which)).collect())
    }

    fn find(&self, layer: plugin_host::api::LayerId) -> Result<usize> {
        let position = self.position(LayerId(layer.0));
        position.ok_or_else(|| Error::new(format!("there is no block {layer}")))
    }
}

/// Whether a tensor belongs to a choice.
pub(crate) fn is_selected(tensor: TensorId, which: &Which) -> bool {
    match which {
        Which::All => true,
        Which::Shared => tensor.layer.is_none(),
        Which::Layers(layers) => layers.iter().any(|layer| tensor.layer == Some(LayerId(layer.0))),
        Which::Class(class) => tensor.class.0 == class,
    }
}

fn check_executes(rules: &Rules) -> Result<()> {
    if rules.executes {
        return Ok(());
    }
    Err(Error::new("the plan did not announce that what runs is chosen"))
}

fn check_slot(slot: &str, rules: &Rules) -> Result<()> {
    if rules.slots.contains(slot) {
        return Ok(());
    }
    if rules.unfilled.contains(slot) {
        return Err(Error::new(format!("the arm names no initializer for the slot `{slot}`")));
    }
    Err(Error::new(format!("the plan announced no initializer slot `{slot}`")))
}

fn find_class(shape: &ModelShape, name: &str) -> Result<TensorClass> {
    shape.class(name).ok_or_else(|| Error::new(format!("there is no tensor class `{name}`")))
}

#[cfg(test)]
mod tests;
