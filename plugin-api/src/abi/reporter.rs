//! The metric reporter's interface, revision 1: the table, and both halves of it. Events cross as JSON:
//! reporters run beside training, where that costs nothing, and a new event never needs a new revision.

use abi_stable::std_types::RStr;

use super::boundary::{Instance, RawFault, RawResult, Slot, outcome};
use super::layout::{Described, hash_numbers};
use crate::MetricReporter;

/// The revision that this file describes.
pub const REVISION: u32 = 1;

/// Hash of everything that crosses through this interface.
pub const LAYOUT: u64 = hash_numbers(&[Table::LAYOUT, RawFault::LAYOUT], super::layout::START);

/// Everything that crosses through this interface beside its table.
pub const CROSSING: [Described; 1] = [RawFault::DESCRIBED];

crossing! {
    /// The functions of a reporter.
    pub struct Table {
        /// Makes an instance from (id, configuration as JSON).
        pub create: extern "C" fn(RStr<'_>, RStr<'_>) -> RawResult<Instance>,
        /// Session facts as JSON in.
        pub start: extern "C" fn(Instance, RStr<'_>) -> RawResult<()>,
        /// An event as JSON in.
        pub event: extern "C" fn(Instance, RStr<'_>) -> RawResult<()>,
        /// Writes out what is held back.
        pub flush: extern "C" fn(Instance) -> RawResult<()>,
        /// After the last event.
        pub finish: extern "C" fn(Instance) -> RawResult<()>,
        /// Drops the instance.
        pub destroy: extern "C" fn(Instance),
    }
}

// ---------------------------------------------------------------- the plugin's half

/// The table of this library.
pub static TABLE: Table = Table { create, start, event, flush, finish, destroy };

type ReporterSlot = Slot<dyn MetricReporter>;

extern "C" fn create(id: RStr<'_>, config: RStr<'_>) -> RawResult<Instance> {
    outcome(super::export_parts::create_reporter(id.as_str(), config.as_str()).map(ReporterSlot::give))
}

extern "C" fn start(instance: Instance, session: RStr<'_>) -> RawResult<()> {
    // SAFETY: the host passes what `create` gave, from one thread at a time; so below.
    unsafe {
        ReporterSlot::call(instance, |reporter| reporter.start(&serde_json::from_str(session.as_str())?))
    }
}

extern "C" fn event(instance: Instance, event: RStr<'_>) -> RawResult<()> {
    // SAFETY: see `start`.
    unsafe { ReporterSlot::call(instance, |reporter| reporter.event(&serde_json::from_str(event.as_str())?)) }
}

extern "C" fn flush(instance: Instance) -> RawResult<()> {
    // SAFETY: see `start`.
    unsafe { ReporterSlot::call(instance, |reporter| reporter.flush()) }
}

extern "C" fn finish(instance: Instance) -> RawResult<()> {
    // SAFETY: see `start`.
    unsafe { ReporterSlot::call(instance, |reporter| reporter.finish()) }
}

extern "C" fn destroy(instance: Instance) {
    // SAFETY: see `start`; the host does not use the instance again.
    unsafe { ReporterSlot::drop_instance(instance) }
}

// ---------------------------------------------------------------- the host's half

/// A reporter of a loaded library.
#[cfg(feature = "host")]
pub(crate) struct HostReporter {
    table: &'static Table,
    instance: Instance,
}

// SAFETY: the instance is a boxed `MetricReporter`, which is `Send`, and `&mut self` keeps calls apart.
#[cfg(feature = "host")]
unsafe impl Send for HostReporter {}

#[cfg(feature = "host")]
mod host_half {
    use super::super::boundary::from_raw;
    use super::{HostReporter, Table};
    use crate::{MetricReporter, Result, RunEvent, SessionFacts};

    impl HostReporter {
        pub(crate) fn create(table: &'static Table, id: &str, config: &str) -> Result<HostReporter> {
            let instance = from_raw((table.create)(id.into(), config.into()))?;
            Ok(HostReporter { table, instance })
        }
    }

    impl Drop for HostReporter {
        fn drop(&mut self) {
            (self.table.destroy)(self.instance);
        }
    }

    impl MetricReporter for HostReporter {
        fn start(&mut self, session: &SessionFacts) -> Result<()> {
            let session = serde_json::to_string(session)?;
            from_raw((self.table.start)(self.instance, session.as_str().into()))
        }

        fn event(&mut self, event: &RunEvent) -> Result<()> {
            let event = serde_json::to_string(event)?;
            from_raw((self.table.event)(self.instance, event.as_str().into()))
        }

        fn flush(&mut self) -> Result<()> {
            from_raw((self.table.flush)(self.instance))
        }

        fn finish(&mut self) -> Result<()> {
            from_raw((self.table.finish)(self.instance))
        }
    }
}
