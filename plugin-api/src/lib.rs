//! Write growth strategies, layer initializers and metric reporters for [sapwood] as shared libraries.
//!
//! A plugin is an ordinary Rust type with a configuration, an implementation of one of three traits, and
//! one [`export!`]. Built as a `cdylib`, it is one file that a host loads by name:
//!
//! | kind | trait | it |
//! | --- | --- | --- |
//! | growth strategy | [`GrowthStrategy`] | decides when and where to grow, and what trains |
//! | layer initializer | [`LayerInitializer`] | fills in the values of new blocks |
//! | metric reporter | [`MetricReporter`] | watches |
//!
//! A strategy in full: it starts with one block and adds one every hundred steps.
//!
//! ```
//! use sapwood_plugin::{
//!     Above, Actions, GrowthStrategy, Insert, MomentsRule, Plan, Plugin, Result, RunFacts, StepContext,
//! };
//!
//! /// How often to grow.
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     /// Steps between two growths.
//!     every_steps: u64,
//! }
//!
//! struct Steady {
//!     config: Config,
//!     final_depth: usize,
//! }
//!
//! impl Plugin for Steady {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Steady> {
//!         Ok(Steady { config, final_depth: 0 })
//!     }
//! }
//!
//! impl GrowthStrategy for Steady {
//!     fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
//!         self.final_depth = run.model.layers;
//!         Ok(Plan { slots: vec!["new_blocks".into()], ..Plan::fixed_depth(1, run.model.layers) })
//!     }
//!
//!     fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
//!         let due = context.step > 0 && context.step % self.config.every_steps == 0;
//!         if due && context.blocks.len() < self.final_depth {
//!             let top = context.blocks.last().map_or(Above::Embedding, |block| Above::Layer(block.id));
//!             actions.insert(Insert {
//!                 above: top,
//!                 count: 1,
//!                 slot: "new_blocks".into(),
//!                 sources: vec![],
//!                 moments: MomentsRule::FromInitializer,
//!             })?;
//!         }
//!         Ok(())
//!     }
//!
//!     sapwood_plugin::stateless!();
//! }
//!
//! sapwood_plugin::export! {
//!     strategy Steady { id: "example/steady", summary: "adds a block every so many steps" }
//! }
//! # fn main() {}
//! ```
//!
//! Nothing that a plugin gets lets it reach the model: it sees views and returns requests, and the host
//! decides, applies, audits and logs. A panic or an error in a plugin is caught at the boundary and stops
//! the run after a checkpoint, with the plugin named.
//!
//! `GUIDE.md` beside this crate goes from an empty folder to a trained study in fifteen minutes.
//!
//! The types that cross stand in [`abi`]; nothing there is for authors.
//!
//! [sapwood]: https://crates.io/crates/sapwood-plugin

pub mod abi;
mod actions;
mod error;
mod export;
mod facts;
mod fade_in;
#[cfg(feature = "host")]
pub mod host;
mod initializer;
mod log;
mod measured;
mod plugin;
mod random;
mod reporter;
mod stages;
mod strategy;
pub mod testing;

pub use actions::{
    Above, Action, ActionSink, Actions, Batch, Gate, Insert, MomentsRule, OptimizerChange, OptimizerRule,
    Pass, Probe, Probed, Pushed, RateFactor, Replace, ScheduleChange, ScheduleShape, Train, Which, Widen,
    WidenedMoments, Widths,
};
pub use error::{Error, Panicked, Result};
pub use facts::{Descriptor, InterfaceFacts, Kind, LibraryFacts};
pub use fade_in::FadeIn;
pub use initializer::{BlockView, Claim, InitContext, LayerInitializer, Role, TensorMut, TensorView};
pub use log::{Level, log};
pub use measured::{Measure, Measured, MeasuredBlock, MeasuredTensor};
pub use plugin::{Plugin, Saved};
pub use random::{Key, Random};
pub use reporter::{MetricReporter, RunEvent, SessionFacts};
pub use stages::{check_shares, stage_starts};
pub use strategy::{
    Block, Budget, Evaluation, Event, GrowthReceipt, GrowthStrategy, LayerId, LossPoint, ModelFacts, Plan,
    PlannedPhase, RunFacts, StepContext,
};

#[doc(hidden)]
pub use abi::export_parts as __private;
