//! What parity is shown with.

use std::path::PathBuf;

use clap::Args;

use super::{EngineArgs, PluginPath, PrecisionName};

#[derive(Debug, Args)]
pub(crate) struct ParityArgs {
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Which of the CUDA device's kernels are held against f64: in bf16, against f64 that rounds where they do. Recorded runs are
    /// replayed in fp32
    #[arg(long, default_value = "fp32")]
    pub(crate) precision: PrecisionName,
    /// A folder with recorded runs, in the format of tests/golden/torch_reference
    #[arg(long, value_name = "DIR")]
    pub(crate) reference: PathBuf,
    /// Keep what was trained in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) plugins: PluginPath,
}
