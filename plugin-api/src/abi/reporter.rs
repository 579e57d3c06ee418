//! The metric reporter's interface, revision 1: the table, and both halves of it. Events cross as JSON:
//! reporters run beside training, where that costs nothing, and a new event never needs a new revision.

use abi_stable::std_types::RStr;

use super::boundary::{Instance, RawFault, RawResult, Slot, outcome};
use super::layout::hash_numbers;
use crate::MetricReporter;

/// The revision that this file describes.
pub const REVISION: u32 = 1;

/// Hash of everything that crosses through this interface.
pub const LAYOUT: u64 = hash_numbers(&[Table::LAYOUT, RawFault::LAYOUT], super::layout::START);

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

/// A second revision, made up by tests to prove the rule by which a real one will be added: the first stays as it
/// is, and the new table stands beside it.
#[cfg(feature = "test-revision-2")]
pub mod second {
    use super::*;

    /// The revision that this module describes.
    pub const REVISION: u32 = 2;

    /// Hash of everything that crosses through this interface.
    pub const LAYOUT: u64 = hash_numbers(&[Table2::LAYOUT, super::LAYOUT], super::super::layout::START);

    crossing! {
        /// The functions of a reporter, and one more.
        pub struct Table2 {
            /// Those of the first revision.
            pub first: Table,
            /// Answers a number that the first revision does not have.
            pub pulse: extern "C" fn(Instance) -> RawResult<u64>,
        }
    }

    /// The table of this library.
    pub static TABLE: Table2 =
        Table2 { first: Table { create, start, event, flush, finish, destroy }, pulse };

    extern "C" fn pulse(instance: Instance) -> RawResult<u64> {
        // SAFETY: see `start`.
        unsafe { ReporterSlot::call(instance, |reporter| reporter.flush().map(|()| 2)) }
    }
}

// ---------------------------------------------------------------- the host's half

/// A reporter of a loaded library.
#[cfg(feature = "host")]
pub(crate) struct HostReporter {
    table: &'static Table,
    instance: Instance,
    /// What the second revision has beyond the first.
    #[cfg(feature = "test-revision-2")]
    pulse: Option<extern "C" fn(Instance) -> RawResult<u64>>,
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
            Ok(HostReporter {
                table,
                instance,
                #[cfg(feature = "test-revision-2")]
                pulse: None,
            })
        }

        #[cfg(feature = "test-revision-2")]
        pub(crate) fn create_second(
            table: &'static super::second::Table2,
            id: &str,
            config: &str,
        ) -> Result<HostReporter> {
            let mut made = HostReporter::create(&table.first, id, config)?;
            made.pulse = Some(table.pulse);
            Ok(made)
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
            #[cfg(feature = "test-revision-2")]
            if let Some(pulse) = self.pulse {
                let number = from_raw(pulse(self.instance))?;
                return if number == 2 { Ok(()) } else { Err(crate::Error::new("no pulse")) };
            }
            from_raw((self.table.flush)(self.instance))
        }

        fn finish(&mut self) -> Result<()> {
            from_raw((self.table.finish)(self.instance))
        }
    }
}
