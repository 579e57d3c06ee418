//! The host's side: reads a library's facts, loads it, and gives the authors' traits back. Outside the
//! 1.x promise.
//!
//! Order matters: [`read_facts`] runs none of the library's code, and what it refuses is never opened.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use abi_stable::library::RawLibrary;
use abi_stable::library::lib_header_from_raw_library;
use abi_stable::std_types::RStr;
use object::{Object, ObjectSection};

use crate::abi::boundary;
use crate::abi::initializer::HostInitializer;
use crate::abi::reporter::HostReporter;
use crate::abi::root::{ABI_EPOCH, FACTS_FORMAT, FACTS_SECTION, RawHost, RootRef};
use crate::abi::strategy::{Functions, HostStrategy};
use crate::abi::{initializer, reporter, strategy, strategy_2};
use crate::{Error, GrowthStrategy, Kind, LayerInitializer, Level, LibraryFacts, MetricReporter, Result};

/// Why a file is not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, without the file's name.
    pub reason: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Refusal {
    fn new(reason: impl fmt::Display, hint: &str) -> Refusal {
        Refusal { reason: reason.to_string(), hint: hint.into() }
    }
}

const NOT_OURS: &str = "a plugin is a shared library built from a crate that calls `sapwood_plugin::export!`";
const REBUILD: &str = "rebuild the plugin against the `sapwood-plugin` of this host";

/// Largest file that is looked into, 1 GiB.
const LARGEST_FILE_BYTES: u64 = 1 << 30;

/// Reads the facts out of a library's link section, without running any of it.
///
/// # Errors
/// A file that is missing, too large, no shared library, or none of ours.
pub fn read_facts(path: &Path) -> std::result::Result<LibraryFacts, Refusal> {
    let file = std::fs::metadata(path).map_err(|error| {
        Refusal::new(format!("cannot be read: {error}"), "check the path and its permissions")
    })?;
    if !file.is_file() {
        return Err(Refusal::new("is not a file", NOT_OURS));
    }
    if file.len() == 0 {
        return Err(Refusal::new("is empty", "build or copy the plugin again"));
    }
    if file.len() > LARGEST_FILE_BYTES {
        return Err(Refusal::new("is larger than 1 GiB", NOT_OURS));
    }
    let bytes = std::fs::read(path).map_err(|error| {
        Refusal::new(format!("cannot be read: {error}"), "check the path and its permissions")
    })?;
    let library = object::File::parse(&*bytes).map_err(|error| {
        Refusal::new(format!("is not a shared library, or is cut short: {error}"), NOT_OURS)
    })?;
    let section = library
        .section_by_name(FACTS_SECTION)
        .ok_or_else(|| Refusal::new("is a shared library, but not a sapwood plugin", NOT_OURS))?;
    let text = section
        .data()
        .map_err(|error| Refusal::new(format!("is cut short: {error}"), "build or copy the plugin again"))?;
    parse_facts(text)
}

/// The list of plugins ends with a `null`, since a macro cannot leave out the last comma.
fn parse_facts(text: &[u8]) -> std::result::Result<LibraryFacts, Refusal> {
    let broken =
        |error: &dyn fmt::Display| Refusal::new(format!("has facts that cannot be read: {error}"), REBUILD);
    // Linkers and sanitizers may pad a section with zeros.
    let end = text.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut facts: serde_json::Value =
        serde_json::from_slice(&text[..end]).map_err(|error| broken(&error))?;
    if let Some(plugins) = facts.get_mut("plugins").and_then(|plugins| plugins.as_array_mut()) {
        plugins.retain(|plugin| !plugin.is_null());
    }
    serde_json::from_value(facts).map_err(|error| broken(&error))
}

/// The target triple that this host is built for, and so its plugins.
pub fn target() -> &'static str {
    env!("SAPWOOD_PLUGIN_TARGET")
}

