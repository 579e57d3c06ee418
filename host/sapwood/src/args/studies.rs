//! What a study is run, planned and proved with.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, CommandFactory, ValueEnum};

use super::{Arguments, EngineArgs, FileArgs};
use crate::device::{Place, in_list};

#[derive(Debug, Args)]
pub(crate) struct StudyArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Where results go [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Train every run from its own start, also what it has in common with another: the results are the same bits
    #[arg(long)]
    pub(crate) no_sharing: bool,
    /// Runs side by side: a number, or auto: as many as cores and free memory allow
    #[arg(long, value_name = "N", default_value = "auto")]
    pub(crate) jobs: Jobs,
    /// One run on each of these at a time, such as 0,1 for the first two GPUs; cpu and cuda:N may stand there too
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = in_list, conflicts_with_all = ["device", "jobs"])]
    pub(crate) devices: Vec<Place>,
    /// Who runs them: this machine, or Slurm as a job array of one task a run, on a file system that its nodes share
    #[arg(long, value_enum, default_value_t = Executor::Local)]
    pub(crate) executor: Executor,
    /// Pass an argument on to sbatch, such as --sbatch=--gres=gpu:1; may be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) sbatch: Vec<String>,
    /// Wait until no task of the Slurm job is left, then report
    #[arg(long)]
    pub(crate) wait: bool,
    /// Run this one alone, ARM/BUDGET/seed-N, beside others who work on the rest; no report. It is waited for while somebody
    /// has it
    #[arg(long, value_name = "RUN", conflicts_with_all = ["executor", "devices", "jobs"])]
    pub(crate) only: Option<String>,
}

/// Who runs a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Executor {
    /// This machine
    Local,
    /// A job array
    Slurm,
}

impl StudyArgs {
    /// What of it makes no sense together, where the parser cannot tell.
    pub(crate) fn contradiction(&self) -> Option<clap::Error> {
        let wrong = match self.executor {
            Executor::Local if self.wait => "'--wait' goes with '--executor slurm'",
            Executor::Local if !self.sbatch.is_empty() => "'--sbatch <ARG>' goes with '--executor slurm'",
            Executor::Slurm if !self.devices.is_empty() => {
                "'--devices <LIST>' goes with '--executor local': a task of Slurm has its own device, which '--sbatch=--gres=gpu:1' asks for"
            }
            _ => return None,
        };
        Some(Arguments::command().error(clap::error::ErrorKind::ArgumentConflict, wrong))
    }
}

/// How many runs side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Jobs {
    /// As many as the machine has room for.
    Auto,
    /// So many.
    Number(u16),
}

impl FromStr for Jobs {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Jobs, &'static str> {
        match text.parse() {
            Ok(number) if number > 0 => Ok(Jobs::Number(number)),
            _ if text == "auto" => Ok(Jobs::Auto),
            _ => Err("it is a number from 1 on, or `auto`"),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Time a few steps of the whole model, and tell how long runs and study will take at that rate
    #[arg(long)]
    pub(crate) time: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Which arm; not needed where there is one
    #[arg(long)]
    pub(crate) arm: Option<String>,
    /// Which seed [default: the study's first]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Where results go [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyResumeArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Only this arm, with the study's first seed; may be given several times [default: all]
    #[arg(long)]
    pub(crate) arm: Vec<String>,
    /// Stops before steps drawn by chance, beside those at the start, around every change and after an evaluation
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) stops: u32,
    /// Keep all runs in this folder [default: a temporary one, kept where something differs]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
