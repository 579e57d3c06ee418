//! The root of a library: the one symbol that a host looks up, tiny and frozen for ever.

use std::ffi::c_void;

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::package_version_strings;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RResult, RStr, RString};

/// Another epoch cannot be loaded.
pub const ABI_EPOCH: u32 = 1;

/// Version of the format of the link section's facts.
pub const FACTS_FORMAT: u32 = 1;

/// The link section that holds the facts.
pub const FACTS_SECTION: &str = ".sapwood";

/// What the library's one fixed symbol leads to.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = RootRef, prefix_fields = RootPrefix)))]
#[sabi(missing_field(panic))]
pub struct Root {
    /// [`ABI_EPOCH`] of the library.
    pub abi_epoch: u32,
    /// The table of a kind (by number) and revision, or null.
    pub interface: extern "C" fn(kind: u32, revision: u32) -> RawInterface,
    /// The JSON schema of a plugin's configuration.
    pub schema: extern "C" fn(kind: u32, id: RStr<'_>) -> RResult<RString, RString>,
    /// Called once, before any other function, with a [`RawHost`]. An untyped pointer, since that one may grow.
    #[sabi(last_prefix_field)]
    pub attach_host: extern "C" fn(host: *const c_void) -> RResult<(), RString>,
}

/// A function table, with what the host needs to know before it believes it.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct RawInterface {
    /// The table; null where the library has no such kind or revision.
    pub table: *const c_void,
    /// Its size in bytes.
    pub size: u64,
    /// Hash of the layout of all that crosses through it.
    pub layout: u64,
}

crossing! {
    /// What a host offers to a library, for as long as the process lives. Later versions add fields at the end, and
    /// `size` says how many there are: a library uses none beyond it.
    pub struct RawHost {
        /// Bytes of this struct, as the host has it.
        pub size: u64,
        /// The host's own; passed back with every call.
        pub context: *const c_void,
        /// (Context, level, text): a line for the host's log; 1 error, 2 warning, 3 information, 4 detail.
        pub log: extern "C" fn(*const c_void, u32, RStr<'_>),
    }
}

impl RootModule for RootRef {
    abi_stable::declare_root_module_statics! {RootRef}
    const BASE_NAME: &'static str = "sapwood_plugin";
    const NAME: &'static str = "sapwood_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