/// Refuses what this host cannot load, by the facts alone.
///
/// # Errors
/// Another target, epoch or layout, or `panic = "abort"`.
pub fn check_facts(facts: &LibraryFacts) -> std::result::Result<(), Refusal> {
    let target = target();
    if facts.target != target {
        let reason = format!("is built for {}, this host for {target}", facts.target);
        return Err(Refusal::new(reason, "build the plugin for this machine"));
    }
    if facts.format != FACTS_FORMAT || facts.abi_epoch != ABI_EPOCH {
        let reason = format!("has ABI epoch {}, this host knows {ABI_EPOCH}", facts.abi_epoch);
        return Err(Refusal::new(reason, REBUILD));
    }
    if facts.panic != "unwind" {
        let reason =
            format!("is built with panic = \"{}\", so that a panic could not be caught", facts.panic);
        return Err(Refusal::new(reason, "build the plugin with panic = \"unwind\""));
    }
    for plugin in &facts.plugins {
        common_revision(facts, plugin.kind)?;
    }
    Ok(())
}

/// The revision through which a library's plugins of a kind are called: the newest that both sides know.
///
/// # Errors
/// There is none, or the two sides have different layouts of it.
pub fn common_revision(facts: &LibraryFacts, kind: Kind) -> std::result::Result<u32, Refusal> {
    let built = format!("it was built against sapwood-plugin {} by {}", facts.sdk, facts.rustc);
    let offered = |revision: u32| {
        facts.interfaces.iter().find(|offered| offered.kind == kind && offered.revision == revision)
    };
    let known = known_revisions(kind);
    let newest = known.iter().find_map(|known| offered(known.0).map(|offered| (known, offered)));
    match newest {
        Some((known, offered)) if offered.layout == hexadecimal(known.1) => Ok(known.0),
        Some((known, offered)) => {
            let (revision, theirs, ours) = (known.0, &offered.layout, hexadecimal(known.1));
            let reason = format!(
                "has another layout of the {kind} interface, revision {revision}: {theirs}, where this host has {ours}; {built}"
            );
            Err(Refusal::new(reason, REBUILD))
        }
        None => {
            let theirs: Vec<u32> = (facts.interfaces.iter().filter(|offered| offered.kind == kind))
                .map(|offered| offered.revision)
                .collect();
            let known: Vec<u32> = known.iter().map(|known| known.0).collect();
            let reason = format!(
                "offers the {kind} interface in revision {}, this host knows {}; {built}",
                listed(&theirs),
                listed(&known)
            );
            let hint = if theirs.iter().min() > known.iter().max() {
                "use a newer sapwood, or build the plugin against this host's `sapwood-plugin`"
            } else {
                REBUILD
            };
            Err(Refusal::new(reason, hint))
        }
    }
}

/// Revisions with the hashes of their layouts, the newest first.
fn known_revisions(kind: Kind) -> &'static [(u32, u64)] {
    match kind {
        #[cfg(feature = "next-revision")]
        Kind::Strategy => &[
            (crate::abi::strategy_next::REVISION, crate::abi::strategy_next::LAYOUT),
            (strategy_2::REVISION, strategy_2::LAYOUT),
            (strategy::REVISION, strategy::LAYOUT),
        ],
        #[cfg(not(feature = "next-revision"))]
        Kind::Strategy => {
            &[(strategy_2::REVISION, strategy_2::LAYOUT), (strategy::REVISION, strategy::LAYOUT)]
        }
        Kind::Initializer => &[(initializer::REVISION, initializer::LAYOUT)],
        Kind::Reporter => &[(reporter::REVISION, reporter::LAYOUT)],
    }
}

fn hexadecimal(hash: u64) -> String {
    format!("{hash:016x}")
}

fn listed(revisions: &[u32]) -> String {
    match revisions {
        [] => "none".into(),
        revisions => revisions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
    }
}

/// A loaded library; never unloaded.
#[derive(Clone, Copy)]
pub struct Library {
    root: RootRef,
}

