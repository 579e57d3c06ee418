//! What has been decided so far: the stack, what trains, the phase and the schedule. Requests change a
//! course and nothing else; what they mean for the engine is done afterwards. So a dry run and a real run
//! decide alike, and a refused or rejected request leaves no trace.

use std::collections::{BTreeMap, BTreeSet};

use engine::{Entry, Execution, LayerId, ModelShape, Step, TensorClass, TensorId, TensorRole, Trainable};
use plugin_host::api::{
    Above, Action, Batch, Block, Error, Gate, Insert, OptimizerChange, OptimizerRule, Pass, Plan, Pushed,
    RateFactor, Replace, Result, ScheduleChange, Train, Which, Widen,
};

use crate::RunConfig;
use crate::schedule::RunningSchedule;

/// What a strategy may ask for in this run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The model at its final depth.
    pub shape: ModelShape,
    /// Most blocks, as the plan says.
    pub deepest: usize,
    /// Initializers that the study has filled in.
    pub slots: BTreeSet<String>,
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
        let (hidden, planned) = (shape.hidden(), plan.mlp_width.unwrap_or(shape.hidden()));
        if planned == 0 || planned > hidden {
            return Err(Error::new(format!(
                "the plan starts with hidden layers of {planned} neurons; the model has {hidden}"
            )));
        }
        let most = 8 * shape.layers;
        if plan.deepest > most {
            let deepest = plan.deepest;
            return Err(Error::new(format!("the plan grows to {deepest} blocks; the host allows {most}")));
        }
        Ok(Rules {
            shape: shape.clone(),
            deepest: plan.deepest,
            slots,
            tokens_per_step: config.tokens_per_step().0,
            executes: plan.executes,
        })
    }
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
    /// Hidden width of the MLPs.
    pub mlp_width: usize,
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
            mlp_width: shape.hidden(),
            next_layer: LayerId(depth as u64),
            phase: String::new(),
            blocks,
            schedule,
        }
    }

    /// The same with narrower MLPs, where the plan says so.
    #[must_use]
    pub fn planned(self, plan: &Plan) -> Course {
        Course { mlp_width: plan.mlp_width.unwrap_or(self.mlp_width), ..self }
    }

    /// The model as it is now, `whole` being what it is in the end.
    pub fn shape(&self, whole: &ModelShape) -> ModelShape {
        whole.with_hidden(self.mlp_width)
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
            Action::Schedule(change) => self.schedule.change(change, step.0, progress),
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
        let (wanted, now, most) = (widen.mlp_width, self.mlp_width, rules.shape.hidden());
        if wanted <= now || wanted > most {
            let what = format!("hidden layers of {wanted} neurons, where there are {now} and may be {most}");
            return Err(Error::new(what));
        }
        self.mlp_width = wanted;
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
    Err(Error::new(format!("the plan announced no initializer slot `{slot}`")))
}

fn find_class(shape: &ModelShape, name: &str) -> Result<TensorClass> {
    shape.class(name).ok_or_else(|| Error::new(format!("there is no tensor class `{name}`")))
}

#[cfg(test)]
mod tests {
    use engine::contract::tiny_shape;
    use plugin_host::api::{Gate, MomentsRule, Probe, ScheduleShape};

    use super::*;
    use crate::schedule::{Schedule, ScheduleKind};

    fn course() -> (Course, Rules) {
        let shape = tiny_shape();
        let schedule = Schedule {
            kind: ScheduleKind::Constant,
            rate: 1e-3,
            warmup_steps: 0,
            final_fraction: None,
            decay_fraction: None,
        };
        let rules = Rules {
            shape: shape.clone(),
            deepest: 3,
            slots: BTreeSet::from(["new_blocks".to_owned()]),
            tokens_per_step: 8 * shape.context as u64,
            executes: true,
        };
        (Course::start(&shape, 2, 8, RunningSchedule::new(&schedule)), rules)
    }

    fn layer(id: u64) -> plugin_host::api::LayerId {
        plugin_host::api::LayerId(id)
    }

