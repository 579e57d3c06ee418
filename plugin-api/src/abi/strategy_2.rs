//! The growth strategy's interface, revision 2: revision 1 with more requests. To make blocks' values anew and to choose
//! what runs in a step cross as structs, since they may be asked for at every step; all others as JSON. Both halves. Not
//! frozen yet (`plugin-api/ABI.md`).

use std::ffi::c_void;

use abi_stable::std_types::{ROption, RSlice, RStr};

use super::boundary::{Instance, RawResult, from_raw};
use super::layout::{Described, hash_numbers};
use super::strategy::{self, PluginSink, RawContext};
use crate::{Action, ActionSink, Pass, Pushed, Replace, Result, ScheduleChange};

/// The revision that this file describes.
pub const REVISION: u32 = 2;

/// Hash of everything that crosses through this interface.
pub const LAYOUT: u64 = hash_numbers(
    &[strategy::LAYOUT, Table::LAYOUT, RawSink::LAYOUT, RawReplace::LAYOUT, RawPass::LAYOUT],
    super::layout::START,
);

/// Everything that crosses through this interface beside its table and what revision 1 has.
pub const CROSSING: [Described; 3] = [RawSink::DESCRIBED, RawReplace::DESCRIBED, RawPass::DESCRIBED];

crossing! {
    /// The functions of a strategy.
    pub struct Table {
        /// Those of revision 1.
        pub first: strategy::Table,
        /// Decides before a step.
        pub before_step: extern "C" fn(Instance, &RawContext<'_>, &RawSink) -> RawResult<()>,
        /// An event as JSON in.
        pub on_event: extern "C" fn(Instance, RStr<'_>, &RawSink) -> RawResult<()>,
    }
}

crossing! {
    /// Where requests go, as in revision 1.
    pub struct RawSink {
        /// Those of revision 1, with the host's side for all of them.
        pub first: strategy::RawSink,
        /// Blocks to be made anew.
        pub replace: extern "C" fn(*mut c_void, &RawReplace<'_>) -> RawResult<()>,
        /// What runs.
        pub execute: extern "C" fn(*mut c_void, RSlice<'_, RawPass<'_>>) -> RawResult<()>,
        /// The whole stack runs.
        pub execute_whole_stack: extern "C" fn(*mut c_void) -> RawResult<()>,
        /// Any other [`Action`], as JSON.
        pub further: extern "C" fn(*mut c_void, RStr<'_>) -> RawResult<()>,
    }
}

crossing! {
    /// [`Replace`].
    pub struct RawReplace<'a> {
        /// By identity.
        pub layers: RSlice<'a, u64>,
        /// The initializer's role.
        pub slot: RStr<'a>,
        /// By identity.
        pub sources: RSlice<'a, u64>,
        /// As in revision 1's `RawInsert`.
        pub moments: u64,
    }
}

crossing! {
    /// [`Pass`].
    pub struct RawPass<'a> {
        /// By identity.
        pub layer: u64,
        /// As there.
        pub attention_gate: f32,
        /// As there.
        pub mlp_gate: f32,
        /// As there, 0 or 1 for each sequence.
        pub sequences: ROption<RSlice<'a, u8>>,
    }
}

// ---------------------------------------------------------------- the plugin's half

/// The table of this library.
pub static TABLE: Table = FUNCTIONS;

/// The same as a value, for a later revision's table to take from.
pub(super) const FUNCTIONS: Table = Table { first: strategy::FUNCTIONS, before_step, on_event };

extern "C" fn before_step(instance: Instance, context: &RawContext<'_>, sink: &RawSink) -> RawResult<()> {
    // SAFETY: the host passes what `create` gave, from one thread at a time.
    unsafe { strategy::before_step_into(instance, context, &mut NewerSink(sink)) }
}

extern "C" fn on_event(instance: Instance, event: RStr<'_>, sink: &RawSink) -> RawResult<()> {
    // SAFETY: as above.
    unsafe { strategy::on_event_into(instance, event, &mut NewerSink(sink)) }
}

/// Turns requests into calls of the host's functions.
struct NewerSink<'a>(&'a RawSink);

impl ActionSink for NewerSink<'_> {
    fn push(&mut self, action: Action) -> Result<Pushed> {
        let (sink, host) = (self.0, self.0.first.host);
        let answer = match action {
            Action::Replace(replace) => push_replace(sink, &replace),
            Action::Execute(passes) => push_execute(sink, &passes),
            Action::ExecuteWholeStack => (sink.execute_whole_stack)(host),
            Action::Permute(_)
            | Action::Gate(_)
            | Action::Rates(_)
            | Action::Batch(_)
            | Action::Probe(_)
            | Action::Widen(_)
            | Action::Schedule(ScheduleChange::Scale(_) | ScheduleChange::Follow(_)) => {
                // A number that is none would not come through as JSON.
                action.check_well_formed()?;
                (sink.further)(host, serde_json::to_string(&action)?.as_str().into())
            }
            older => return PluginSink(&sink.first).push(older),
        };
        from_raw(answer).map(|()| Pushed::Taken)
    }
}

