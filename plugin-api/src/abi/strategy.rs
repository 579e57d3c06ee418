//! The growth strategy's interface, revision 1: the table, and both halves of it.

use std::ffi::c_void;

use abi_stable::std_types::{ROption, RSlice, RStr, RString};

use super::boundary::{Instance, RawFault, RawResult, Slot, from_raw, outcome};
use super::layout::{Described, hash_numbers};
#[cfg(feature = "host")]
use super::strategy_2;
use crate::{
    Above, Action, ActionSink, Actions, Block, Error, Evaluation, GrowthStrategy, LayerId, LossPoint,
    MomentsRule, OptimizerChange, OptimizerRule, Pushed, Result, Saved, ScheduleChange, StepContext, Which,
};

/// The revision that this file describes.
pub const REVISION: u32 = 1;

/// Hash of everything that crosses through this interface.
pub const LAYOUT: u64 = hash_numbers(
    &[
        Table::LAYOUT,
        RawFault::LAYOUT,
        RawSaved::LAYOUT,
        RawContext::LAYOUT,
        RawSink::LAYOUT,
        RawInsert::LAYOUT,
        RawTrain::LAYOUT,
        RawOptimizer::LAYOUT,
        BLOCK.layout,
        LOSS_POINT.layout,
        EVALUATION.layout,
    ],
    super::layout::START,
);

authors_struct! { BLOCK = Block { id: LayerId, born_at_step: u64, trains: u64, } }
authors_struct! { LOSS_POINT = LossPoint { step: u64, loss_nats_per_token: f64, } }
authors_struct! { EVALUATION = Evaluation { step: u64, tokens: u64, loss_nats_per_token: f64, } }

/// Everything that crosses through this interface beside its table.
pub const CROSSING: [Described; 10] = [
    RawFault::DESCRIBED,
    RawSaved::DESCRIBED,
    RawContext::DESCRIBED,
    RawSink::DESCRIBED,
    RawInsert::DESCRIBED,
    RawTrain::DESCRIBED,
    RawOptimizer::DESCRIBED,
    BLOCK,
    LOSS_POINT,
    EVALUATION,
];

/// Stands for "above the embedding" where a layer's identity is expected.
const EMBEDDING: u64 = u64::MAX;

