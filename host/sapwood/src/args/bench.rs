//! What a step, or a suite of them, is timed with.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{EngineArgs, PrecisionName, at_least_one};

/// A workload; the flags that a peer has too are named as there.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// In which numbers a step computes; tf32 and bf16 are the CUDA device's alone
    #[arg(long, default_value = "fp32")]
    pub(crate) precision: PrecisionName,
    /// Blocks
    #[arg(long, default_value_t = 6)]
    pub(crate) layers: usize,
    /// Width of the residual stream
    #[arg(long, default_value_t = 64)]
    pub(crate) dmodel: usize,
    /// Attention heads
    #[arg(long, default_value_t = 4)]
    pub(crate) heads: usize,
    /// Token ids
    #[arg(long, default_value_t = 256)]
    pub(crate) vocab: usize,
    /// Tokens of a sequence
    #[arg(long, default_value_t = 64)]
    pub(crate) seq: usize,
    /// Sequences of a step
    #[arg(long, default_value_t = 8, value_parser = at_least_one)]
    pub(crate) batch: usize,
    /// Freeze the N lowest blocks
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) frozen: usize,
    /// Freeze both embeddings, the tied head with them
    #[arg(long)]
    pub(crate) freeze_embeddings: bool,
    /// Timed steps, after 5 that are not
    #[arg(long, default_value_t = 20, value_parser = at_least_one)]
    pub(crate) steps: usize,
    /// Time a whole schedule in place of a step: so many stages of growth, each of two phases with as many of --steps
    #[arg(long, value_name = "S", value_parser = at_least_one, conflicts_with_all = ["frozen", "freeze_embeddings"])]
    pub(crate) stages: Option<usize>,
    /// Steps of the whole model behind the last stage, with AdamW's state at zero
    #[arg(long, default_value_t = 0, value_name = "N", requires = "stages")]
    pub(crate) continual: usize,
    /// Threads [default: all cores]
    #[arg(long, value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Run this Python script in turn, with the same workload's flags, and print the ratios
    #[arg(long, value_name = "SCRIPT")]
    pub(crate) peer: Option<PathBuf>,
    /// Further arguments of the peer
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) peer_args: Vec<String>,
    /// The Python that runs the peer
    #[arg(long, default_value = "python3")]
    pub(crate) python: PathBuf,
    /// Rounds with a peer
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    #[command(flatten)]
    pub(crate) suite: SuiteArgs,
}

/// A row of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum RowName {
    /// The shape as it was given, all of it training.
    All,
    /// Three blocks of four frozen.
    ThreeQuartersFrozen,
    /// And both embeddings.
    EmbeddingsFrozenToo,
    /// Twice as many sequences a step.
    TwiceTheBatch,
    /// Four times as many.
    FourTimesTheBatch,
    /// A quarter of the blocks.
    AQuarter,
    /// In strict f32, whatever --precision says.
    Fp32,
    /// In TF32, whatever --precision says.
    Tf32,
    /// A whole schedule of four stages in 40 steps, beside --schedule-peer.
    #[value(name = "schedule-40")]
    Schedule40,
    /// The same in 400 steps.
    #[value(name = "schedule-400")]
    Schedule400,
}

/// Parity and several workloads in one go.
#[derive(Debug, Args)]
pub(crate) struct SuiteArgs {
    /// Run parity, then this shape with all of it and with less of it training, each in turn with the peer
    #[arg(long, requires_all = ["peer", "out", "reference"], conflicts_with_all = ["json", "rounds", "frozen", "stages"])]
    pub(crate) gpu_suite: bool,
    /// What the suite runs in turn with the peer [default: all,three-quarters-frozen,embeddings-frozen-too]
    #[arg(long, value_name = "ROW", value_delimiter = ',', requires = "gpu_suite",
          default_values = ["all", "three-quarters-frozen", "embeddings-frozen-too"], hide_default_value = true)]
    pub(crate) rows: Vec<RowName>,
    /// The Python script that a schedule of the suite runs beside
    #[arg(long, value_name = "SCRIPT", requires = "gpu_suite")]
    pub(crate) schedule_peer: Option<PathBuf>,
    /// Leave what came of the suite in this file, as JSON
    #[arg(long, value_name = "FILE", requires = "gpu_suite")]
    pub(crate) out: Option<PathBuf>,
    /// Recorded runs for the suite's parity
    #[arg(long, value_name = "DIR", requires = "gpu_suite")]
    pub(crate) reference: Option<PathBuf>,
    /// End the suite after so many seconds, with what there is by then
    #[arg(long, value_name = "N", default_value_t = 480)]
    pub(crate) seconds: u64,
}
