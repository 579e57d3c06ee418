//! Who holds a claim: which process of which machine, in words too, and whether it is still there.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

/// Who holds a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The machine's name.
    pub host: String,
    /// The process's number there.
    pub pid: i32,
    /// When it was started, in clock ticks after the machine was: numbers of processes are used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ticks: Option<u64>,
    /// Which start of the machine, and which of its containers: only there does the number mean anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// The Slurm task that it is, such as `12_3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slurm_job: Option<String>,
    /// Told apart from every other claim by this.
    pub token: String,
}

/// What can be seen of a holder from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signs {
    /// It runs on this machine.
    Alive,
    /// It ran on this machine and is gone.
    Dead,
    /// It is on another machine, or on one that has been started again since.
    Elsewhere,
}

impl Holder {
    /// This process, with a new token.
    pub(super) fn this_process() -> Holder {
        let pid = i32::try_from(std::process::id()).unwrap_or_default();
        Holder {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid,
            started_ticks: state_and_start(pid).map(|(_, started)| started),
            boot: boot(),
            slurm_job: slurm_job(),
            token: token(),
        }
    }

    /// Of a claim that says nothing.
    pub(super) fn unknown() -> Holder {
        let (host, token) = ("a machine that is not told".into(), String::new());
        Holder { host, pid: 0, started_ticks: None, boot: None, slurm_job: None, token }
    }

    /// Whether it is still there, as far as it can be seen.
    pub(super) fn signs(&self) -> Signs {
        if self.boot.is_none() || self.boot != boot() {
            return Signs::Elsewhere;
        }
        let gone = match state_and_start(self.pid) {
            Some((state, started)) => {
                matches!(state, 'Z' | 'X') || self.started_ticks.is_some_and(|ticks| ticks != started)
            }
            // It may be another user's, whom /proc does not show.
            None => Pid::from_raw(self.pid).is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH)),
        };
        if gone { Signs::Dead } else { Signs::Alive }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", self.host)?;
        match &self.slurm_job {
            Some(job) => write!(f, "Slurm job {job}"),
            None => write!(f, "process {}", self.pid),
        }
    }
}

/// The machine's start, and the space of process numbers; `None` where the system tells neither.
fn boot() -> Option<String> {
    let start = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", start.trim(), space.display()))
}

/// From `/proc/PID/stat`: the name, in parentheses, may hold anything.
fn state_and_start(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The state is the third field of all, the start the 22nd.
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

fn slurm_job() -> Option<String> {
    let variable = |name| std::env::var(name).ok();
    match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
        (Some(job), Some(task)) => Some(format!("{job}_{task}")),
        _ => variable("SLURM_JOB_ID"),
    }
}

/// 128 bits that the standard library draws for its hash tables: nothing depends on their being hard to guess.
fn token() -> String {
    let bits = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", bits(), bits())
}
