//! The command line, and its help: what the commands are, and what several of them take. What one takes stands below.

mod bench;
mod data;
mod models;
mod parity;
mod plugins;
mod results;
mod shell;
mod studies;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::Precision;

use crate::device::DeviceName;
pub(crate) use bench::{BenchArgs, RowName, SuiteArgs};
pub(crate) use data::{
    CutName, DataCommand, KindOfInput, LookArgs, RawFormat, SampleDataArgs, TokenizeArgs, VerifyDataArgs,
};
use models::{EVAL_HELP, EXPORT_HELP, IMPORT_HELP, SAMPLE_HELP};
pub(crate) use models::{EvalArgs, ExportArgs, ImportArgs, SampleArgs, SuiteKind};
pub(crate) use parity::ParityArgs;
pub(crate) use plugins::{
    BuildArgs, InspectArgs, InstallArgs, KindName, ListArgs, LockArgs, NewArgs, PackArgs, PluginCommand,
    QuestionArgs, SignArgs, ValidateArgs, VerifyArgs,
};
pub(crate) use results::{
    CheckpointArgs, CheckpointCommand, DiffArgs, PruneArgs, ReplayArgs, ReportArgs, StatusArgs, WatchArgs,
};
use results::{DIFF_HELP, REPLAY_HELP};
use shell::COMPLETIONS_HELP;
pub(crate) use shell::{CompletionsArgs, ManualArgs, Shell};
pub(crate) use studies::{Executor, Jobs, PlanArgs, StudyArgs, TrainArgs, VerifyResumeArgs};

/// Does training a language model layer by layer pay, against training it whole?
///
/// Growth strategies, layer initializers and metric reporters are shared libraries: `sapwood plugin list`
/// shows them.
#[derive(Debug, Parser)]
#[command(name = "sapwood", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// More in the log file (-v debug, -vv trace); RUST_LOG overrides it
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 900)]
    pub(crate) verbose: u8,
}

const EXIT_CODES: &str = "\
Exit codes: 0 good · 1 internal error · 2 wrong usage · 3 configuration · 4 data · 5 plugin refused · \
6 plugin failed · 7 numbers went wrong · 8 disk, memory or device · 9 runs failed for several reasons · \
10 not the same (parity, diff, replay, verify-resume) · 11 a plugin ended the process · 12 a plugin did not come back · \
130 interrupted (saved; run again to go on)

