//! The plugin under examination, as the answering side sees it, and how it is loaded there.

use std::path::PathBuf;

use sapwood_plugin::host::{Library, open};
use sapwood_plugin::{Error, GrowthStrategy, Kind, LayerInitializer, MetricReporter, Result};

use super::Fuzz;

/// The plugin under examination.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its library.
    pub library: PathBuf,
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// The configuration that it is examined with.
    pub config: serde_json::Value,
    /// A folder of the question's own.
    pub folder: PathBuf,
    /// For the question that fuzzes.
    pub fuzz: Option<Fuzz>,
}

/// An instance of any kind.
pub(super) enum Instance {
    Strategy(Box<dyn GrowthStrategy>),
    Initializer(Box<dyn LayerInitializer>),
    Reporter(Box<dyn MetricReporter>),
}

impl Subject {
    pub(super) fn open(&self) -> std::result::Result<Library, String> {
        open(&self.library).map_err(|refusal| refusal.reason)
    }

    /// An instance with that configuration, as text that need not be JSON.
    pub(super) fn make(&self, config: &str) -> Result<Instance> {
        let library = open(&self.library).map_err(|refusal| Error::new(refusal.reason))?;
        Ok(match self.kind {
            Kind::Strategy => Instance::Strategy(library.strategy(&self.id, config)?),
            Kind::Initializer => Instance::Initializer(library.initializer(&self.id, config)?),
            Kind::Reporter => Instance::Reporter(library.reporter(&self.id, config)?),
        })
    }

    pub(super) fn strategy(&self) -> Result<Box<dyn GrowthStrategy>> {
        match self.make(&self.config.to_string())? {
            Instance::Strategy(strategy) => Ok(strategy),
            _ => Err(Error::new("is no strategy")),
        }
    }

    pub(super) fn initializer(&self) -> Result<Box<dyn LayerInitializer>> {
        match self.make(&self.config.to_string())? {
            Instance::Initializer(initializer) => Ok(initializer),
            _ => Err(Error::new("is no initializer")),
        }
    }

    pub(super) fn reporter(&self) -> Result<Box<dyn MetricReporter>> {
        match self.make(&self.config.to_string())? {
            Instance::Reporter(reporter) => Ok(reporter),
            _ => Err(Error::new("is no reporter")),
        }
    }
}

/// What a plugin answers where both success and a clear error are right: a panic is neither.
pub(super) fn survived<T>(what: &str, result: Result<T>) -> std::result::Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.panicked().is_some() => Err(format!("{what}: {error}")),
        Err(_) => Ok(None),
    }
}

/// Adds what was done to an error.
pub(super) fn while_doing(what: &str) -> impl Fn(Error) -> String {
    move |error| format!("{what}: {error}")
}
