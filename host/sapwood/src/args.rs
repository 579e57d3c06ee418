//! The command line, and its help.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use engine::Flops;
use plugin_host::api::Kind;

use crate::device::{DeviceName, Place, in_list};

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
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

const EXIT_CODES: &str = "\
Exit codes: 0 good · 1 internal error · 2 wrong usage · 3 configuration · 4 data · 5 plugin refused · \
6 plugin failed · 7 numbers went wrong · 8 disk, memory or device · 9 runs failed for several reasons · \
10 not the same (parity, diff, replay) · 11 a plugin ended the process · 12 a plugin did not come back · \
130 interrupted (saved; run again to go on)

Environment: SAPWOOD_PLUGIN_PATH further folders with plugins · SAPWOOD_PLUGIN_TIMEOUT_SECONDS how long a call into a \
plugin may take (60) · SAPWOOD_PLUGIN_MEMORY_MIB memory of an isolated plugin (4096) · RUST_LOG";

const DIFF_HELP: &str = "\
Example: sapwood diff runs/quickstart/runs/whole/tokens/seed-1 runs/quickstart/runs/stack/compute/seed-1

Steps, evaluations, decisions and the tensors of the newest checkpoint that both have are compared bit for bit; \
configuration, plugins and data are told, and no difference by themselves, and neither is any wall time.
Exit codes: 0 the same results · 10 other results · 3 a folder holds no run · 8 a file cannot be read";

const REPLAY_HELP: &str = "\
Example: sapwood replay runs/quickstart/runs/stack/compute/seed-1 --strategy sapwood/late \
--config '{\"first_layers\": 1}'

Nothing is trained: the run goes on as it did, whatever the strategy asks for. Where both ask for the same edit or probe, \
it is told what came of it. What was measured in steps is in no log, and is not told. Labels of phases and numbers for \
plots are no decisions.
Exit codes: 0 the same decisions at all steps · 10 other decisions · 3 a folder holds no run, or the strategy refuses it · \
5 plugin refused · 6 the strategy failed · 8 a file cannot be read";

const IMPORT_HELP: &str = "\
Example: sapwood import gpt2 --out models/gpt2 --vocabulary 50304 --sunk-tokens 10000000000

The folder holds config.json and model.safetensors, or several files with an index; f32, bf16 or f16. A vocabulary of 50,257 \
is not made larger unless asked for: each added row is the mean of all others.
Exit codes: 0 imported · 4 no GPT-2 that is implemented here · 8 a file cannot be read or written";

const EXPORT_HELP: &str = "\
Example: sapwood export runs/quickstart/runs/stack/compute/seed-1 --out stacked

Of a run, its newest checkpoint. Gates are multiplied into the weights, so that a plain GPT-2 gives the same logits.
Exit codes: 0 exported · 3 a folder holds no run · 4 no model, or one that GPT-2's config.json cannot describe · 8 disk";

const SAMPLE_HELP: &str = "\
Example: sapwood sample runs/quickstart/runs/stack/compute/seed-1 --prompt 'It is a truth' --tokens 200

A run on text has bytes for tokens. For any other vocabulary give --ids: the prompt is then numbers, and so is what is written.
Exit codes: 0 written · 3 a folder holds no run · 4 no model, or a prompt that it cannot read · 8 a file cannot be read";

const EVAL_HELP: &str = "\
Example: sapwood eval models/gpt2 --suite hellaswag_val.ids.jsonl --kind multiple-choice --items choices.jsonl

