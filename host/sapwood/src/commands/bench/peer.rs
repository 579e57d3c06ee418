//! An engine in turn with a peer: each a process of its own, with the same workload's flags.

use std::path::Path;
use std::process::{Command, ExitCode};

use engine::Precision;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use study::speed::{Speed, Workload};
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
    let myself = std::env::current_exe().map_err(internal)?;
    let mut command = Command::new(myself);
    let flags = shape_flags(&args.workload(), args.threads());
    command.arg("bench").args(engine_flags(args)).args(&flags).arg("--json");
    let sapwood: Speed = measured(command)?;
    let mut command = Command::new(&args.python);
    command.arg(script).args(peer_flags(args)).args(&flags).args(&args.peer_args);
    let peer: Measured = measured(command)?;
    let ratio = sapwood.tokens_per_second / peer.tokens_per_second;
    Ok(Round { sapwood, peer, ratio })
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

pub(super) fn engine_flags(args: &BenchArgs) -> [String; 6] {
    let (engine, precision) = (args.engine.engine.as_flag(), Precision::from(args.precision).to_string());
    ["--engine", engine, "--device", &device(args), "--precision", &precision].map(ToOwned::to_owned)
}

/// What a peer is told beside the shape; nothing of the precision where it is the usual one, which not every peer has a word for.
pub(super) fn peer_flags(args: &BenchArgs) -> Vec<String> {
    let mut flags = vec!["--device".to_owned(), device(args)];
    let precision = Precision::from(args.precision);
    if !precision.is_fp32() {
        flags.extend(["--precision".to_owned(), precision.to_string()]);
    }
    flags
}

/// As both understand it: PyTorch calls the first GPU by no number.
pub(super) fn device(args: &BenchArgs) -> String {
    match args.engine.device.resolve() {
        (Place::Cuda(0), _) => "cuda".into(),
        (place, _) => place.to_string(),
    }
}

/// The flags that both understand.
pub(super) fn shape_flags(workload: &Workload, threads: usize) -> Vec<String> {
    let numbers = [
        ("--layers", workload.layers),
        ("--dmodel", workload.dmodel),
        ("--heads", workload.heads),
        ("--vocab", workload.vocab),
        ("--seq", workload.seq),
        ("--batch", workload.batch),
        ("--frozen", workload.frozen),
        ("--steps", workload.steps),
        ("--threads", threads),
    ];
    let mut flags: Vec<String> =
        numbers.into_iter().flat_map(|(flag, n)| [flag.into(), n.to_string()]).collect();
    if workload.freeze_embeddings {
        flags.push("--freeze-embeddings".into());
    }
    flags
}
