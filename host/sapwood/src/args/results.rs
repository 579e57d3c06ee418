//! What is asked of the folders that studies leave behind.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PluginPath;

pub(super) const DIFF_HELP: &str = "\
Example: sapwood diff runs/quickstart/runs/baseline/tokens/seed-1 runs/quickstart/runs/stack/compute/seed-1

Steps, evaluations, decisions and the tensors of the newest checkpoint that both have are compared bit for bit; \
configuration, plugins and data are told, and no difference by themselves, and neither is any wall time, what suites \
came to, or what shadows would have done. docs/studies.md says what to do where runs differ that should not.
Exit codes: 0 the same results · 10 other results · 3 a folder holds no run · 8 a file cannot be read";

pub(super) const REPLAY_HELP: &str = "\
Example: sapwood replay runs/quickstart/runs/stack/compute/seed-1 --strategy sapwood/late \
--config '{\"first_layers\": 1}'

Nothing is trained: the run goes on as it did, whatever the strategy asks for. Where both ask for the same edit or probe, \
it is told what came of it. What was measured in steps is in no log, and is not told. Labels of phases and numbers for \
plots are no decisions.
Exit codes: 0 the same decisions at all steps · 10 other decisions · 3 a folder holds no run, or the strategy refuses it · \
5 plugin refused · 6 the strategy failed · 8 a file cannot be read";

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The study's folder; of several, what they came to side by side
    #[arg(required = true, value_name = "DIR")]
    pub(crate) folders: Vec<PathBuf>,
    /// Print JSON instead: the study's, or a list of all of theirs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The study's folder
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Print JSON, every run's evaluations included
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A run's folder, STUDY/runs/ARM/BUDGET/seed-N
    #[arg(value_name = "RUN")]
    pub(crate) old: PathBuf,
    /// Another one
    #[arg(value_name = "RUN")]
    pub(crate) new: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The run's folder, STUDY/runs/ARM/BUDGET/seed-N; it may be under way
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Which strategy [default: the run's own, as it is now]
    #[arg(long, value_name = "ID")]
    pub(crate) strategy: Option<String>,
    /// Its configuration, as JSON [default: the run's for its own strategy, else {}]
    #[arg(long, value_name = "JSON")]
    pub(crate) config: Option<String>,
    /// Take it from this library, instead of the search path
    #[arg(long, value_name = "FILE")]
    pub(crate) library: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) plugins: PluginPath,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The study's folder
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Seconds between two looks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) every: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Which there are, newest first, and what they take on disk
    #[command(after_help = "Example: sapwood checkpoint list runs/quickstart")]
    List(CheckpointArgs),
    /// Hold every file against its hash, as going on does
    #[command(after_help = "Example: sapwood checkpoint verify runs/quickstart\n\n\
                      Exit codes: 0 all are whole · 8 one is damaged")]
    Verify(CheckpointArgs),
    /// Remove all but the newest of each run; those with a name stay
    #[command(after_help = "Example: sapwood checkpoint prune runs/quickstart --keep 1")]
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// A run's folder, or a study's
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    pub(crate) of: CheckpointArgs,
    /// How many of each run's newest stay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) keep: u16,
}