One JSON object a line: {\"ctx\", \"endings\", \"label\"} · {\"text\"} for lambada and text. Any text but lambada's may be a list \
of token ids instead. docs/evaluations.md says how each number is made and where suites come from.
Exit codes: 0 judged · 3 a folder holds no run · 4 no model, or a suite that makes no sense · 8 a file cannot be read or written";

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
    /// Time an engine's training step, alone or in turn with a peer
    #[command(
        after_help = "Example: sapwood bench --layers 4 --dmodel 256 --heads 4 --vocab 1024 --batch 4 --seq 256"
    )]
    Bench(BenchArgs),
    /// Tell what this machine has: engines, devices, plugins
    #[command(after_help = "Example: sapwood doctor")]
    Doctor(PluginPath),
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
pub(crate) struct ImportArgs {
    /// A folder that `save_pretrained` wrote
    #[arg(value_name = "HF_DIR")]
    pub(crate) from: PathBuf,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Token ids that the model is to have, such as 50304 [default: as many as it has]
    #[arg(long, value_name = "N")]
    pub(crate) vocabulary: Option<usize>,
    /// FLOPs that its training has cost before, such as 2.5e20; reports show costs with and without
    #[arg(long, value_name = "FLOPS", value_parser = flops)]
    pub(crate) sunk_flops: Option<Flops>,
    /// Tokens that it has been trained on before
    #[arg(long, value_name = "N")]
    pub(crate) sunk_tokens: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A run's folder, one of its checkpoints, or an imported folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// The folder to make
    #[arg(long, value_name = "HF_DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// A run's folder, one of its checkpoints, or a folder of Hugging Face's
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// What it goes on from [default: a line's end]
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// The prompt is token ids, and so is the result
    #[arg(long, requires = "prompt", conflicts_with = "tokenizer")]
    pub(crate) ids: bool,
    /// What makes tokens of texts: bytes, gpt2, or a tokenizer.json [default: bytes, for a model of bytes]
    #[arg(long, value_name = "NAME")]
    pub(crate) tokenizer: Option<String>,
    /// Tokens to write
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) tokens: usize,
    /// Logits are divided by it; 0 takes the most probable token each time
    #[arg(long, default_value_t = 1.0, value_name = "T", value_parser = temperature)]
    pub(crate) temperature: f64,
    /// Draw from the K most probable tokens alone
    #[arg(long, value_name = "K", value_parser = at_least_one)]
    pub(crate) top_k: Option<usize>,
    /// Draw from the fewest tokens that have probability P together
    #[arg(long, value_name = "P", value_parser = share)]
    pub(crate) top_p: Option<f64>,
    /// Same seed, same text
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// A run's folder, one of its checkpoints, or a folder of Hugging Face's
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// The suite's file
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) suite: PathBuf,
    /// What is asked
    #[arg(long, value_enum)]
    pub(crate) kind: SuiteKind,
    /// What makes tokens of texts: bytes, gpt2, or a tokenizer.json [default: bytes, for a model of bytes]
    #[arg(long, value_name = "NAME")]
    pub(crate) tokenizer: Option<String>,
    /// Write what came of each item into this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) items: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SuiteKind {
    /// The most probable of several endings (HellaSwag)
    MultipleChoice,
    /// The last word of a passage
    Lambada,
    /// Loss, perplexity and bits per byte
    Text,
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

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Begin a plugin: a crate of its own, with a small one that works and its test
    #[command(
        after_help = "Example: sapwood plugin new plateau --kind strategy --sdk sapwood/plugin-api\n\n\
                      Exit codes: 0 written · 3 the name, the folder or the --sdk will not do · 8 disk"
    )]
    New(NewArgs),
    /// Build a plugin's crate, and show the library and its facts
    #[command(after_help = "Example: sapwood plugin build plateau\n\n\
                      Exit codes: 0 built · 3 no plugin's crate is there · 5 the library is refused · \
                      6 it does not build · 8 there is no cargo")]
    Build(BuildArgs),
    /// Copy a library into the user's plugin folder, where every study finds it; runs none of its code
    #[command(after_help = "Example: sapwood plugin install plateau/target/release/libplateau.so\n\n\
                      Exit codes: 0 installed · 3 there is no user's folder · 5 the library is refused · 8 disk")]
    Install(InstallArgs),
    /// Put libraries for several machines into one file, which `install` takes the right one from
    #[command(
        after_help = "Example: sapwood plugin pack x86/libmine.so arm/libmine.so --out mine.sapwood-pack"
    )]
    Pack(PackArgs),
    /// List all plugins on the search path; runs none of their code
    #[command(after_help = "Example: sapwood plugin list --plugin-path ./plugins")]
    List(ListArgs),
    /// Show a plugin's facts and what its configuration takes
    #[command(
        after_help = "Example: sapwood plugin inspect sapwood/paper\n         sapwood plugin inspect ./libmine.so"
    )]
    Inspect(InspectArgs),
    /// Put a library through the conformance suite, each question in a process of its own
    #[command(
        after_help = "Example: sapwood plugin validate ./libmine.so --config '{\"every_steps\": 10}'\n\n\
                      The certificate of a whole examination is kept in ~/.local/share/sapwood/certificates by the\n\
                      library's sha256; runs of these bytes record what it came to.\n\
                      Exit codes: 0 all plugins passed · 5 the library is refused · 6 a plugin failed"
    )]
    Validate(ValidateArgs),
    /// Write down which library each plugin of a study is, by sha256, for `--locked`
    #[command(after_help = "Example: sapwood plugin lock configs/quickstart.toml --out quickstart.lock\n\n\
                      `study`, `train` and `plan` take `--locked`: they then refuse any other library, with exit code 5")]
    Lock(LockArgs),
    /// Sign a library, so that others can see that it is yours; or make a key to sign with
    #[command(after_help = "Example: sapwood plugin sign --new-key ~/me.key\n         \
                      sapwood plugin sign libmine.so --key ~/me.key")]
    Sign(SignArgs),
    /// Tell whose signature a library bears
    #[command(after_help = "Example: sapwood plugin verify libmine.so --key me.key.pub\n\n\
                      Without a key, those in ~/.config/sapwood/trusted-keys (*.pub) are tried, as `--signed` does.\n\
                      Exit codes: 0 a good signature · 5 none")]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The library's file; the signature goes beside it, as FILE.minisig
    #[arg(required_unless_present = "new_key", requires = "key")]
    pub(crate) library: Option<PathBuf>,
    /// The secret key, as `--new-key` or minisign makes it
    #[arg(long, value_name = "FILE", conflicts_with = "new_key")]
    pub(crate) key: Option<PathBuf>,
    /// Make a secret key in this file, and its public one in FILE.pub
    #[arg(long, value_name = "FILE", conflicts_with = "library")]
    pub(crate) new_key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The library's file; its signature lies beside it, as FILE.minisig
    pub(crate) library: PathBuf,
    /// The public key [default: all that are trusted]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The crate's name, and the second half of the plugin's id
    pub(crate) name: String,
    /// What it is to be
    #[arg(long, value_enum)]
    pub(crate) kind: KindName,
    /// The first half of the plugin's id
    #[arg(long, default_value = "me")]
    pub(crate) author: String,
    /// The folder to make [default: NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// Depend on the sapwood-plugin in this folder (`plugin-api` of sapwood's sources) [default: by version]
    #[arg(long, value_name = "DIR")]
    pub(crate) sdk: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindName {
    /// Decides when and where to grow, and what trains
    Strategy,
    /// Fills in the values of new blocks
    Initializer,
    /// Watches
    Reporter,
}

