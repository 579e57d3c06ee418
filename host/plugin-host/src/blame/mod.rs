//! Who was being called: for what no host can catch in process. A crumb is written before each call into a plugin,
//! into memory that is a file, so that after a crash the next start and `sapwood doctor` can name the culprit; a
//! guard notices a plugin that calls `exit()`, a watchdog one that does not come back.
//!
//! What is then said, and with which exit code the process ends, is the binary's to decide ([`Blame`]).

mod crumbs;
mod guard;
mod leftovers;
mod watchdog;
mod watched;

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use sapwood_plugin::Kind;

use crumbs::Trail;
pub use leftovers::{Leftover, leftovers};
pub(crate) use watched::{Watched, making};

/// What is done about a culprit.
#[derive(Clone, Copy)]
pub struct Blame {
    /// A call has taken a second.
    pub on_slow: fn(&Culprit),
    /// A call of a strategy or an initializer has taken longer than the limit; the process ends with the exit code
    /// that is answered.
    pub on_hang: fn(&Culprit) -> u8,
    /// A plugin has called `exit()`; the process ends with the exit code that is answered. Called on the way out,
    /// when a thread's own storage may be gone already.
    pub on_exit: fn(&Culprit) -> u8,
}

/// A plugin in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// The call.
    pub call: Call,
    /// Which one: the step for a strategy, the block for an initializer, a count of events for a reporter.
    pub at: u64,
}

/// The calls into plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Call {
    Load = 1,
    New,
    Plan,
    BeforeStep,
    OnEvent,
    Save,
    Restore,
    Init,
    Moments,
    Start,
    Event,
    Flush,
    Finish,
    Drop,
}

impl Call {
    const ALL: [Call; 14] = [
        Call::Load,
        Call::New,
        Call::Plan,
        Call::BeforeStep,
        Call::OnEvent,
        Call::Save,
        Call::Restore,
        Call::Init,
        Call::Moments,
        Call::Start,
        Call::Event,
        Call::Flush,
        Call::Finish,
        Call::Drop,
    ];

    fn of_number(number: u64) -> Option<Call> {
        Call::ALL.into_iter().find(|call| *call as u64 == number)
    }

    /// As it is called in the trait.
    pub fn name(self) -> &'static str {
        match self {
            Call::Load => "load",
            Call::New => "new",
            Call::Plan => "plan",
            Call::BeforeStep => "before_step",
            Call::OnEvent => "on_event",
            Call::Save => "save",
            Call::Restore => "restore",
            Call::Init => "init",
            Call::Moments => "moments",
            Call::Start => "start",
            Call::Event => "event",
            Call::Flush => "flush",
            Call::Finish => "finish",
            Call::Drop => "drop",
        }
    }
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Culprit { kind, id, call, at } = self;
        write!(f, "the {kind} `{id}` was in `{}`", call.name())?;
        match call {
            Call::BeforeStep | Call::OnEvent => write!(f, ", step {at}"),
            Call::Init => write!(f, ", block {at}"),
            Call::Event => write!(f, ", event {at}"),
            _ => Ok(()),
        }
    }
}

static TRAIL: OnceLock<Trail> = OnceLock::new();

/// From here on every call into a plugin of this process leaves a crumb. Once a process.
///
/// # Errors
/// No place to leave them; plugins then run unwatched.
pub fn begin(blame: Blame) -> std::io::Result<()> {
    let trail = Trail::create(&folder())?;
    if TRAIL.set(trail).is_ok() {
        guard::install(blame)?;
        watchdog::start(blame)?;
    }
    Ok(())
}

/// The host ends in good order: nobody is to blame for it.
pub fn end() {
    guard::disarm();
    if let Some(trail) = TRAIL.get() {
        trail.remove();
    }
}

/// `XDG_STATE_HOME`, else as its specification has it, else a folder of this user's below the temporary one.
fn folder() -> PathBuf {
    let named = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state =
        named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    match state {
        Some(state) => state.join("sapwood"),
        None => std::env::temp_dir().join(format!("sapwood-{}", rustix::process::getuid().as_raw())),
    }
}
