//! An engine in turn with a peer: each a process of its own, with the same workload's flags.

use std::path::Path;
use std::process::{Command, ExitCode};

use engine::Precision;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use study::speed::{Schedule, Speed, Workload};
use trainer::ErrorClass;

use super::{internal, print_kernels};
use crate::Outcome;
use crate::args::BenchArgs;
use crate::device::Place;
use crate::failure::Failed;
use crate::output::result_line;

/// What a peer prints, as far as both measure it.
#[derive(Serialize, Deserialize)]
struct Measured {
    tokens_per_second: f64,
    peak_memory_gib: Option<f64>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct Round {
    sapwood: Speed,
    peer: Measured,
    ratio: f64,
}

/// Each round runs both, one after the other, so that a machine whose speed drifts slows both, and memory is
/// that of one alone.
pub(super) fn against(args: &BenchArgs, script: &Path) -> Outcome {
    if args.stages.is_some() {
        return schedules_against(args, script);
    }
    if !args.json {
        let heads = ["round", "sapwood tokens/s", "of sgemm", "peer tokens/s", "ratio"];
        result_line!("{:<6} {:>17} {:>9} {:>14} {:>7}", heads[0], heads[1], heads[2], heads[3], heads[4]);
    }
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        let round = round(args, script)?;
        if !args.json {
            print(number, &round);
        }
        rounds.push(round);
    }
    let ratio = median(rounds.iter().map(|round| round.ratio).collect());
    if args.json {
        let all = serde_json::json!({ "median_ratio": ratio, "rounds": rounds });
        result_line!("{all}");
        return Ok(ExitCode::SUCCESS);
    }
    result_line!("median ratio {ratio:.2}");
    let Some(last) = rounds.last() else { return Ok(ExitCode::SUCCESS) };
    if let (Some(ours), Some(theirs)) = (last.sapwood.peak_memory_gib, last.peer.peak_memory_gib) {
        result_line!("peak memory, GiB: sapwood {ours:.3}, peer {theirs:.3}, ratio {:.2}", ours / theirs);
    }
    print_kernels(&last.sapwood);
    Ok(ExitCode::SUCCESS)
}

fn round(args: &BenchArgs, script: &Path) -> Result<Round, Failed> {
    let task = Task::of(args);
    let sapwood: Speed = measured(task.ours(args)?)?;
    let peer: Measured = measured(task.theirs(args, script))?;
    let ratio = sapwood.tokens_per_second / peer.tokens_per_second;
    Ok(Round { sapwood, peer, ratio })
}