impl KindName {
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            KindName::Strategy => "growth strategy",
            KindName::Initializer => "layer initializer",
            KindName::Reporter => "metric reporter",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            KindName::Strategy => Kind::Strategy,
            KindName::Initializer => Kind::Initializer,
            KindName::Reporter => Kind::Reporter,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The crate's folder [default: this one]
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// The libraries' files, one for each target
    #[arg(required = true)]
    pub(crate) libraries: Vec<PathBuf>,
    /// The pack's file, NAME.sapwood-pack
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// The library's file, or a pack's (NAME.sapwood-pack)
    pub(crate) library: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// The study's file
    pub(crate) file: PathBuf,
    /// Where to write [default: plugins.lock beside the file]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) plugins: PluginPath,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The library's file
    pub(crate) library: PathBuf,
    /// Only the plugin of this id [default: all of the library's]
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Ask only this question; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) question: Vec<String>,
    /// Its configuration, as JSON [default: the first example of its schema, else {}]
    #[arg(long, value_name = "JSON")]
    pub(crate) config: Option<String>,
    /// Print the certificate, JSON that is bound to the library's sha256
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the certificate into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// Beside the suite, tell each plugin nonsense for so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) fuzz: Option<u64>,
    /// The first case of the nonsense; a failure names its own, to be tried again with `--fuzz 0`
    #[arg(long, default_value_t = 1, value_name = "N", requires = "fuzz")]
    pub(crate) seed: u64,
    /// Seconds after which a question counts as never answered
    #[arg(long, default_value_t = 60, value_name = "N")]
    pub(crate) seconds: u64,
}

/// One question of the conformance suite, as the asking process passes it on.
#[derive(Debug, Args)]
pub(crate) struct QuestionArgs {
    pub(crate) library: PathBuf,
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) question: String,
    pub(crate) config: String,
    pub(crate) folder: PathBuf,
    pub(crate) fuzz_seconds: Option<u64>,
    pub(crate) fuzz_seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) plugins: PluginPath,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A plugin's id (`author/name`) or a library's file
    pub(crate) plugin: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print a page in Markdown: what it is, where its method comes from, what it takes
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
    /// Add to the page what this study found, which has to be finished in its usual folder
    #[arg(long = "study", value_name = "FILE", requires = "markdown")]
    pub(crate) studies: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) plugins: PluginPath,
}

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

/// A workload; the flags that a peer has too are named as there.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
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

/// Parity and several workloads in one go.
#[derive(Debug, Args)]
pub(crate) struct SuiteArgs {
    /// Run parity, then this shape with all of it and with less of it training, each in turn with the peer
    #[arg(long, requires_all = ["peer", "out", "reference"], conflicts_with_all = ["json", "rounds", "frozen"])]
    pub(crate) gpu_suite: bool,
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

/// A whole number, or one such as 2.5e20.
fn flops(text: &str) -> Result<Flops, String> {
    if let Ok(whole) = text.parse() {
        return Ok(Flops(whole));
    }
    let number = text.parse::<f64>().ok().filter(|number| *number >= 0.0 && *number < 1e30);
    number.map(|number| Flops(number as u128)).ok_or_else(|| "a number of FLOPs, such as 2.5e20".into())
}

fn temperature(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1e6).contains(number));
    number.ok_or_else(|| "a number from 0".into())
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= 1.0);
    number.ok_or_else(|| "a number above 0, at most 1".into())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number, at least 1".into()),
        Ok(number) => Ok(number),
    }
}
