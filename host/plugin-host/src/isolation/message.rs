//! What host and child say to each other. Both ends are the same binary, so this is no promise to anybody.
//!
//! Events are JSON inside, as they are when they cross the border in process, so that both ways show a plugin
//! the same.

use std::path::PathBuf;

use sapwood_plugin::{Action, Claim, Error, Kind, Pushed, Result, Saved, SessionFacts};
use serde::{Deserialize, Serialize};

/// From the host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// The first: load and make.
    Open {
        library: PathBuf,
        kind: Kind,
        id: String,
        config: String,
        memory_limit_bytes: u64,
    },
    /// The run's facts, as JSON, as they cross in process.
    Plan(String),
    BeforeStep(Context),
    OnEvent(String),
    Save,
    Restore(State),
    Init(Init),
    Start(SessionFacts),
    Event(String),
    Flush,
    Finish,
    /// The answer to a [`Reply::Push`].
    Pushed(Answer),
}

/// From the child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Done,
    Opened {
        copies_moments: bool,
    },
    /// As JSON, as it crosses in process.
    Plan(String),
    State(State),
    Claim(Claim),
    Failed(Fault),
    /// A strategy asks for something, and waits for a [`Request::Pushed`].
    Push(Action),
    /// The plugin has logged a line, and goes on: library, level, text.
    Logged(String, u32, String),
}

/// What the host answers to a strategy's request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Taken,
    FirstLayer(u64),
    Refused(Fault),
}

/// `StepContext`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Context {
    pub(super) step: u64,
    pub(super) tokens: u64,
    pub(super) flops: f64,
    pub(super) learning_rate: f64,
    pub(super) progress: f64,
    pub(super) phase: String,
    /// Identity, birth, whether it trains.
    pub(super) blocks: Vec<(u64, u64, u64)>,
    /// Step, loss.
    pub(super) losses: Vec<(u64, f64)>,
    /// Step, tokens, loss.
    pub(super) evaluations: Vec<(u64, u64, f64)>,
}

/// `InitContext`, its tensors in shared memory.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Init {
    pub(super) layer: u64,
    pub(super) position: usize,
    pub(super) depth_before: usize,
    pub(super) depth_after: usize,
    pub(super) final_depth: usize,
    pub(super) init_std: f64,
    pub(super) key: u64,
    pub(super) source: Option<u64>,
    /// To be filled in.
    pub(super) target: BlockInMemory,
    /// By identity.
    pub(super) existing: Vec<(u64, BlockInMemory)>,
    pub(super) original: BlockInMemory,
}

/// A block's tensors, one behind the other in shared memory of their own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BlockInMemory {
    /// The memory's file, as the child can open it.
    pub(super) file: PathBuf,
    pub(super) tensors: Vec<Tensor>,
}

impl BlockInMemory {
    /// Elements of all its tensors.
    pub(super) fn elements(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.len).sum()
    }
}

/// A tensor in shared memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tensor {
    pub(super) class: String,
    pub(super) role: u32,
    pub(super) shape: Vec<u64>,
    /// Its elements.
    pub(super) len: usize,
}

/// A plugin's saved state.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) version: u32,
    pub(super) bytes: Vec<u8>,
}

/// An error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) field: Option<String>,
    /// Where it panicked, if it did.
    pub(super) panicked_at: Option<String>,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault {
            message: error.message().to_owned(),
            field: error.field().map(ToOwned::to_owned),
            panicked_at: error.panicked().map(|at| at.place.clone()),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        let Fault { message, field, panicked_at } = fault;
        match (panicked_at, field) {
            (Some(place), _) => sapwood_plugin::host::panicked(message, place),
            (None, Some(field)) => Error::new(message).in_field(field),
            (None, None) => Error::new(message),
        }
    }
}

impl From<Saved> for State {
    fn from(Saved { version, bytes }: Saved) -> State {
        State { version, bytes }
    }
}

impl From<State> for Saved {
    fn from(State { version, bytes }: State) -> Saved {
        Saved { version, bytes }
    }
}

impl From<Result<Pushed>> for Answer {
    fn from(pushed: Result<Pushed>) -> Answer {
        match pushed {
            Ok(Pushed::Taken) => Answer::Taken,
            Ok(Pushed::FirstLayer(layer)) => Answer::FirstLayer(layer.0),
            Err(error) => Answer::Refused(error.into()),
        }
    }
}
