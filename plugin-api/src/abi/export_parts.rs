//! What [`export!`](crate::export) expands to calls of: the list of a library's plugins, the root's
//! functions, and the facts as text at compile time.

use std::ffi::c_void;
use std::sync::OnceLock;

use abi_stable::std_types::{RResult, RStr, RString};
use schemars::Schema;

use super::boundary::{self, catch};
use super::root::{ABI_EPOCH, RawInterface};
#[cfg(feature = "next-revision")]
use super::strategy_next;
use super::{initializer, layout, reporter, strategy, strategy_2};
use crate::{Error, GrowthStrategy, Kind, LayerInitializer, MetricReporter, Plugin, Result};

pub use super::root::{Root, RootRef};
pub use abi_stable::library::{__call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult};
pub use abi_stable::prefix_type::PrefixTypeTrait;

/// How a plugin is made from its configuration.
pub enum Make {
    /// A strategy.
    Strategy(fn(&str) -> Result<Box<dyn GrowthStrategy>>),
    /// An initializer.
    Initializer(fn(&str) -> Result<Box<dyn LayerInitializer>>),
    /// A reporter.
    Reporter(fn(&str) -> Result<Box<dyn MetricReporter>>),
}

/// One plugin of the library.
pub struct Entry {
    /// Its id.
    pub id: &'static str,
    /// How it is made.
    pub make: Make,
    /// The schema of its configuration.
    pub schema: fn() -> Schema,
    /// What its source says of itself, each line with its `//!`; empty where it has no page.
    pub page: &'static str,
}

impl Entry {
    /// A strategy.
    pub const fn strategy<P: Plugin + GrowthStrategy + 'static>(id: &'static str) -> Entry {
        Entry::new::<P>(id, Make::Strategy(|config| Ok(Box::new(make::<P>(config)?))))
    }

    /// An initializer.
    pub const fn initializer<P: Plugin + LayerInitializer + 'static>(id: &'static str) -> Entry {
        Entry::new::<P>(id, Make::Initializer(|config| Ok(Box::new(make::<P>(config)?))))
    }

    /// A reporter.
    pub const fn reporter<P: Plugin + MetricReporter + 'static>(id: &'static str) -> Entry {
        Entry::new::<P>(id, Make::Reporter(|config| Ok(Box::new(make::<P>(config)?))))
    }

    const fn new<P: Plugin>(id: &'static str, make: Make) -> Entry {
        Entry { id, make, schema: || schemars::schema_for!(P::Config), page: "" }
    }

    /// With what that source says of itself.
    pub const fn with_page(self, source: &'static str) -> Entry {
        Entry { page: leading_documentation(source), ..self }
    }

    fn kind(&self) -> Kind {
        match self.make {
            Make::Strategy(_) => Kind::Strategy,
            Make::Initializer(_) => Kind::Initializer,
            Make::Reporter(_) => Kind::Reporter,
        }
    }
}

pub(crate) fn make<P: Plugin>(config: &str) -> Result<P> {
    let mut json = serde_json::Deserializer::from_str(config);
    let config = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        // serde_json appends a position in the JSON text, which no user ever sees.
        let message = error.into_inner().to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        Error::new(message).in_field(if field == "." { String::new() } else { field })
    })?;
    json.end().map_err(|_| Error::new("something follows after the configuration"))?;
    P::new(config)
}

/// The lines at the beginning of a source that begin with `//!`.
const fn leading_documentation(source: &'static str) -> &'static str {
    let bytes = source.as_bytes();
    let mut end = 0;
    while end + 2 < bytes.len() && bytes[end] == b'/' && bytes[end + 1] == b'/' && bytes[end + 2] == b'!' {
        while end < bytes.len() && bytes[end] != b'\n' {
            end += 1;
        }
        if end < bytes.len() {
            end += 1;
        }
    }
    match std::str::from_utf8(bytes.split_at(end).0) {
        Ok(lines) => lines,
        // A line's end is never inside of a character.
        Err(_) => "",
    }
}

/// The schema of an entry's configuration, with its page beside it under [`PAGE_KEY`].
fn schema_of(entry: &Entry) -> Result<String> {
    let mut schema = (entry.schema)();
    if !entry.page.is_empty() {
        let lines = entry.page.lines().map(|line| line.trim_start_matches("//!"));
        let lines: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        schema.insert(PAGE_KEY.to_owned(), lines.join("\n").into());
    }
    Ok(serde_json::to_string_pretty(&schema)?)
}

/// Where a schema has the page of the plugin that it belongs to.
pub const PAGE_KEY: &str = "x-page";

static ENTRIES: OnceLock<&'static [Entry]> = OnceLock::new();

/// The root of a library with these plugins.
pub fn root(entries: &'static [Entry]) -> RootRef {
    ENTRIES.get_or_init(|| entries);
    Root { abi_epoch: ABI_EPOCH, interface, schema, attach_host }.leak_into_prefix()
}

fn find(kind: Kind, id: &str) -> Result<&'static Entry> {
    let entries = ENTRIES.get().copied().unwrap_or_default();
    let entry = entries.iter().find(|entry| entry.kind() == kind && entry.id == id);
    entry.ok_or_else(|| Error::new(format!("this library has no {kind} `{id}`")))
}

pub(super) fn create_strategy(id: &str, config: &str) -> Result<Box<dyn GrowthStrategy>> {
    match find(Kind::Strategy, id)?.make {
        Make::Strategy(make) => catch(|| make(config)),
        _ => Err(Error::new(format!("`{id}` is no strategy"))),
    }
}

pub(super) fn create_initializer(id: &str, config: &str) -> Result<Box<dyn LayerInitializer>> {
    match find(Kind::Initializer, id)?.make {
        Make::Initializer(make) => catch(|| make(config)),
        _ => Err(Error::new(format!("`{id}` is no initializer"))),
    }
}

