//! The border itself: every call into a plugin passes here, and no panic passes back.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use abi_stable::std_types::{RResult, RString};

use crate::{Error, Result};

crossing! {
    /// An error on its way to the other side.
    pub struct RawFault {
        /// 1 where the plugin panicked.
        pub panicked: u64,
        /// The text.
        pub message: RString,
        /// Where it panicked, `file:line:column`.
        pub place: RString,
        /// The configuration's key at fault.
        pub field: RString,
    }
}

/// What calls answer.
pub type RawResult<T> = RResult<T, RawFault>;

/// A plugin's instance, seen from outside.
pub type Instance = *mut c_void;

/// A plugin's instance, seen from inside: nothing is called again after a panic.
pub struct Slot<P: ?Sized> {
    poisoned: bool,
    plugin: Box<P>,
}

impl<P: ?Sized> Slot<P> {
    /// Hands an instance over to the host.
    pub fn give(plugin: Box<P>) -> Instance {
        Box::into_raw(Box::new(Slot { poisoned: false, plugin })).cast()
    }

    /// Takes an instance back to drop it.
    ///
    /// # Safety
    /// `instance` came from [`give`](Slot::give) of the same `P` and is not used again.
    pub unsafe fn drop_instance(instance: Instance) {
        // SAFETY: by the contract above this is the box that `give` leaked.
        let slot = unsafe { Box::from_raw(instance.cast::<Slot<P>>()) };
        // A panic in a plugin's `drop` has nobody to tell.
        let _ = catch(move || {
            drop(slot);
            Ok(())
        });
    }

    /// Calls into the plugin; a panic becomes an error and poisons the instance.
    ///
    /// # Safety
    /// `instance` came from [`give`](Slot::give) of the same `P`, is alive, and no other call into it is
    /// under way.
    pub unsafe fn call<T>(instance: Instance, call: impl FnOnce(&mut P) -> Result<T>) -> RawResult<T> {
        // SAFETY: by the contract above the pointer is valid and unique.
        let slot = unsafe { &mut *instance.cast::<Slot<P>>() };
        if slot.poisoned {
            return RResult::RErr(to_raw(Error::new(
                "this instance panicked before and is not called again",
            )));
        }
        let result = catch(|| call(&mut slot.plugin));
        slot.poisoned = result.as_ref().err().is_some_and(|error| error.panicked().is_some());
        outcome(result)
    }
}

/// Runs code of the plugin; a panic becomes an error.
///
/// # Errors
/// What the code answers, or its panic.
pub fn catch<T>(code: impl FnOnce() -> Result<T>) -> Result<T> {
    // The instance that the closure may have left half-changed is poisoned by the caller.
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|payload| {
        let place = LAST_PANIC.with_borrow_mut(std::mem::take);
        Err(Error::panic(text_of(&*payload), place))
    })
}

/// Keeps the place of a panic for the error, and prints nothing. A plugin has a standard library of its
/// own, so this touches the host's hook in no way.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        LAST_PANIC.with_borrow_mut(|last| *last = place);
    }));
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

/// Turns a result into what crosses.
pub fn outcome<T>(result: Result<T>) -> RawResult<T> {
    match result {
        Ok(value) => RResult::ROk(value),
        Err(error) => RResult::RErr(to_raw(error)),
    }
}

fn to_raw(error: Error) -> RawFault {
    RawFault {
        panicked: error.panicked().is_some().into(),
        place: error.panicked().map(|at| at.place.as_str()).unwrap_or_default().into(),
        field: error.field().unwrap_or_default().into(),
        message: error.message().into(),
    }
}

/// Turns what crossed into a result again.
///
/// # Errors
/// The fault that crossed.
pub fn from_raw<T>(result: RawResult<T>) -> Result<T> {
    match result {
        RResult::ROk(value) => Ok(value),
        RResult::RErr(fault) if fault.panicked != 0 => {
            Err(Error::panic(fault.message.into_string(), fault.place.into_string()))
        }
        RResult::RErr(fault) => {
            let error = Error::new(fault.message);
            Err(if fault.field.is_empty() { error } else { error.in_field(fault.field.as_str()) })
        }
    }
}