Environment: SAPWOOD_PLUGIN_PATH further folders with plugins · SAPWOOD_PLUGIN_TIMEOUT_SECONDS how long a call into a \
plugin may take (60) · SAPWOOD_PLUGIN_MEMORY_MIB memory of an isolated plugin (4096) · SAPWOOD_CPU=sse2|avx2 vector instructions that are used at most · RUST_LOG";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a study: all arms with all seeds, then the verdict. Run it again to go on or to add arms
    #[command(after_help = "Example: sapwood study configs/quickstart.toml --out runs/quickstart")]
    Study(StudyArgs),
    /// Show what a study will do and cost, without training
    #[command(after_help = "Example: sapwood plan configs/paper/gpt2-124m.toml")]
    Plan(PlanArgs),
    /// Train one run of a study
    #[command(after_help = "Example: sapwood train configs/quickstart.toml --arm stack --seed 1")]
    Train(TrainArgs),
    /// Compare the arms of a study's folder and print the verdict again; or several studies side by side
    #[command(after_help = "Example: sapwood report runs/quickstart")]
    Report(ReportArgs),
    /// Tell how far a study is, run by run; it may be at work meanwhile, on this machine or another
    #[command(after_help = "Example: sapwood status runs/quickstart")]
    Status(StatusArgs),
    /// Watch a study at work: runs, curves, time left. Only reads its files
    #[command(after_help = "Example: sapwood watch runs/quickstart")]
    Watch(WatchArgs),
    /// Compare two runs: what they are made of, where their logs part, what they came to
    #[command(after_help = DIFF_HELP)]
    Diff(DiffArgs),
    /// Ask a strategy about a run that is on record: where it decides otherwise, and what it would ask for
    #[command(after_help = REPLAY_HELP)]
    Replay(ReplayArgs),
    /// List, verify and prune the checkpoints of a run or of a whole study
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Prove that stopping costs nothing: train each arm undisturbed and stopped again and again, and compare every byte
    #[command(
        after_help = "Example: sapwood verify-resume configs/quickstart.toml --arm stack --set budget.steps=60\n\n\
                      Exit codes: 0 every byte is the same · 10 one is not"
    )]
    VerifyResume(VerifyResumeArgs),
    /// Make, inspect, verify and sample files of token ids
    #[command(subcommand)]
    Data(DataCommand),
    /// Make a model of Hugging Face's (GPT-2, safetensors) one that a study can start from: `initial_model.from`
    #[command(after_help = IMPORT_HELP)]
    Import(ImportArgs),
    /// Write a run's model as a folder that `transformers` loads, with a card that says how it was made
    #[command(after_help = EXPORT_HELP)]
    Export(ExportArgs),
    /// Let a model write: of a run, a checkpoint, or a folder of Hugging Face's
    #[command(after_help = SAMPLE_HELP)]
    Sample(SampleArgs),
    /// Put a suite of questions, or texts, to a model
    #[command(after_help = EVAL_HELP)]
    Eval(EvalArgs),
    /// Write, build, validate, sign, install, list, inspect and lock plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Replay recorded training runs of another implementation, and compare step by step
    #[command(after_help = "Example: sapwood parity --engine burn --reference tests/golden/torch_reference")]
    Parity(ParityArgs),
    /// Time a training step or a schedule of growth, alone or in turn with a peer
    #[command(
        after_help = "Example: sapwood bench --layers 4 --dmodel 256 --heads 4 --vocab 1024 --batch 4 --seq 256"
    )]
    Bench(BenchArgs),
    /// Tell what this machine has: engines, devices, plugins
    #[command(after_help = "Example: sapwood doctor")]
    Doctor(PluginPath),
    /// Print what a shell completes this command line with
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsArgs),
    /// Write the manual's pages
    #[command(hide = true)]
    Manual(ManualArgs),
    /// Host one plugin that has `isolation = "process"`, over standard input and output
    #[command(hide = true)]
    PluginHost,
    /// Answer one question of `plugin validate`, in a process of its own
    #[command(hide = true)]
    PluginQuestion(QuestionArgs),
}

/// Which engine trains, and on what.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct EngineArgs {
    /// Who computes
    #[arg(long, value_enum, default_value_t = EngineName::Native)]
    pub(crate) engine: EngineName,
    /// Where: auto, cpu, cuda or cuda:N. One that is named and not there is an error, never a silent run elsewhere;
    /// auto is the first GPU where there is one, and the log says so
    #[arg(long, default_value = "cpu")]
    pub(crate) device: DeviceName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// Our own fused step
    Native,
    /// The same step in f64 and plain loops on the processor: an oracle, slow
    Reference,
    /// GPT-2 on Burn's automatic differentiation
    Burn,
}

impl EngineName {
    /// As `--engine` takes it.
    pub(crate) fn as_flag(self) -> &'static str {
        match self {
            EngineName::Native => "native",
            EngineName::Reference => "reference",
            EngineName::Burn => "burn",
        }
    }
}

/// In which numbers a step computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionName {
    /// f32 throughout
    Fp32,
    /// Factors of products cut to TF32
    Tf32,
    /// What lies between products in bfloat16
    Bf16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Precision {
        match name {
            PrecisionName::Fp32 => Precision::Fp32,
            PrecisionName::Tf32 => Precision::Tf32,
            PrecisionName::Bf16 => Precision::Bf16,
        }
    }
}

/// Where plugins are looked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct PluginPath {
    /// Look for plugins in this folder first; may be given several times
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_path: Vec<PathBuf>,
}

/// A study's file and what is different this time.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The study's file
    pub(crate) file: PathBuf,
    /// Set any key of the file, such as `schedule.rate=1e-3`; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Refuse every plugin that is not the one of `plugins.lock` beside the file
    #[arg(long)]
    pub(crate) locked: bool,
    /// Refuse every plugin that no key in ~/.config/sapwood/trusted-keys has signed
    #[arg(long)]
    pub(crate) signed: bool,
    #[command(flatten)]
    pub(crate) plugins: PluginPath,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number, at least 1".into()),
        Ok(number) => Ok(number),
    }
}