/// Whole schedules, each round one after the other; the ratio is that of the time that they take.
fn schedules_against(args: &BenchArgs, script: &Path) -> Outcome {
    let task = Task::of(args);
    let (mut rounds, mut ratios) = (Vec::new(), Vec::new());
    for number in 1..=args.rounds {
        let (ours, theirs): (Value, Value) =
            (measured(task.ours(args)?)?, measured(task.theirs(args, script))?);
        let no_rate = || internal("a side has printed neither `tokens` nor `seconds`");
        let ratio = rate(&ours).zip(rate(&theirs)).map(|(ours, theirs)| ours / theirs).ok_or_else(no_rate)?;
        if !args.json {
            let seconds = |told: &Value| told.get("seconds").and_then(Value::as_f64).unwrap_or(f64::NAN);
            let (ours, theirs) = (seconds(&ours), seconds(&theirs));
            result_line!("round {number}: sapwood {ours:.2} s, peer {theirs:.2} s, {ratio:.2} times as fast");
        }
        ratios.push(ratio);
        rounds.push(serde_json::json!({ "sapwood": ours, "peer": theirs, "ratio": ratio }));
    }
    let ratio = median(ratios);
    match args.json {
        true => result_line!("{}", serde_json::json!({ "median_ratio": ratio, "rounds": rounds })),
        false => result_line!("median ratio {ratio:.2}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(number: usize, Round { sapwood, peer, ratio }: &Round) {
    let share = sapwood.share_of_sgemm().map_or("-".into(), |share| format!("{:.0} %", 100.0 * share));
    result_line!(
        "{number:<6} {:>17.0} {share:>9} {:>14.0} {ratio:>7.2}",
        sapwood.tokens_per_second,
        peer.tokens_per_second
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The last line of JSON that a command prints.
fn measured<T: DeserializeOwned>(mut command: Command) -> Result<T, Failed> {
    let failed = |what: String| Failed::new(ErrorClass::Resource, what, "run it by itself to see why");
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| failed(format!("cannot run {shown}: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(failed(format!("{shown} ended with {}: {}", output.status, said.trim())));
    }
    last_result(&String::from_utf8_lossy(&output.stdout)).map_err(|error| failed(format!("{shown} {error}")))
}

/// The last line of JSON in what was printed.
pub(super) fn last_result<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let line = text.lines().rev().find(|line| line.starts_with('{')).unwrap_or_default();
    serde_json::from_str(line).map_err(|error| format!("printed no result: {error}"))
}

/// What is run, where, and in which numbers.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) precision: Precision,
    pub(super) work: Work,
}

#[derive(Clone)]
pub(super) enum Work {
    /// The same step over and over.
    Steps(Workload),
    /// A whole schedule on a model of that shape.
    Schedule(Workload, Schedule),
}

impl Task {
    /// What the arguments ask for.
    pub(super) fn of(args: &BenchArgs) -> Task {
        let workload = args.workload();
        let work = match args.schedule() {
            Some(schedule) => Work::Schedule(workload, schedule),
            None => Work::Steps(workload),
        };
        Task { precision: args.precision.into(), work }
    }

    /// It by this program.
    pub(super) fn ours(&self, args: &BenchArgs) -> Result<Command, Failed> {
        let mut command = Command::new(std::env::current_exe().map_err(internal)?);
        command.arg("bench").args(engine_flags(args, self.precision)).args(self.flags(args)).arg("--json");
        Ok(command)
    }

    /// It by a peer's script.
    pub(super) fn theirs(&self, args: &BenchArgs, script: &Path) -> Command {
        let mut command = Command::new(&args.python);
        command.arg(script).args(["--device", &device(args)]);
        // Nothing of the precision where there is but one, which not every peer has a word for.
        let is_gpu = matches!(args.engine.device.resolve(), (Place::Cuda(_), _));
        if is_gpu || !self.precision.is_fp32() {
            command.args(["--precision", &self.precision.to_string()]);
        }
        command.args(self.flags(args)).args(&args.peer_args);
        command
    }

    /// The flags that both understand.
    fn flags(&self, args: &BenchArgs) -> Vec<String> {
        let (Work::Steps(workload) | Work::Schedule(workload, _)) = &self.work;
        let mut numbers = vec![
            ("--layers", workload.layers),
            ("--dmodel", workload.dmodel),
            ("--heads", workload.heads),
            ("--vocab", workload.vocab),
            ("--seq", workload.seq),
            ("--batch", workload.batch),
            ("--threads", args.threads()),
        ];
        match &self.work {
            Work::Steps(_) => numbers.extend([("--frozen", workload.frozen), ("--steps", workload.steps)]),
            Work::Schedule(_, Schedule { stages, steps, continual }) => {
                numbers.extend([("--stages", *stages), ("--steps", *steps), ("--continual", *continual)]);
            }
        }
        let mut flags: Vec<String> =
            numbers.into_iter().flat_map(|(flag, n)| [flag.into(), n.to_string()]).collect();
        if matches!(self.work, Work::Steps(_)) && workload.freeze_embeddings {
            flags.push("--freeze-embeddings".into());
        }
        flags
    }
}

/// Tokens per second of what a side has printed, of a step or of a schedule.
pub(super) fn rate(told: &Value) -> Option<f64> {
    let number = |key: &str| told.get(key)?.as_f64();
    number("tokens_per_second").or_else(|| Some(number("tokens")? / number("seconds")?))
}

pub(super) fn engine_flags(args: &BenchArgs, precision: Precision) -> [String; 6] {
    let engine = args.engine.engine.as_flag();
    ["--engine", engine, "--device", &device(args), "--precision", &precision.to_string()]
        .map(ToOwned::to_owned)
}

/// As both understand it: PyTorch calls the first GPU by no number.
pub(super) fn device(args: &BenchArgs) -> String {
    match args.engine.device.resolve() {
        (Place::Cuda(0), _) => "cuda".into(),
        (place, _) => place.to_string(),
    }
}