    fn insert(above: u64, count: usize) -> Action {
        Action::Insert(Insert {
            above: Above::Layer(layer(above)),
            count,
            slot: "new_blocks".into(),
            sources: vec![],
            moments: MomentsRule::Zero,
        })
    }

    fn replace(layers: &[u64], sources: &[u64]) -> Action {
        let (layers, sources) = [layers, sources].map(|ids| ids.iter().map(|&id| layer(id)).collect()).into();
        Action::Replace(Replace { layers, slot: "new_blocks".into(), sources, moments: MomentsRule::Zero })
    }

    fn gated(mlp_gate: f32) -> Action {
        Action::Execute(vec![Pass::whole(layer(0)), Pass { mlp_gate, ..Pass::whole(layer(1)) }])
    }

    fn masked(sequences: usize) -> Action {
        Action::Execute(vec![Pass { sequences: Some(vec![true; sequences]), ..Pass::whole(layer(0)) }])
    }

    fn rates(which: Which, factor: f64) -> Action {
        Action::Rates(vec![RateFactor { which, factor }])
    }

    fn batch(sequences: usize, length: usize) -> Action {
        Action::Batch(Batch { sequences, length })
    }

    fn widen(mlp_width: usize) -> Action {
        Action::Widen(Widen { mlp_width, slot: "new_blocks".into(), moments: MomentsRule::Zero })
    }

    /// What a course answers to a request, in words.
    fn answer(action: &Action) -> String {
        let (mut course, rules) = course();
        let before = course.clone();
        match course.decide(action, &rules, Step(3), 0.1) {
            Ok(_) => format!("{:?}", course.layers().iter().map(|l| l.0).collect::<Vec<_>>()),
            Err(error) => {
                assert_eq!(course, before, "a refusal leaves no trace");
                error.to_string()
            }
        }
    }

    #[test]
    fn blocks_go_where_they_are_asked_to() {
        assert_eq!(answer(&insert(0, 1)), "[0, 2, 1]");
        assert_eq!(answer(&insert(1, 1)), "[0, 1, 2]");
        assert_eq!(answer(&Action::Remove(vec![layer(0)])), "[1]");
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        let all_frozen = Train { layers: vec![], ..Train::blocks_only(vec![]) };
        let cases = [
            (insert(7, 1), "there is no block 7"),
            (insert(1, 0), "0 blocks are to be inserted"),
            (Action::Remove(vec![layer(0), layer(0)]), "block 0 is to be removed twice"),
            (insert(1, 1_000_000_000), "1000000000 more blocks on 2 exceed the 3 that the plan announced"),
            (Action::Train(all_frozen), "nothing would train"),
            (Action::Train(Train::blocks_only(vec![layer(9)])), "there is no block 9"),
            (
                Action::Checkpoint("../up".into()),
                "`../up` cannot name a checkpoint: letters, digits, - and _ can",
            ),
            (
                Action::Schedule(ScheduleChange::Extend(-1.0)),
                "the schedule cannot be changed by Extend(-1.0)",
            ),
            (Action::Metric { key: "x".into(), value: f64::NAN }, "the metric `x` is NaN"),
            (replace(&[9], &[]), "there is no block 9"),
            (replace(&[1, 1], &[]), "block 1 is to be replaced twice"),
            (replace(&[1], &[0, 1]), "2 sources are named for 1 blocks to replace"),
            (Action::Execute(vec![Pass::whole(layer(9))]), "there is no block 9"),
            (gated(f32::NAN), "a gate of block 1 is NaN"),
            (masked(3), "the mask of block 0 is for 3 sequences, a step has 8"),
            (Action::Accept, "there is no edit to accept or reject at this moment"),
            (
                Action::Optimizer(OptimizerRule {
                    which: Which::Class("wqe".into()),
                    change: OptimizerChange::Reset,
                }),
                "there is no tensor class `wqe`",
            ),
        ];
        for (action, wanted) in cases {
            assert_eq!(answer(&action), wanted);
        }
    }

