//! The stack of a simulated run, and the host's rules: what a strategy may ask for, and with which words it is
//! refused. The host's rules about its own stack stand in its trainer; a test there compares the two.

use std::collections::BTreeSet;

use super::small_model::{BLOCK_CLASSES, SHARED_CLASSES};
use crate::{
    Above, Action, Batch, Block, Error, Insert, LayerId, OptimizerChange, Pass, Plan, Pushed, Replace,
    Result, RunFacts, Train, Which, Widths,
};

/// Deepest stack that a host allows, in multiples of the model's layers.
const MOST_DEPTH_FACTOR: usize = 8;
/// Largest step that a host allows, in multiples of the study's.
const MOST_BATCH_FACTOR: u64 = 64;

/// What has been decided so far.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    pub(super) blocks: Vec<Block>,
    pub(super) phase: String,
    pub(super) stopped: Option<String>,
    next_layer: u64,
    deepest: usize,
    pub(super) batch: Batch,
    context: usize,
    most_tokens: u64,
    pub(super) widths: Widths,
    final_widths: Widths,
    slots: BTreeSet<String>,
    executes: bool,
    pub(super) shared_train: bool,
    /// Blocks that were replaced before the coming step.
    pub(super) replaced: Vec<LayerId>,
}

impl Stack {
    /// A run's start.
    ///
    /// # Errors
    /// A plan that makes no sense.
    pub(super) fn new(plan: &Plan, run: &RunFacts) -> Result<Stack> {
        let Plan { initial_depth, deepest, .. } = *plan;
        if initial_depth > deepest {
            return Err(Error::new(format!(
                "the plan starts with {initial_depth} blocks but is at most {deepest} deep"
            )));
        }
        if plan.measure.is_some_and(|measure| measure.every_steps == 0) {
            return Err(Error::new("the plan measures every 0 steps"));
        }
        let most = MOST_DEPTH_FACTOR.saturating_mul(run.model.layers);
        if deepest > most {
            return Err(Error::new(format!("the plan grows to {deepest} blocks; the host allows {most}")));
        }
        let final_widths = run.model.widths();
        let widths = plan.widths.unwrap_or(final_widths);
        if plan.widths.is_some_and(|widths| widths.has_zero() || !widths.is_within(final_widths)) {
            return Err(Error::new(format!("the plan starts with {widths}; the model has {final_widths}")));
        }
        let born = |id| Block { id: LayerId(id), born_at_step: 0, trains: 1 };
        Ok(Stack {
            blocks: (0..initial_depth as u64).map(born).collect(),
            phase: String::new(),
            stopped: None,
            next_layer: initial_depth as u64,
            deepest,
            batch: Batch {
                sequences: (run.tokens_per_step as usize) / run.model.context.max(1),
                length: run.model.context,
            },
            context: run.model.context,
            widths,
            final_widths,
            most_tokens: MOST_BATCH_FACTOR.saturating_mul(run.tokens_per_step),
            slots: plan.slots.iter().cloned().collect(),
            executes: plan.executes,
            shared_train: true,
            replaced: Vec::new(),
        })
    }

    /// As it stands before the next call.
    pub(super) fn before_next(&self) -> Stack {
        Stack { replaced: Vec::new(), ..self.clone() }
    }