/// Loads a library whose facts have passed.
///
/// # Errors
/// What the dynamic linker says, or a root of another layout.
pub fn open(path: &Path) -> std::result::Result<Library, Refusal> {
    check_facts(&read_facts(path)?)?;
    let path = absolute(path)?;
    // SAFETY: loading runs the library's initialisers; that is what the user asked for by naming it, and
    // its facts have shown that it is a plugin.
    let raw = unsafe { open_now(&path) }?;
    // The library stays for as long as the process: its code and statics are used by what it gave us.
    let raw = Box::leak(Box::new(raw));
    // SAFETY: the header is only read while the library is loaded, which is for ever.
    let header = unsafe { lib_header_from_raw_library(raw) }.map_err(|error| condensed(&error))?;
    let root = header.init_root_module::<RootRef>().map_err(|error| condensed(&error))?;
    let host: &'static RawHost = Box::leak(Box::new(offer_to(&path)));
    let attached = root.attach_host()(std::ptr::from_ref(host).cast()).into_result();
    attached.map_err(|reason| Refusal::new(format!("refuses this host: {reason}"), REBUILD))?;
    Ok(Library { root })
}

/// What a library is offered; its log lines come back under its file's name.
fn offer_to(library: &Path) -> RawHost {
    let name = library.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name: &'static String = Box::leak(Box::new(name));
    RawHost { size: size_of::<RawHost>() as u64, context: std::ptr::from_ref(name).cast(), log: take_line }
}

extern "C" fn take_line(context: *const c_void, level: u32, text: RStr<'_>) {
    let Some(receiver) = LOG.get() else { return };
    // SAFETY: the library passes back what `offer_to` gave it, a name that is never dropped.
    let library = unsafe { &*context.cast::<String>() };
    // A number that this version does not know comes from a newer plugin: its line is not lost.
    let level = Level::ALL.into_iter().find(|known| known.number() == level).unwrap_or(Level::Information);
    // Nothing of the host's may unwind into a plugin.
    let _ = contained(|| {
        receiver(library, level, text.as_str());
        Ok(())
    });
}

/// Takes a line of a plugin's: the library's name, how much it matters, the text.
pub type LogReceiver = fn(library: &str, level: Level, text: &str);

static LOG: OnceLock<LogReceiver> = OnceLock::new();

/// Says who takes the lines that plugins log; the first one stays. Without any they are dropped.
pub fn receive_log(receiver: LogReceiver) {
    LOG.get_or_init(|| receiver);
}

/// A bare file name would be looked up in the system's folders.
fn absolute(path: &Path) -> std::result::Result<PathBuf, Refusal> {
    std::path::absolute(path)
        .map_err(|error| Refusal::new(format!("cannot be found: {error}"), "check the path"))
}

/// # Safety
/// Runs the library's initialisers.
unsafe fn open_now(path: &Path) -> std::result::Result<RawLibrary, Refusal> {
    // All symbols at once, so that a missing one is an error here and not a crash later; none is offered to
    // other libraries. The handle is kept for ever, so that abi_stable's own opening finds it loaded.
    #[cfg(unix)]
    {
        use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
        // SAFETY: passed on to the caller.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|error| {
            // What the dynamic linker says stands in the source, not in the error itself.
            let said =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            let hint = "build the plugin on this machine, or install what it needs";
            Refusal::new(format!("cannot be loaded: {said}"), hint)
        })?;
        std::mem::forget(library);
    }
    RawLibrary::load_at(path).map_err(|error| condensed(&error))
}

/// abi_stable's account of a layout that differs runs over hundreds of lines; the first says which type.
fn condensed(error: &dyn fmt::Display) -> Refusal {
    let text = error.to_string();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown error");
    Refusal::new(format!("cannot be loaded: {first}"), REBUILD)
}

impl Library {
    /// Makes a strategy.
    ///
    /// # Errors
    /// What the plugin says of its configuration, or a library without it.
    pub fn strategy(&self, id: &str, config: &str) -> Result<Box<dyn GrowthStrategy>> {
        Ok(Box::new(HostStrategy::create(self.strategy_functions()?, id, config)?))
    }

