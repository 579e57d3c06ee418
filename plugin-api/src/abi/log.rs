//! The plugin's half of the log: the host that attached itself, and a line sent to it.

use std::ffi::c_void;
use std::fmt::Display;
use std::sync::OnceLock;

use super::root::RawHost;
use crate::{Error, Result};

/// A host's offer, copied: it holds for as long as the process lives.
struct Attached {
    context: *const c_void,
    log: extern "C" fn(*const c_void, u32, abi_stable::std_types::RStr<'_>),
}

// SAFETY: the host promises that its functions can be called from any thread.
unsafe impl Send for Attached {}
// SAFETY: as above.
unsafe impl Sync for Attached {}

static HOST: OnceLock<Attached> = OnceLock::new();

/// Takes a host's offer; the first one stays.
///
/// # Errors
/// A host that offers less than revision 1 of the root promises.
///
/// # Safety
/// `host` is a [`RawHost`] that is as large as its `size` says, and lives for as long as the process.
pub(super) unsafe fn attach(host: *const c_void) -> Result<()> {
    if host.is_null() {
        return Err(Error::new("it offers nothing to its plugins"));
    }
    // SAFETY: by the contract above it begins with its size.
    let size = unsafe { host.cast::<u64>().read() };
    if size < size_of::<RawHost>() as u64 {
        return Err(Error::new(format!(
            "it offers {size} bytes, which is less than this plugin was promised"
        )));
    }
    // SAFETY: by the contract above all of these bytes are there.
    let host = unsafe { &*host.cast::<RawHost>() };
    HOST.get_or_init(|| Attached { context: host.context, log: host.log });
    Ok(())
}

/// Sends a line to the host, where there is one.
pub(crate) fn send(level: u32, text: &dyn Display) {
    if let Some(host) = HOST.get() {
        (host.log)(host.context, level, text.to_string().as_str().into());
    }
}