pub(super) fn create_reporter(id: &str, config: &str) -> Result<Box<dyn MetricReporter>> {
    match find(Kind::Reporter, id)?.make {
        Make::Reporter(make) => catch(|| make(config)),
        _ => Err(Error::new(format!("`{id}` is no reporter"))),
    }
}

extern "C" fn interface(kind: u32, revision: u32) -> RawInterface {
    fn of<T>(table: &'static T, layout: u64) -> RawInterface {
        RawInterface { table: std::ptr::from_ref(table).cast(), size: size_of::<T>() as u64, layout }
    }
    match (kind, revision) {
        (1, strategy::REVISION) => of(&strategy::TABLE, strategy::LAYOUT),
        (1, strategy_2::REVISION) => of(&strategy_2::TABLE, strategy_2::LAYOUT),
        #[cfg(feature = "next-revision")]
        (1, strategy_next::REVISION) => of(&strategy_next::TABLE, strategy_next::LAYOUT),
        (2, initializer::REVISION) => of(&initializer::TABLE, initializer::LAYOUT),
        (3, reporter::REVISION) => of(&reporter::TABLE, reporter::LAYOUT),
        _ => RawInterface { table: std::ptr::null(), size: 0, layout: 0 },
    }
}

extern "C" fn schema(kind: u32, id: RStr<'_>) -> RResult<RString, RString> {
    let schema = catch(|| {
        let kind = Kind::ALL.into_iter().find(|known| known.number() == kind);
        let kind = kind.ok_or_else(|| Error::new("unknown kind of plugin"))?;
        schema_of(find(kind, id.as_str())?)
    });
    match schema {
        Ok(schema) => RResult::ROk(schema.into()),
        Err(error) => RResult::RErr(error.to_string().into()),
    }
}

extern "C" fn attach_host(host: *const c_void) -> RResult<(), RString> {
    boundary::install_panic_hook();
    // SAFETY: the host passes a `RawHost` that lives for ever.
    match unsafe { super::log::attach(host) } {
        Ok(()) => RResult::ROk(()),
        Err(error) => RResult::RErr(error.to_string().into()),
    }
}

/// The part of the facts that is the same in every library of this version of the crate.
pub const COMMON_FACTS: &str = concat!(
    "\"sdk\":\"",
    env!("CARGO_PKG_VERSION"),
    "\",\"rustc\":\"",
    env!("SAPWOOD_PLUGIN_RUSTC"),
    "\",\"target\":\"",
    env!("SAPWOOD_PLUGIN_TARGET"),
    "\",\"format\":1,\"abi_epoch\":1,",
);

const STRATEGY_LAYOUT: [u8; 16] = layout::hexadecimal(strategy::LAYOUT);
const STRATEGY_2_LAYOUT: [u8; 16] = layout::hexadecimal(strategy_2::LAYOUT);
const INITIALIZER_LAYOUT: [u8; 16] = layout::hexadecimal(initializer::LAYOUT);
const REPORTER_LAYOUT: [u8; 16] = layout::hexadecimal(reporter::LAYOUT);

/// The interfaces of this version of the crate, as the facts hold them.
pub const INTERFACE_FACTS: &[&str] = &[
    "\"interfaces\":[{\"kind\":\"strategy\",\"revision\":1,\"layout\":\"",
    text(&STRATEGY_LAYOUT),
    "\"},{\"kind\":\"strategy\",\"revision\":2,\"layout\":\"",
    text(&STRATEGY_2_LAYOUT),
    "\"},{\"kind\":\"initializer\",\"revision\":1,\"layout\":\"",
    text(&INITIALIZER_LAYOUT),
    "\"},{\"kind\":\"reporter\",\"revision\":1,\"layout\":\"",
    text(&REPORTER_LAYOUT),
    NEXT_INTERFACE[0],
    NEXT_INTERFACE[1],
    "\"}],",
];

#[cfg(not(feature = "next-revision"))]
const NEXT_INTERFACE: [&str; 2] = ["", ""];
#[cfg(feature = "next-revision")]
const NEXT_INTERFACE: [&str; 2] = [
    "\"},{\"kind\":\"strategy\",\"revision\":3,\"layout\":\"",
    text(&layout::hexadecimal(strategy_next::LAYOUT)),
];

const fn text(digits: &'static [u8; 16]) -> &'static str {
    match std::str::from_utf8(digits) {
        Ok(text) => text,
        Err(_) => panic!("hexadecimal digits are text"),
    }
}

/// Bytes of all parts together.
pub const fn total_len(parts: &[&str]) -> usize {
    let mut len = 0;
    let mut i = 0;
    while i < parts.len() {
        len += parts[i].len();
        i += 1;
    }
    len
}

/// Writes the parts into `text` from `at` on; answers where they end.
///
/// # Panics
/// At compile time, when they do not fit.
pub const fn append(parts: &[&str], text: &mut [u8], mut at: usize) -> usize {
    let mut i = 0;
    while i < parts.len() {
        let bytes = parts[i].as_bytes();
        let mut j = 0;
        while j < bytes.len() {
            text[at] = bytes[j];
            at += 1;
            j += 1;
        }
        i += 1;
    }
    at
}

/// Refuses, at compile time, a text that would have to be escaped in the facts.
///
/// # Panics
/// When the text holds a quotation mark, a backslash or a control character.
pub const fn plain(text: &'static str) -> &'static str {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let plain = bytes[i] != b'"' && bytes[i] != b'\\' && bytes[i] >= 0x20;
        assert!(
            plain,
            "ids, summaries, licences and home pages hold no quotation mark, backslash or line break"
        );
        i += 1;
    }
    text
}
