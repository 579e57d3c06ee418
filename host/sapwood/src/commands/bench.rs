//! `sapwood bench`: how fast an engine trains, alone or in turn with a peer.

use std::path::Path;
use std::process::{Command, ExitCode};

use study::speed::{Speed, Workload, measure};
use trainer::ErrorClass;

use crate::args::{BenchArgs, DeviceName, EngineName};
use crate::failure::Failed;
use crate::output::result_line;
use crate::{Outcome, engines};

pub(crate) fn bench(args: &BenchArgs) -> Outcome {
    match &args.peer {
        None => alone(args),
        Some(script) => against(args, script),
    }
}

fn alone(args: &BenchArgs) -> Outcome {
    let threads = args.threads();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Failed::new(ErrorClass::Resource, error, "lower --threads"))?;
    let build = engines::builder(args.engine);
    let speed = pool.install(|| measure(&args.workload(), build))?;
    if args.json {
        result_line!("{}", serde_json::to_string(&speed).map_err(internal)?);
    } else {
        print(&speed, threads);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(speed: &Speed, threads: usize) {
    result_line!("{} on {}, {threads} threads", speed.engine, speed.device);
    result_line!(
        "  tokens per second     {:>12.0}  (worst step {:.0})",
        speed.tokens_per_second,
        speed.tokens_per_second_worst
    );
    result_line!("  GFLOP/s               {:>12.1}", speed.gflops_per_second);
    result_line!("  seconds to first step {:>12.2}", speed.seconds_to_first_step);
    match speed.peak_memory_gib {
        Some(gib) => result_line!("  peak memory, GiB      {gib:>12.3}"),
        None => result_line!("  peak memory           not measured"),
    }
}

/// What a peer prints, as far as both measure it.
#[derive(serde::Deserialize)]
struct Measured {
    tokens_per_second: f64,
    peak_memory_gib: Option<f64>,
}

/// Each round runs both, one after the other, each in a process of its own, so that a machine whose speed
/// drifts slows both, and memory is that of one alone.
fn against(args: &BenchArgs, script: &Path) -> Outcome {
    let myself = std::env::current_exe().map_err(internal)?;
    let (mut ratios, mut ours_memory, mut theirs_memory) = (Vec::new(), None, None);
    result_line!("{:<7} {:>16} {:>16} {:>8}", "round", "sapwood tokens/s", "peer tokens/s", "ratio");
    for round in 1..=args.rounds {
        let mut command = Command::new(&myself);
        command.arg("bench").args(engine_flags(args)).args(shape_flags(args)).arg("--json");
        let ours = measured(command)?;
        let mut command = Command::new(&args.python);
        command.arg(script).args(["--device", device(args)]).args(shape_flags(args)).args(&args.peer_args);
        let theirs = measured(command)?;
        let ratio = ours.tokens_per_second / theirs.tokens_per_second;
        result_line!(
            "{round:<7} {:>16.0} {:>16.0} {ratio:>8.2}",
            ours.tokens_per_second,
            theirs.tokens_per_second
        );
        ratios.push(ratio);
        (ours_memory, theirs_memory) = (ours.peak_memory_gib, theirs.peak_memory_gib);
    }
    ratios.sort_by(f64::total_cmp);
    result_line!("median ratio {:.2}", ratios[ratios.len() / 2]);
    if let (Some(ours), Some(theirs)) = (ours_memory, theirs_memory) {
        result_line!("peak memory, GiB: sapwood {ours:.3}, peer {theirs:.3}, ratio {:.2}", ours / theirs);
    }
    Ok(ExitCode::SUCCESS)
}

fn measured(mut command: Command) -> Result<Measured, Failed> {
    let failed = |what: String| Failed::new(ErrorClass::Resource, what, "run it by itself to see why");
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| failed(format!("cannot run {shown}: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(failed(format!("{shown} ended with {}: {}", output.status, said.trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|line| line.starts_with('{')).unwrap_or_default();
    serde_json::from_str(line).map_err(|error| failed(format!("{shown} printed no result: {error}")))
}

fn engine_flags(args: &BenchArgs) -> [&'static str; 4] {
    let engine = match args.engine.engine {
        EngineName::Native => "native",
        EngineName::Reference => "reference",
        EngineName::Burn => "burn",
    };
    ["--engine", engine, "--device", device(args)]
}

fn device(args: &BenchArgs) -> &'static str {
    match args.engine.device {
        DeviceName::Cpu => "cpu",
        DeviceName::Cuda => "cuda",
    }
}

/// The flags that both understand.
fn shape_flags(args: &BenchArgs) -> Vec<String> {
    let numbers = [
        ("--layers", args.layers),
        ("--dmodel", args.dmodel),
        ("--heads", args.heads),
        ("--vocab", args.vocab),
        ("--seq", args.seq),
        ("--batch", args.batch),
        ("--frozen", args.frozen),
        ("--steps", args.steps),
        ("--threads", args.threads()),
    ];
    let mut flags: Vec<String> =
        numbers.into_iter().flat_map(|(flag, n)| [flag.into(), n.to_string()]).collect();
    if args.freeze_embeddings {
        flags.push("--freeze-embeddings".into());
    }
    flags
}

fn internal(error: impl std::fmt::Display) -> Failed {
    Failed::new(ErrorClass::Internal, error, "please report this")
}

impl BenchArgs {
    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn workload(&self) -> Workload {
        Workload {
            layers: self.layers,
            dmodel: self.dmodel,
            heads: self.heads,
            vocab: self.vocab,
            seq: self.seq,
            batch: self.batch,
            frozen: self.frozen,
            freeze_embeddings: self.freeze_embeddings,
            steps: self.steps,
        }
    }
}
