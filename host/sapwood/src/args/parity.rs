//! What parity is shown with.

use std::path::PathBuf;

use clap::Args;

use super::{EngineArgs, PluginPath};

#[derive(Debug, Args)]
pub(crate) struct ParityArgs {
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// A folder with recorded runs, in the format of tests/golden/torch_reference
    #[arg(long, value_name = "DIR")]
    pub(crate) reference: PathBuf,
    /// Keep what was trained in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) plugins: PluginPath,
}