    /// The words that the authors' test bench refuses a request with; what it knows of a stack is written a second time.
    fn answer_of_the_bench(action: &Action) -> String {
        use plugin_host::api::{self, Actions, GrowthStrategy, RunFacts, StepContext, testing::SimulatedRun};

        struct Asking(Action);

        impl GrowthStrategy for Asking {
            fn plan(&mut self, _: &RunFacts) -> Result<Plan> {
                let slots = vec!["new_blocks".into()];
                Ok(Plan { slots, executes: true, ..Plan::fixed_depth(2, 3) })
            }

            fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
                if context.step == 0 {
                    let _ = actions.push(self.0.clone());
                }
                Ok(())
            }

            api::stateless!();
        }

        let mut run = SimulatedRun::new(2, 2);
        let (shape, rules) = (tiny_shape(), course().1);
        (run.facts.model.context, run.facts.tokens_per_step) = (shape.context, rules.tokens_per_step);
        run.facts.model.mlp_width = shape.hidden();
        let driven = run.drive(&mut Asking(action.clone())).expect("a good plan");
        match driven.refusals().next() {
            Some((_, _, reason)) => reason.to_owned(),
            None => format!("{:?}", driven.layers.iter().map(|layer| layer.0).collect::<Vec<_>>()),
        }
    }

    #[test]
    fn the_authors_test_bench_has_the_same_rules() {
        let classes = |class: &str| Some(vec![class.to_owned()]);
        let optimizer = |which, change| Action::Optimizer(OptimizerRule { which, change });
        let actions = [
            insert(0, 1),
            insert(1, 1),
            insert(1, 0),
            insert(1, 2),
            insert(7, 1),
            Action::Insert(Insert {
                above: Above::Embedding,
                count: 1,
                slot: "other".into(),
                sources: vec![],
                moments: MomentsRule::Zero,
            }),
            Action::Insert(Insert {
                above: Above::Embedding,
                count: 1,
                slot: "new_blocks".into(),
                sources: vec![layer(0), layer(1)],
                moments: MomentsRule::Zero,
            }),
            Action::Remove(vec![layer(0)]),
            Action::Remove(vec![layer(0), layer(1)]),
            Action::Remove(vec![layer(4)]),
            Action::Remove(vec![layer(0), layer(0)]),
            Action::Train(Train::blocks_only(vec![])),
            Action::Train(Train::blocks_only(vec![layer(9)])),
            Action::Train(Train { classes: classes("wqe"), ..Train::blocks_only(vec![layer(0)]) }),
            Action::Train(Train { classes: classes("wte.weight"), ..Train::blocks_only(vec![layer(0)]) }),
            Action::Train(Train { classes: classes("mlp.c_fc.bias"), ..Train::blocks_only(vec![layer(0)]) }),
            optimizer(Which::Class("wqe".into()), OptimizerChange::Reset),
            optimizer(Which::Layers(vec![layer(9)]), OptimizerChange::Reset),
            optimizer(Which::All, OptimizerChange::CopyFrom(layer(0))),
            optimizer(Which::All, OptimizerChange::CopyFrom(layer(9))),
            optimizer(Which::All, OptimizerChange::Scale { first: 1.0, second: -1.0 }),
            optimizer(Which::All, OptimizerChange::SetUpdates(u64::MAX)),
            Action::Schedule(ScheduleChange::Shift(2.0)),
            Action::Schedule(ScheduleChange::Rewarm(0)),
            Action::Schedule(ScheduleChange::Extend(1e7)),
            Action::Schedule(ScheduleChange::DecayNow(0.0)),
            replace(&[0], &[0]),
            replace(&[9], &[]),
            replace(&[0], &[9]),
            replace(&[], &[]),
            replace(&[1, 1], &[]),
            Action::Replace(Replace {
                layers: vec![layer(0)],
                slot: "other".into(),
                sources: vec![],
                moments: MomentsRule::Zero,
            }),
            gated(0.5),
            gated(f32::INFINITY),
            masked(8),
            masked(7),
            Action::Execute(vec![Pass::whole(layer(9))]),
            Action::Execute(vec![Pass::whole(layer(0)); 4097]),
            Action::ExecuteWholeStack,
            Action::Permute(vec![layer(1), layer(0)]),
            Action::Permute(vec![layer(1)]),
            Action::Permute(vec![layer(1), layer(1)]),
            Action::Permute(vec![layer(1), layer(2)]),
            Action::Gate(vec![Gate::both(layer(1), 0.0)]),
            Action::Gate(vec![Gate::both(layer(9), 0.0)]),
            Action::Gate(vec![Gate::both(layer(1), f32::NAN)]),
            rates(Which::Class("wqe".into()), 1.0),
            rates(Which::Layers(vec![layer(9)]), 1.0),
            rates(Which::All, -1.0),
            rates(Which::Shared, 0.5),
            batch(8, 4),
            batch(0, 6),
            batch(1, 3),
            batch(16, 3),
            batch(513, 6),
            Action::Probe(Probe { candidates: vec![vec![], vec![insert(0, 1)]], steps: 2 }),
            Action::Probe(Probe { candidates: vec![vec![insert(9, 1)]], steps: 2 }),
            Action::Probe(Probe { candidates: vec![], steps: 2 }),
            Action::Probe(Probe { candidates: vec![vec![Action::Evaluate]], steps: 2 }),
            widen(40),
            widen(16),
            widen(0),
            Action::Schedule(ScheduleChange::Scale(0.0)),
            Action::Schedule(ScheduleChange::Follow(ScheduleShape::Linear { final_fraction: 2.0 })),
            Action::Schedule(ScheduleChange::Follow(ScheduleShape::Constant)),
            Action::Checkpoint("../up".into()),
            Action::Phase("x".repeat(129)),
            Action::Stop("x".repeat(129)),
            Action::Metric { key: "x".repeat(129), value: 0.0 },
            Action::Metric { key: "x".into(), value: f64::INFINITY },
            Action::Accept,
            Action::Reject("no".into()),
        ];
        for action in actions {
            assert_eq!(answer_of_the_bench(&action), answer(&action), "{action:?}");
        }
    }

    #[test]
    fn what_runs_is_followed_until_blocks_come_or_go() {
        let (mut course, rules) = course();
        course.decide(&gated(0.5), &rules, Step(0), 0.0).expect("blocks that are there");
        let gates = |course: &Course| match &course.execution {
            Execution::Entries(entries) => entries.iter().map(|entry| entry.mlp_gate).collect(),
            Execution::WholeStack => vec![],
        };
        assert_eq!(gates(&course), [1.0, 0.5]);
        course.decide(&insert(0, 1), &rules, Step(1), 0.0).expect("room for a block");
        assert_eq!(course.execution, Execution::WholeStack);
        course.decide(&masked(8), &rules, Step(2), 0.0).expect("a mask of the step's length");
        course.decide(&Action::ExecuteWholeStack, &rules, Step(3), 0.0).expect("always");
        assert_eq!(course.execution, Execution::WholeStack);
        let unannounced = Rules { executes: false, ..rules };
        let refused = course.decide(&gated(1.0), &unannounced, Step(4), 0.0).expect_err("nobody knew");
        assert_eq!(refused.to_string(), "the plan did not announce that what runs is chosen");
        course.decide(&Action::ExecuteWholeStack, &unannounced, Step(4), 0.0).expect("that it does anyway");
    }

    #[test]
    fn a_tied_head_trains_if_either_use_does() {
        let (mut course, rules) = course();
        let head_only = Train { head: true, ..Train::blocks_only(vec![]) };
        course.decide(&Action::Train(head_only), &rules, Step(0), 0.0).expect("the head trains");
        let names: Vec<String> = course.trainable.iter().map(|tensor| tensor.to_string()).collect();
        assert_eq!(names, ["wte.weight"]);
    }
}
