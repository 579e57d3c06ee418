//! A test bench for plugins, without a host: a strategy is driven over a [`SimulatedRun`], an initializer over a
//! [`SmallModel`], a reporter over a [`MadeUpRun`]. `sapwood plugin validate` asks its questions with the same
//! bench, of the finished library.
//!
//! Nothing here trains. Losses are a stated function of depth and tokens, so that what a strategy decides is
//! the same in every test; requests are judged by the host's rules, and a refusal is part of the transcript.
//!
//! ```
//! # use sapwood_plugin::*;
//! # #[derive(serde::Deserialize, schemars::JsonSchema)]
//! # struct Config { every_steps: u64 }
//! # struct Steady(Config);
//! # impl Plugin for Steady {
//! #     type Config = Config;
//! #     fn new(config: Config) -> Result<Steady> { Ok(Steady(config)) }
//! # }
//! # impl GrowthStrategy for Steady {
//! #     fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
//! #         Ok(Plan { slots: vec!["new_blocks".into()], ..Plan::fixed_depth(1, run.model.layers) })
//! #     }
//! #     fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
//! #         if context.step > 0 && context.step % self.0.every_steps == 0 && context.blocks.len() < 3 {
//! #             let top = context.blocks.last().map_or(Above::Embedding, |block| Above::Layer(block.id));
//! #             actions.insert(Insert { above: top, count: 1, slot: "new_blocks".into(), sources: vec![],
//! #                 moments: MomentsRule::FromInitializer })?;
//! #         }
//! #         Ok(())
//! #     }
//! #     sapwood_plugin::stateless!();
//! # }
//! use sapwood_plugin::testing::{SimulatedRun, plugin};
//!
//! let mut steady = plugin::<Steady>(r#"{ "every_steps": 10 }"#)?;
//! let transcript = SimulatedRun::new(3, 30).drive(&mut steady)?;
//! assert_eq!(transcript.to_string(), "\
//! starts with 1 of at most 3 blocks
//! before step 10: insert 1 above 0 for new_blocks
//! before step 20: insert 1 above 1 for new_blocks
//! ends after 30 steps with blocks 0 1 2
//! ");
//! # sapwood_plugin::Result::Ok(())
//! ```

mod measuring;
mod reporting;
mod simulation;
mod small_model;
mod stack;
mod transcript;

pub use reporting::MadeUpRun;
pub use simulation::SimulatedRun;
pub use small_model::{Grown, Growth, SmallModel};
pub use transcript::{Decision, Transcript};

use crate::{Plugin, Result};

/// Makes a plugin from its configuration, given as JSON, the way that a host does.
///
/// # Errors
/// What a user would see: a key that is unknown, missing or wrong, by name.
///
/// ```
/// # use sapwood_plugin::*;
/// # #[derive(serde::Deserialize, schemars::JsonSchema)]
/// # #[serde(deny_unknown_fields)]
/// # struct Config { every_steps: u64 }
/// # struct Steady(Config);
/// # impl Plugin for Steady {
/// #     type Config = Config;
/// #     fn new(config: Config) -> Result<Steady> { Ok(Steady(config)) }
/// # }
/// use sapwood_plugin::testing::plugin;
///
/// let error = plugin::<Steady>(r#"{ "every_steps": "ten" }"#).map(|_| ()).expect_err("no number");
/// assert_eq!(error.field(), Some("every_steps"));
/// ```
pub fn plugin<P: Plugin>(config: &str) -> Result<P> {
    crate::abi::export_parts::make(config)
}