    #[cfg(feature = "next-revision")]
    fn strategy_functions(&self) -> Result<Functions> {
        use crate::abi::strategy_next::{LAYOUT, REVISION, Table};
        // SAFETY: `table` checks size and layout of what it casts.
        match unsafe { self.table::<Table>(Kind::Strategy, REVISION, LAYOUT) } {
            Ok(next) if (next.revision)() == u64::from(REVISION) => Ok(Functions::Second(&next.second)),
            Ok(next) => Err(Error::new(format!("revision {REVISION} answers as {}", (next.revision)()))),
            Err(_) => self.released_strategy_functions(),
        }
    }

    #[cfg(not(feature = "next-revision"))]
    fn strategy_functions(&self) -> Result<Functions> {
        self.released_strategy_functions()
    }

    /// Of the newest revision that the library offers; its facts have shown that the layout is this host's.
    fn released_strategy_functions(&self) -> Result<Functions> {
        let (revision, layout) = (strategy_2::REVISION, strategy_2::LAYOUT);
        // SAFETY: `table` checks size and layout of what it casts; so below.
        let second = unsafe { self.table::<strategy_2::Table>(Kind::Strategy, revision, layout) };
        if let Ok(second) = second {
            return Ok(Functions::Second(second));
        }
        let (revision, layout) = (strategy::REVISION, strategy::LAYOUT);
        // SAFETY: see above.
        let first = unsafe { self.table::<strategy::Table>(Kind::Strategy, revision, layout) };
        Ok(Functions::First(first?))
    }

    /// Makes an initializer.
    ///
    /// # Errors
    /// As for [`strategy`](Library::strategy).
    pub fn initializer(&self, id: &str, config: &str) -> Result<Box<dyn LayerInitializer>> {
        let (revision, layout) = (initializer::REVISION, initializer::LAYOUT);
        // SAFETY: `table` checks size and layout of what it casts.
        let table = unsafe { self.table::<initializer::Table>(Kind::Initializer, revision, layout) };
        Ok(Box::new(HostInitializer::create(table?, id, config)?))
    }

    /// Makes a reporter.
    ///
    /// # Errors
    /// As for [`strategy`](Library::strategy).
    pub fn reporter(&self, id: &str, config: &str) -> Result<Box<dyn MetricReporter>> {
        // SAFETY: `table` checks size and layout of what it casts.
        let table =
            unsafe { self.table::<reporter::Table>(Kind::Reporter, reporter::REVISION, reporter::LAYOUT) };
        Ok(Box::new(HostReporter::create(table?, id, config)?))
    }

    /// The JSON schema of a plugin's configuration.
    ///
    /// # Errors
    /// A library without that plugin.
    pub fn schema(&self, kind: Kind, id: &str) -> Result<String> {
        let schema = self.root.schema()(kind.number(), id.into()).into_result();
        schema.map(String::from).map_err(|reason| Error::new(reason.as_str()))
    }

    /// # Safety
    /// `T` is the table that `layout` is the hash of.
    unsafe fn table<T>(&self, kind: Kind, revision: u32, layout: u64) -> Result<&'static T> {
        let raw = self.root.interface()(kind.number(), revision);
        if raw.table.is_null() || raw.size != size_of::<T>() as u64 || raw.layout != layout {
            return Err(Error::new(format!(
                "the library's {kind} interface, revision {revision}, has another layout"
            )));
        }
        let table: *const c_void = raw.table;
        // SAFETY: not null, of the right size and layout, and static in a library that is never unloaded.
        Ok(unsafe { &*table.cast::<T>() })
    }
}

/// Runs code that may panic and turns the panic into an error, for whoever calls a plugin that lives in
/// the same binary as the host.
///
/// # Errors
/// What the code answers, or its panic.
pub fn contained<T>(code: impl FnOnce() -> Result<T>) -> Result<T> {
    boundary::catch(code)
}

/// The error of a plugin that panicked in another process.
pub fn panicked(message: String, place: String) -> Error {
    Error::panic(message, place)
}