crossing! {
    /// The functions of a strategy.
    pub struct Table {
        /// Makes an instance from (id, configuration as JSON).
        pub create: extern "C" fn(RStr<'_>, RStr<'_>) -> RawResult<Instance>,
        /// Run facts as JSON in, plan as JSON out.
        pub plan: extern "C" fn(Instance, RStr<'_>) -> RawResult<RString>,
        /// Decides before a step.
        pub before_step: extern "C" fn(Instance, &RawContext<'_>, &RawSink) -> RawResult<()>,
        /// An event as JSON in.
        pub on_event: extern "C" fn(Instance, RStr<'_>, &RawSink) -> RawResult<()>,
        /// The state.
        pub save: extern "C" fn(Instance) -> RawResult<RawSaved>,
        /// Goes back to a state.
        pub restore: extern "C" fn(Instance, u32, RSlice<'_, u8>) -> RawResult<()>,
        /// Drops the instance.
        pub destroy: extern "C" fn(Instance),
    }
}

crossing! {
    /// A saved state.
    pub struct RawSaved {
        /// Version of its layout.
        pub version: u64,
        /// The state.
        pub bytes: abi_stable::std_types::RVec<u8>,
    }
}

crossing! {
    /// [`StepContext`].
    pub struct RawContext<'a> {
        /// As there.
        pub step: u64,
        /// As there.
        pub tokens: u64,
        /// As there.
        pub flops: f64,
        /// As there.
        pub learning_rate: f64,
        /// As there.
        pub progress: f64,
        /// As there.
        pub phase: RStr<'a>,
        /// As there.
        pub blocks: RSlice<'a, Block>,
        /// As there.
        pub losses: RSlice<'a, LossPoint>,
        /// As there.
        pub evaluations: RSlice<'a, Evaluation>,
    }
}

crossing! {
    /// Where requests go: one function a request. Valid for the length of the call that it is passed to.
    pub struct RawSink {
        /// The host's side, passed back with every call.
        pub host: *mut c_void,
        /// Answers the first new identity.
        pub insert: extern "C" fn(*mut c_void, &RawInsert<'_>) -> RawResult<u64>,
        /// By identity.
        pub remove: extern "C" fn(*mut c_void, RSlice<'_, u64>) -> RawResult<()>,
        /// What trains.
        pub train: extern "C" fn(*mut c_void, &RawTrain<'_>) -> RawResult<()>,
        /// AdamW states.
        pub optimizer: extern "C" fn(*mut c_void, &RawOptimizer<'_>) -> RawResult<()>,
        /// (Kind of change, its number).
        pub schedule: extern "C" fn(*mut c_void, u32, f64) -> RawResult<()>,
        /// (Kind of request, its text): checkpoint, stop, phase, reject, accept, evaluate.
        pub tell: extern "C" fn(*mut c_void, u32, RStr<'_>) -> RawResult<()>,
        /// (Key, value).
        pub metric: extern "C" fn(*mut c_void, RStr<'_>, f64) -> RawResult<()>,
    }
}

crossing! {
    /// [`Insert`](crate::Insert).
    pub struct RawInsert<'a> {
        /// The layer below, or all ones for the embedding.
        pub above: u64,
        /// How many.
        pub count: u64,
        /// 1 from the initializer, 2 zero, 3 copied.
        pub moments: u64,
        /// The initializer's role.
        pub slot: RStr<'a>,
        /// By identity.
        pub sources: RSlice<'a, u64>,
    }
}

crossing! {
    /// [`Train`](crate::Train).
    pub struct RawTrain<'a> {
        /// By identity.
        pub layers: RSlice<'a, u64>,
        /// None = all.
        pub classes: ROption<RSlice<'a, RStr<'a>>>,
        /// Bits 0..4: token embedding, position embedding, final norm, head.
        pub shared: u64,
    }
}

crossing! {
    /// [`OptimizerRule`].
    pub struct RawOptimizer<'a> {
        /// 1 all, 2 shared, 3 layers, 4 class.
        pub which: u64,
        /// For 3.
        pub layers: RSlice<'a, u64>,
        /// For 4.
        pub class: RStr<'a>,
        /// 1 reset, 2 scale, 3 set updates, 4 copy from.
        pub change: u64,
        /// For 2.
        pub first: f64,
        /// For 2.
        pub second: f64,
        /// For 3 the counter, for 4 the layer.
        pub number: u64,
    }
}

mod schedule {
    pub(super) const SHIFT: u32 = 1;
    pub(super) const REWARM: u32 = 2;
    pub(super) const RESTART: u32 = 3;
    pub(super) const EXTEND: u32 = 4;
    pub(super) const DECAY_NOW: u32 = 5;
}

mod tell {
    pub(super) const EVALUATE: u32 = 1;
    pub(super) const CHECKPOINT: u32 = 2;
    pub(super) const STOP: u32 = 3;
    pub(super) const PHASE: u32 = 4;
    pub(super) const ACCEPT: u32 = 5;
    pub(super) const REJECT: u32 = 6;
}

/// The numbers of requests and of changes of the schedule, by name.
pub const NUMBERS: [(&str, u32); 11] = [
    ("schedule shift", schedule::SHIFT),
    ("schedule rewarm", schedule::REWARM),
    ("schedule restart", schedule::RESTART),
    ("schedule extend", schedule::EXTEND),
    ("schedule decay now", schedule::DECAY_NOW),
    ("tell evaluate", tell::EVALUATE),
    ("tell checkpoint", tell::CHECKPOINT),
    ("tell stop", tell::STOP),
    ("tell phase", tell::PHASE),
    ("tell accept", tell::ACCEPT),
    ("tell reject", tell::REJECT),
];

// ---------------------------------------------------------------- the plugin's half

/// The table of this library.
pub static TABLE: Table = FUNCTIONS;

/// The same as a value, for a later revision's table to take from.
pub(super) const FUNCTIONS: Table = Table { create, plan, before_step, on_event, save, restore, destroy };

type StrategySlot = Slot<dyn GrowthStrategy>;

extern "C" fn create(id: RStr<'_>, config: RStr<'_>) -> RawResult<Instance> {
    outcome(super::export_parts::create_strategy(id.as_str(), config.as_str()).map(StrategySlot::give))
}

extern "C" fn plan(instance: Instance, run: RStr<'_>) -> RawResult<RString> {
    // SAFETY: the host passes what `create` gave, from one thread at a time; so below.
    unsafe {
        StrategySlot::call(instance, |strategy| {
            let plan = strategy.plan(&serde_json::from_str(run.as_str())?)?;
            Ok(serde_json::to_string(&plan)?.into())
        })
    }
}

extern "C" fn before_step(instance: Instance, context: &RawContext<'_>, sink: &RawSink) -> RawResult<()> {
    // SAFETY: see `plan`.
    unsafe { before_step_into(instance, context, &mut PluginSink(sink)) }
}

/// Asks an instance, whatever the revision of the sink that its requests go to.
///
/// # Safety
/// As for [`Slot::call`].
pub(super) unsafe fn before_step_into(
    instance: Instance,
    context: &RawContext<'_>,
    sink: &mut dyn ActionSink,
) -> RawResult<()> {
    let context = StepContext {
        step: context.step,
        tokens: context.tokens,
        flops: context.flops,
        learning_rate: context.learning_rate,
        progress: context.progress,
        phase: context.phase.as_str(),
        blocks: context.blocks.as_slice(),
        losses: context.losses.as_slice(),
        evaluations: context.evaluations.as_slice(),
    };
    // SAFETY: passed on to the caller.
    unsafe {
        StrategySlot::call(instance, |strategy| strategy.before_step(&context, &mut Actions::new(sink)))
    }
}

extern "C" fn on_event(instance: Instance, event: RStr<'_>, sink: &RawSink) -> RawResult<()> {
    // SAFETY: see `plan`.
    unsafe { on_event_into(instance, event, &mut PluginSink(sink)) }
}

/// Tells an instance, whatever the revision of the sink that its requests go to.
///
/// # Safety
/// As for [`Slot::call`].
pub(super) unsafe fn on_event_into(
    instance: Instance,
    event: RStr<'_>,
    sink: &mut dyn ActionSink,
) -> RawResult<()> {
    // SAFETY: passed on to the caller.
    unsafe {
        StrategySlot::call(instance, |strategy| {
            let event = serde_json::from_str(event.as_str())?;
            strategy.on_event(&event, &mut Actions::new(sink))
        })
    }
}

extern "C" fn save(instance: Instance) -> RawResult<RawSaved> {
    // SAFETY: see `plan`.
    unsafe { StrategySlot::call(instance, |strategy| strategy.save().map(RawSaved::from)) }
}

extern "C" fn restore(instance: Instance, version: u32, bytes: RSlice<'_, u8>) -> RawResult<()> {
    let saved = Saved { version, bytes: bytes.to_vec() };
    // SAFETY: see `plan`.
    unsafe { StrategySlot::call(instance, |strategy| strategy.restore(&saved)) }
}

extern "C" fn destroy(instance: Instance) {
    // SAFETY: see `plan`; the host does not use the instance again.
    unsafe { StrategySlot::drop_instance(instance) }
}

impl From<Saved> for RawSaved {
    fn from(saved: Saved) -> RawSaved {
        RawSaved { version: saved.version.into(), bytes: saved.bytes.into() }
    }
}

impl From<RawSaved> for Saved {
    fn from(saved: RawSaved) -> Saved {
        Saved { version: u32::try_from(saved.version).unwrap_or(u32::MAX), bytes: saved.bytes.into_vec() }
    }
}

/// Turns requests into calls of the host's functions.
pub(super) struct PluginSink<'a>(pub(super) &'a RawSink);

impl ActionSink for PluginSink<'_> {
    fn push(&mut self, action: Action) -> Result<Pushed> {
        let (sink, host) = (self.0, self.0.host);
        let answer = match action {
            Action::Insert(insert) => {
                let above = match insert.above {
                    Above::Embedding => EMBEDDING,
                    Above::Layer(layer) => layer.0,
                };
                let sources = numbers(&insert.sources);
                let raw = RawInsert {
                    above,
                    count: insert.count as u64,
                    moments: moments_number(insert.moments),
                    slot: insert.slot.as_str().into(),
                    sources: sources.as_slice().into(),
                };
                return from_raw((sink.insert)(host, &raw)).map(|first| Pushed::FirstLayer(LayerId(first)));
            }
            Action::Remove(layers) => (sink.remove)(host, numbers(&layers).as_slice().into()),
            Action::Train(train) => {
                let layers = numbers(&train.layers);
                let classes: Option<Vec<RStr<'_>>> = train
                    .classes
                    .as_ref()
                    .map(|classes| classes.iter().map(|class| class.as_str().into()).collect());
                let shared = [train.token_embedding, train.position_embedding, train.final_norm, train.head];
                let raw = RawTrain {
                    layers: layers.as_slice().into(),
                    classes: classes.as_ref().map(|classes| RSlice::from_slice(classes)).into(),
                    shared: shared.iter().enumerate().map(|(bit, &on)| u64::from(on) << bit).sum(),
                };
                (sink.train)(host, &raw)
            }
            Action::Optimizer(rule) => push_optimizer(sink, &rule),
            Action::Schedule(change) => match change {
                ScheduleChange::Shift(share) => (sink.schedule)(host, schedule::SHIFT, share),
                ScheduleChange::Rewarm(steps) => (sink.schedule)(host, schedule::REWARM, steps as f64),
                ScheduleChange::Restart => (sink.schedule)(host, schedule::RESTART, 0.0),
                ScheduleChange::Extend(factor) => (sink.schedule)(host, schedule::EXTEND, factor),
                ScheduleChange::DecayNow(share) => (sink.schedule)(host, schedule::DECAY_NOW, share),
                ScheduleChange::Scale(_) | ScheduleChange::Follow(_) => return Err(too_new()),
            },
            Action::Evaluate => (sink.tell)(host, tell::EVALUATE, RStr::empty()),
            Action::Checkpoint(name) => (sink.tell)(host, tell::CHECKPOINT, name.as_str().into()),
            Action::Stop(reason) => (sink.tell)(host, tell::STOP, reason.as_str().into()),
            Action::Phase(label) => (sink.tell)(host, tell::PHASE, label.as_str().into()),
            Action::Accept => (sink.tell)(host, tell::ACCEPT, RStr::empty()),
            Action::Reject(reason) => (sink.tell)(host, tell::REJECT, reason.as_str().into()),
            Action::Metric { key, value } => (sink.metric)(host, key.as_str().into(), value),
            Action::Replace(_)
            | Action::Execute(_)
            | Action::ExecuteWholeStack
            | Action::Permute(_)
            | Action::Gate(_)
            | Action::Rates(_)
            | Action::Batch(_)
            | Action::Probe(_)
            | Action::Widen(_) => return Err(too_new()),
        };
        from_raw(answer).map(|()| Pushed::Taken)
    }
}

fn too_new() -> Error {
    Error::new(format!(
        "this host knows the strategy interface to revision {REVISION}, which cannot ask for that; use a newer sapwood"
    ))
}

fn push_optimizer(sink: &RawSink, rule: &OptimizerRule) -> RawResult<()> {
    let (which, layers, class) = match &rule.which {
        Which::All => (1, Vec::new(), ""),
        Which::Shared => (2, Vec::new(), ""),
        Which::Layers(layers) => (3, numbers(layers), ""),
        Which::Class(class) => (4, Vec::new(), class.as_str()),
    };
    let (change, first, second, number) = match rule.change {
        OptimizerChange::Reset => (1, 0.0, 0.0, 0),
        OptimizerChange::Scale { first, second } => (2, first, second, 0),
        OptimizerChange::SetUpdates(updates) => (3, 0.0, 0.0, updates),
        OptimizerChange::CopyFrom(layer) => (4, 0.0, 0.0, layer.0),
    };
    let layers = layers.as_slice().into();
    let raw = RawOptimizer { which, layers, class: class.into(), change, first, second, number };
    (sink.optimizer)(sink.host, &raw)
}

pub(super) fn numbers(layers: &[LayerId]) -> Vec<u64> {
    layers.iter().map(|layer| layer.0).collect()
}

pub(super) fn moments_number(rule: MomentsRule) -> u64 {
    match rule {
        MomentsRule::FromInitializer => 1,
        MomentsRule::Zero => 2,
        MomentsRule::CopyFromSource => 3,
    }
}

// ---------------------------------------------------------------- the host's half

/// A strategy of a loaded library.
#[cfg(feature = "host")]
pub(crate) struct HostStrategy {
    functions: Functions,
    instance: Instance,
}

/// A library's functions, by the revision through which it is called.
#[cfg(feature = "host")]
#[derive(Clone, Copy)]
pub(crate) enum Functions {
    First(&'static Table),
    Second(&'static strategy_2::Table),
}

#[cfg(feature = "host")]
impl Functions {
    /// Those that have not changed since revision 1.
    fn first(self) -> &'static Table {
        match self {
            Functions::First(table) => table,
            Functions::Second(table) => &table.first,
        }
    }
}

// SAFETY: the instance is a boxed `GrowthStrategy`, which is `Send`, and `&mut self` keeps calls apart.
#[cfg(feature = "host")]
unsafe impl Send for HostStrategy {}

#[cfg(feature = "host")]
impl HostStrategy {
    pub(crate) fn create(functions: Functions, id: &str, config: &str) -> Result<HostStrategy> {
        let instance = from_raw((functions.first().create)(id.into(), config.into()))?;
        Ok(HostStrategy { functions, instance })
    }
}

#[cfg(feature = "host")]
impl Drop for HostStrategy {
    fn drop(&mut self) {
        (self.functions.first().destroy)(self.instance);
    }
}

#[cfg(feature = "host")]
impl GrowthStrategy for HostStrategy {
    fn plan(&mut self, run: &crate::RunFacts) -> Result<crate::Plan> {
        let run = serde_json::to_string(run)?;
        let plan = from_raw((self.functions.first().plan)(self.instance, run.as_str().into()))?;
        Ok(serde_json::from_str(&plan)?)
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let raw = RawContext {
            step: context.step,
            tokens: context.tokens,
            flops: context.flops,
            learning_rate: context.learning_rate,
            progress: context.progress,
            phase: context.phase.into(),
            blocks: context.blocks.into(),
            losses: context.losses.into(),
            evaluations: context.evaluations.into(),
        };
        match self.functions {
            Functions::First(table) => {
                with_sink(actions, |sink| (table.before_step)(self.instance, &raw, sink))
            }
            Functions::Second(table) => {
                strategy_2::with_sink(actions, |sink| (table.before_step)(self.instance, &raw, sink))
            }
        }
    }

    fn on_event(&mut self, event: &crate::Event, actions: &mut Actions<'_>) -> Result<()> {
        let event = serde_json::to_string(event)?;
        let event = event.as_str().into();
        match self.functions {
            Functions::First(table) => {
                with_sink(actions, |sink| (table.on_event)(self.instance, event, sink))
            }
            Functions::Second(table) => {
                strategy_2::with_sink(actions, |sink| (table.on_event)(self.instance, event, sink))
            }
        }
    }

    fn save(&self) -> Result<Saved> {
        from_raw((self.functions.first().save)(self.instance)).map(Saved::from)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        from_raw((self.functions.first().restore)(
            self.instance,
            saved.version,
            saved.bytes.as_slice().into(),
        ))
    }
}

/// Offers the host's own sink to a plugin for the length of one call.
#[cfg(feature = "host")]
fn with_sink(actions: &mut Actions<'_>, call: impl FnOnce(&RawSink) -> RawResult<()>) -> Result<()> {
    from_raw(call(&sink_of(actions)))
}

/// The host's own sink as a plugin sees it, for the length of one call.
#[cfg(feature = "host")]
pub(super) fn sink_of(actions: &mut Actions<'_>) -> RawSink {
    RawSink {
        host: std::ptr::from_mut(actions).cast(),
        insert: host_half::insert,
        remove: host_half::remove,
        train: host_half::train,
        optimizer: host_half::optimizer,
        schedule: host_half::schedule,
        tell: host_half::tell,
        metric: host_half::metric,
    }
}

/// The functions that a plugin calls back. Whatever comes in is checked: an unknown number is answered
/// with an error, never guessed.
#[cfg(feature = "host")]
pub(super) mod host_half {
    use abi_stable::std_types::RResult;

    use super::*;
    use crate::{Insert, Train};

    fn push(host: *mut c_void, action: Action) -> Result<Pushed> {
        // SAFETY: `host` is the `Actions` that `with_sink` borrowed for the call under way, and the
        // plugin has it from there; the call holds no other reference to it.
        let actions = unsafe { &mut *host.cast::<Actions<'_>>() };
        actions.push(action)
    }

    pub(in crate::abi) fn take(host: *mut c_void, action: Result<Action>) -> RawResult<()> {
        outcome(action.and_then(|action| push(host, action)).map(|_| ()))
    }

    pub(in crate::abi) fn layers(numbers: RSlice<'_, u64>) -> Vec<LayerId> {
        numbers.iter().map(|&number| LayerId(number)).collect()
    }

    fn unknown<T>(what: &str, number: u64) -> Result<T> {
        Err(Error::new(format!("this host does not know {what} number {number}")))
    }

    pub(in crate::abi) fn moments(number: u64) -> Result<MomentsRule> {
        match number {
            1 => Ok(MomentsRule::FromInitializer),
            2 => Ok(MomentsRule::Zero),
            3 => Ok(MomentsRule::CopyFromSource),
            other => unknown("the moments rule", other),
        }
    }

    pub(super) extern "C" fn insert(host: *mut c_void, raw: &RawInsert<'_>) -> RawResult<u64> {
        let count = usize::try_from(raw.count);
        let count = count.map_err(|_| Error::new(format!("{} blocks are too many", raw.count)));
        let above = if raw.above == EMBEDDING { Above::Embedding } else { Above::Layer(LayerId(raw.above)) };
        let pushed = moments(raw.moments).and_then(|moments| {
            let (slot, sources) = (raw.slot.into(), layers(raw.sources));
            push(host, Action::Insert(Insert { above, count: count?, slot, sources, moments }))
        });
        match outcome(pushed) {
            RResult::ROk(Pushed::FirstLayer(first)) => RResult::ROk(first.0),
            RResult::ROk(Pushed::Taken) => RResult::ROk(0),
            RResult::RErr(fault) => RResult::RErr(fault),
        }
    }

    pub(super) extern "C" fn remove(host: *mut c_void, raw: RSlice<'_, u64>) -> RawResult<()> {
        take(host, Ok(Action::Remove(layers(raw))))
    }

    pub(super) extern "C" fn train(host: *mut c_void, raw: &RawTrain<'_>) -> RawResult<()> {
        let classes = raw.classes.as_ref().into_option();
        let classes = classes.map(|classes| classes.iter().map(|class| class.as_str().to_owned()).collect());
        let bit = |bit: u32| raw.shared >> bit & 1 == 1;
        take(
            host,
            if raw.shared >> 4 == 0 {
                Ok(Action::Train(Train {
                    layers: layers(raw.layers),
                    classes,
                    token_embedding: bit(0),
                    position_embedding: bit(1),
                    final_norm: bit(2),
                    head: bit(3),
                }))
            } else {
                unknown("the set of shared tensors", raw.shared)
            },
        )
    }

    pub(super) extern "C" fn optimizer(host: *mut c_void, raw: &RawOptimizer<'_>) -> RawResult<()> {
        let which = match raw.which {
            1 => Ok(Which::All),
            2 => Ok(Which::Shared),
            3 => Ok(Which::Layers(layers(raw.layers))),
            4 => Ok(Which::Class(raw.class.into())),
            other => unknown("the choice of tensors", other),
        };
        let change = match raw.change {
            1 => Ok(OptimizerChange::Reset),
            2 => Ok(OptimizerChange::Scale { first: raw.first, second: raw.second }),
            3 => Ok(OptimizerChange::SetUpdates(raw.number)),
            4 => Ok(OptimizerChange::CopyFrom(LayerId(raw.number))),
            other => unknown("the optimizer change", other),
        };
        take(host, which.and_then(|which| Ok(Action::Optimizer(OptimizerRule { which, change: change? }))))
    }

    pub(super) extern "C" fn schedule(host: *mut c_void, kind: u32, number: f64) -> RawResult<()> {
        let change = match kind {
            schedule::SHIFT => Ok(ScheduleChange::Shift(number)),
            schedule::REWARM if number >= 0.0 => Ok(ScheduleChange::Rewarm(number as u64)),
            schedule::RESTART => Ok(ScheduleChange::Restart),
            schedule::EXTEND => Ok(ScheduleChange::Extend(number)),
            schedule::DECAY_NOW => Ok(ScheduleChange::DecayNow(number)),
            other => unknown("the schedule change", other.into()),
        };
        take(host, change.map(Action::Schedule))
    }

    pub(super) extern "C" fn tell(host: *mut c_void, kind: u32, text: RStr<'_>) -> RawResult<()> {
        let action = match kind {
            tell::EVALUATE => Ok(Action::Evaluate),
            tell::CHECKPOINT => Ok(Action::Checkpoint(text.into())),
            tell::STOP => Ok(Action::Stop(text.into())),
            tell::PHASE => Ok(Action::Phase(text.into())),
            tell::ACCEPT => Ok(Action::Accept),
            tell::REJECT => Ok(Action::Reject(text.into())),
            other => unknown("the request", other.into()),
        };
        take(host, action)
    }

    pub(super) extern "C" fn metric(host: *mut c_void, key: RStr<'_>, value: f64) -> RawResult<()> {
        take(host, Ok(Action::Metric { key: key.into(), value }))
    }
}