fn push_replace(sink: &RawSink, replace: &Replace) -> RawResult<()> {
    let (layers, sources) = (strategy::numbers(&replace.layers), strategy::numbers(&replace.sources));
    let raw = RawReplace {
        layers: layers.as_slice().into(),
        slot: replace.slot.as_str().into(),
        sources: sources.as_slice().into(),
        moments: strategy::moments_number(replace.moments),
    };
    (sink.replace)(sink.first.host, &raw)
}

fn push_execute(sink: &RawSink, passes: &[Pass]) -> RawResult<()> {
    let as_bytes = |mask: &Vec<bool>| mask.iter().copied().map(u8::from).collect();
    let masks: Vec<Option<Vec<u8>>> =
        passes.iter().map(|pass| pass.sequences.as_ref().map(as_bytes)).collect();
    let raw: Vec<RawPass<'_>> =
        passes.iter().zip(&masks).map(|(pass, mask)| raw_pass(pass, mask.as_deref())).collect();
    (sink.execute)(sink.first.host, raw.as_slice().into())
}

fn raw_pass<'a>(pass: &Pass, mask: Option<&'a [u8]>) -> RawPass<'a> {
    let Pass { layer, attention_gate, mlp_gate, .. } = *pass;
    let sequences = mask.map(RSlice::from_slice).into();
    RawPass { layer: layer.0, attention_gate, mlp_gate, sequences }
}

// ---------------------------------------------------------------- the host's half

/// Offers the host's own sink to a plugin for the length of one call.
#[cfg(feature = "host")]
pub(super) fn with_sink(
    actions: &mut crate::Actions<'_>,
    call: impl FnOnce(&RawSink) -> RawResult<()>,
) -> Result<()> {
    let raw = RawSink {
        first: strategy::sink_of(actions),
        replace: host_half::replace,
        execute: host_half::execute,
        execute_whole_stack: host_half::execute_whole_stack,
        further: host_half::further,
    };
    from_raw(call(&raw))
}

/// The functions that a plugin calls back; whatever comes in is checked.
#[cfg(feature = "host")]
mod host_half {
    use super::*;
    use crate::abi::strategy::host_half::{layers, moments, take};
    use crate::{Error, LayerId};

    pub(super) extern "C" fn replace(host: *mut c_void, raw: &RawReplace<'_>) -> RawResult<()> {
        take(
            host,
            moments(raw.moments).map(|moments| {
                let (slot, sources) = (raw.slot.into(), layers(raw.sources));
                Action::Replace(Replace { layers: layers(raw.layers), slot, sources, moments })
            }),
        )
    }

    pub(super) extern "C" fn execute(host: *mut c_void, raw: RSlice<'_, RawPass<'_>>) -> RawResult<()> {
        take(host, raw.iter().map(pass).collect::<Result<_>>().map(Action::Execute))
    }

    fn pass(raw: &RawPass<'_>) -> Result<Pass> {
        let sequences = raw.sequences.as_ref().into_option();
        let sequences = sequences.map(|mask| mask.iter().map(|&one| runs(one)).collect()).transpose()?;
        let RawPass { layer, attention_gate, mlp_gate, .. } = *raw;
        Ok(Pass { layer: LayerId(layer), attention_gate, mlp_gate, sequences })
    }

    fn runs(number: u8) -> Result<bool> {
        match number {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Error::new(format!("a mask holds {other}, which is neither 0 nor 1"))),
        }
    }

    pub(super) extern "C" fn execute_whole_stack(host: *mut c_void) -> RawResult<()> {
        take(host, Ok(Action::ExecuteWholeStack))
    }

    pub(super) extern "C" fn further(host: *mut c_void, action: RStr<'_>) -> RawResult<()> {
        let read = serde_json::from_str(action.as_str());
        take(host, read.map_err(|error| Error::new(format!("this host does not know the request: {error}"))))
    }
}