    /// Decides as asked, or refuses with the reason and changes nothing.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub(super) fn decide(&mut self, action: &Action, step: u64) -> Result<Pushed> {
        action.check_well_formed()?;
        match action {
            Action::Insert(insert) => return self.insert(insert, step),
            Action::Remove(layers) => self.remove(layers)?,
            Action::Replace(replace) => self.replace(replace)?,
            Action::Execute(passes) => self.check_passes(passes)?,
            Action::Train(train) => self.train(train)?,
            Action::Optimizer(rule) => {
                self.check_which(&rule.which)?;
                if let OptimizerChange::CopyFrom(source) = rule.change {
                    self.find(source)?;
                }
            }
            Action::Stop(reason) => self.stopped = Some(reason.clone()),
            Action::Phase(label) => self.phase.clone_from(label),
            Action::Schedule(_) | Action::Checkpoint(_) | Action::Metric { .. } | Action::Evaluate => {}
            Action::ExecuteWholeStack => {}
            Action::Permute(layers) => self.permute(layers)?,
            Action::Gate(gates) => {
                self.check_executes()?;
                gates.iter().try_for_each(|gate| self.find(gate.layer).map(|_| ()))?;
            }
            Action::Rates(factors) => {
                factors.iter().try_for_each(|factor| self.check_which(&factor.which))?;
            }
            Action::Batch(batch) => self.set_batch(*batch)?,
            Action::Widen(widen) => {
                self.check_slot(&widen.slot)?;
                let (wanted, now, most) = (widen.widths, self.widths, self.final_widths);
                if wanted == now || !now.is_within(wanted) || !wanted.is_within(most) {
                    let what = format!("{wanted} are not between what there is, {now}, and may be, {most}");
                    return Err(Error::new(what));
                }
                self.widths = wanted;
            }
            Action::Probe(probe) => {
                for candidate in &probe.candidates {
                    self.tried(candidate, step)?;
                }
            }
            Action::Accept | Action::Reject(_) => {
                return Err(Error::new("there is no edit to accept or reject at this moment"));
            }
        }
        Ok(Pushed::Taken)
    }

    fn insert(&mut self, insert: &Insert, step: u64) -> Result<Pushed> {
        let at = match insert.above {
            Above::Embedding => 0,
            Above::Layer(layer) => self.find(layer)? + 1,
        };
        let Insert { count, slot, sources, .. } = insert;
        let (count, depth, deepest) = (*count, self.blocks.len(), self.deepest);
        if count > deepest.saturating_sub(depth) {
            return Err(Error::new(format!(
                "{count} more blocks on {depth} exceed the {deepest} that the plan announced"
            )));
        }
        self.check_slot(slot)?;
        for &source in sources {
            self.find(source)?;
        }
        let first = self.next_layer;
        let new =
            (first..first + count as u64).map(|id| Block { id: LayerId(id), born_at_step: step, trains: 1 });
        self.blocks.splice(at..at, new);
        self.next_layer += count as u64;
        Ok(Pushed::FirstLayer(LayerId(first)))
    }

    fn check_slot(&self, slot: &str) -> Result<()> {
        if self.slots.contains(slot) {
            return Ok(());
        }
        Err(Error::new(format!("the plan announced no initializer slot `{slot}`")))
    }

    fn replace(&mut self, replace: &Replace) -> Result<()> {
        self.check_slot(&replace.slot)?;
        for &layer in replace.layers.iter().chain(&replace.sources) {
            self.find(layer)?;
        }
        self.replaced.extend(&replace.layers);
        Ok(())
    }

    /// The stack as a candidate of a probe would have it.
    ///
    /// # Errors
    /// The reason for which one of its requests would be refused.
    pub(super) fn tried(&self, candidate: &[Action], step: u64) -> Result<Stack> {
        let mut tried = self.clone();
        candidate.iter().try_for_each(|action| tried.decide(action, step).map(|_| ()))?;
        Ok(tried)
    }

    fn permute(&mut self, layers: &[LayerId]) -> Result<()> {
        let places = layers.iter().map(|&layer| self.find(layer)).collect::<Result<Vec<usize>>>()?;
        if places.len() != self.blocks.len() {
            let (given, depth) = (places.len(), self.blocks.len());
            return Err(Error::new(format!("{given} blocks are put in order, the stack has {depth}")));
        }
        self.blocks = places.into_iter().map(|place| self.blocks[place]).collect();
        Ok(())
    }

    fn set_batch(&mut self, batch: Batch) -> Result<()> {
        let Batch { sequences, length } = batch;
        if length > self.context || self.context % length != 0 {
            let context = self.context;
            return Err(Error::new(format!("sequences of {length} tokens do not divide rows of {context}")));
        }
        if batch.tokens() % self.context as u64 != 0 {
            let context = self.context;
            let what =
                format!("{sequences} sequences of {length} tokens are no whole number of rows of {context}");
            return Err(Error::new(what));
        }
        if batch.tokens() > self.most_tokens {
            let (tokens, most) = (batch.tokens(), self.most_tokens);
            return Err(Error::new(format!("a step of {tokens} tokens; the host takes {most}")));
        }
        self.batch = batch;
        Ok(())
    }

    fn check_executes(&self) -> Result<()> {
        if self.executes {
            return Ok(());
        }
        Err(Error::new("the plan did not announce that what runs is chosen"))
    }

    fn check_passes(&self, passes: &[Pass]) -> Result<()> {
        self.check_executes()?;
        for Pass { layer, sequences: mask, .. } in passes {
            self.find(*layer)?;
            if let Some(mask) = mask.as_ref().filter(|mask| mask.len() != self.batch.sequences) {
                let (given, sequences) = (mask.len(), self.batch.sequences);
                return Err(Error::new(format!(
                    "the mask of block {layer} is for {given} sequences, a step has {sequences}"
                )));
            }
        }
        Ok(())
    }

    fn remove(&mut self, layers: &[LayerId]) -> Result<()> {
        for &layer in layers {
            self.find(layer)?;
        }
        let stays = |block: &&Block| !layers.contains(&block.id);
        if !self.shared_train && self.blocks.iter().filter(stays).all(|block| block.trains == 0) {
            return Err(Error::new("nothing would train any more"));
        }
        self.blocks.retain(|block| !layers.contains(&block.id));
        Ok(())
    }

    fn train(&mut self, train: &Train) -> Result<()> {
        for class in train.classes.iter().flatten() {
            check_class(class)?;
        }
        for &layer in &train.layers {
            self.find(layer)?;
        }
        let no_class = train.classes.as_ref().is_some_and(|classes| {
            !classes.iter().any(|class| BLOCK_CLASSES.iter().any(|(name, _)| name == class))
        });
        let blocks_train = !train.layers.is_empty() && !no_class;
        let shared = train.token_embedding || train.position_embedding || train.final_norm || train.head;
        if !blocks_train && !shared {
            return Err(Error::new("nothing would train"));
        }
        for block in &mut self.blocks {
            block.trains = u64::from(blocks_train && train.layers.contains(&block.id));
        }
        self.shared_train = shared;
        Ok(())
    }

    fn check_which(&self, which: &Which) -> Result<()> {
        match which {
            Which::All | Which::Shared => Ok(()),
            Which::Layers(layers) => layers.iter().try_for_each(|&layer| self.find(layer).map(|_| ())),
            Which::Class(class) => check_class(class),
        }
    }

    fn find(&self, layer: LayerId) -> Result<usize> {
        let position = self.blocks.iter().position(|block| block.id == layer);
        position.ok_or_else(|| Error::new(format!("there is no block {layer}")))
    }
}

fn check_class(class: &str) -> Result<()> {
    let known = BLOCK_CLASSES.iter().any(|(name, _)| *name == class)
        || SHARED_CLASSES.iter().any(|(name, _)| *name == class);
    if known { Ok(()) } else { Err(Error::new(format!("there is no tensor class `{class}`"))) }
}
