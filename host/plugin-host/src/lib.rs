//! Finds plugins, loads them, and names the culprit when one fails; runs reporters beside training.
//!
//! What a plugin is and how it crosses the border stands in `sapwood-plugin`, re-exported here as
//! [`api`]. What is done with a strategy's requests is the trainer's.

pub mod blame;
pub mod bounded;
pub mod conformance;
mod error;
mod install;
pub mod isolation;
mod loaded;
mod lock;
mod log;
mod needs;
pub mod pack;
mod registry;
mod reporters;
mod search;
pub mod signature;
mod store;
mod trust;
mod whole_file;

pub use error::PluginError;
pub use install::{Installed, Replaced, install};
pub use isolation::{ChildProgram, Isolation};
pub use loaded::{Loaded, Provenance, TimeSpent};
pub use lock::PluginLock;
pub use registry::{Choice, Found, Registry};
pub use reporters::{ReporterEnd, Reporters};
pub use sapwood_plugin as api;
pub use search::SearchPath;
