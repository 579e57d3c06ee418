//! What a GPU machine is asked, in one go: parity, the way to the first step, then row by row a shape in turn with the peer, with
//! all of it and with less of it training, or a whole schedule. Every part is a process of its own that ends when its time is up;
//! what came of all of them goes into one file. Not here: any measurement.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use engine::Precision;
use serde::Serialize;
use serde_json::Value;
use study::speed::{Schedule, Workload};
use trainer::ErrorClass;
use trainer::storage::write_whole;

use super::internal;
use super::peer::{Task, Work, device, engine_flags, last_result, rate};
use crate::Outcome;
use crate::args::{BenchArgs, RowName, SuiteArgs};
use crate::device::Place;
use crate::failure::{Failed, OUT_OF_TOLERANCE, code_of};
use crate::output::{note_line, result_line};

/// How often a process is asked whether it has ended.
const PATIENCE: Duration = Duration::from_millis(20);
/// Of a schedule.
const STAGES: usize = 4;

#[derive(Serialize)]
struct Suite {
    sapwood: &'static str,
    device: String,
    /// By precision: in f32, and in the suite's own.
    parity: BTreeMap<String, Parity>,
    first_step: Option<FirstStep>,
    rows: BTreeMap<String, Row>,
    /// Tokens per second, sapwood over peer; of the rows that both have finished.
    ratios: BTreeMap<String, f64>,
    /// Of the ratios of steps in the suite's precision.
    geometric_mean: Option<f64>,
    /// Peak memory, sapwood over peer.
    memory_ratios: BTreeMap<String, f64>,
    seconds: f64,
}

/// From the beginning of a process to the end of its first step.
#[derive(Serialize)]
struct FirstStep {
    /// With kernels that were never compiled before.
    cold: Value,
    /// With those that were.
    warm: Value,
}

#[derive(Serialize)]
struct Parity {
    is_within: bool,
    seconds: f64,
    /// The last line of what it printed, or why there is none.
    said: String,
}

/// What each has printed, or below `failed` why it has not.
#[derive(Serialize)]
struct Row {
    sapwood: Value,
    peer: Value,
}

/// Runs everything, and writes the file whatever came of it.
pub(super) fn run(args: &BenchArgs, peer: &Path, suite: &SuiteArgs) -> Outcome {
    let (Some(out), Some(reference)) = (&suite.out, &suite.reference) else {
        return Err(internal("the suite was called without --out or --reference"));
    };
    let out = place_of(out)?;
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(suite.seconds);
    let mut parities = BTreeMap::new();
    for precision in [Precision::Fp32, args.precision.into()] {
        let parity = parity(args, precision, reference, deadline)?;
        note_line!("parity in {precision}: {}", parity.said);
        parities.insert(precision.to_string(), parity);
    }
    let is_gpu = matches!(args.engine.device.resolve(), (Place::Cuda(_), _));
    let first_step = is_gpu.then(|| first_step(args, deadline)).transpose()?;
    let mut rows = BTreeMap::new();
    for name in &suite.rows {
        let task = task(args, *name);
        let script = match &task.work {
            Work::Steps(_) => Some(peer),
            Work::Schedule(..) => suite.schedule_peer.as_deref(),
        };
        let row = row(args, &task, script, deadline)?;
        let name = name.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        note_line!("{name}: {}", row.in_words());
        rows.insert(name, (task, row));
    }
    let of = |ratio: fn(&Row) -> Option<f64>| -> BTreeMap<String, f64> {
        rows.iter().filter_map(|(name, (_, row))| Some((name.clone(), ratio(row)?))).collect()
    };
    let ratios = of(Row::ratio);
    let is_within = parities.values().all(|parity| parity.is_within);
    let code = match (is_within, ratios.len() == rows.len()) {
        (false, _) => ExitCode::from(OUT_OF_TOLERANCE),
        (true, false) => ExitCode::from(code_of(ErrorClass::Resource)),
        (true, true) => ExitCode::SUCCESS,
    };
    let usual = |name: &str| {
        let (task, _) = &rows[name];
        task.precision == args.precision.into() && matches!(task.work, Work::Steps(_))
    };
    let of_steps = ratios.iter().filter(|(name, _)| usual(name)).map(|(_, ratio)| ratio.ln());
    let logarithms: Vec<f64> = of_steps.collect();
    let mean = logarithms.iter().sum::<f64>() / logarithms.len() as f64;
    let all = Suite {
        sapwood: env!("CARGO_PKG_VERSION"),
        device: device(args),
        parity: parities,
        first_step,
        geometric_mean: (!logarithms.is_empty()).then(|| mean.exp()),
        memory_ratios: of(Row::memory_ratio),
        ratios,
        rows: rows.into_iter().map(|(name, (_, row))| (name, row)).collect(),
        seconds: begun.elapsed().as_secs_f64(),
    };
    write_whole(&out, &serde_json::to_vec_pretty(&all).map_err(internal)?)?;
    result_line!("{}", serde_json::to_string(&all.ratios).map_err(internal)?);
    Ok(code)
}

/// Where the file will be: better refused now than after minutes.
fn place_of(out: &Path) -> Result<PathBuf, Failed> {
    let refused = |why: String| {
        Failed::new(
            ErrorClass::Resource,
            format!("cannot write {}: {why}", out.display()),
            "choose another --out",
        )
    };
    let place = std::path::absolute(out).map_err(|error| refused(error.to_string()))?;
    match place.parent() {
        Some(folder) if folder.is_dir() => Ok(place),
        _ => Err(refused("there is no such folder".into())),
    }
}

/// What a row asks of both sides.
fn task(args: &BenchArgs, row: RowName) -> Task {
    let all = Workload { frozen: 0, freeze_embeddings: false, ..args.workload() };
    let frozen = Workload { frozen: all.layers * 3 / 4, ..all.clone() };
    let schedule = |steps| Work::Schedule(all.clone(), Schedule { stages: STAGES, steps, continual: 0 });
    let usual = Precision::from(args.precision);
    let (precision, work) = match row {
        RowName::All => (usual, Work::Steps(all)),
        RowName::ThreeQuartersFrozen => (usual, Work::Steps(frozen)),
        RowName::EmbeddingsFrozenToo => (usual, Work::Steps(Workload { freeze_embeddings: true, ..frozen })),
        RowName::TwiceTheBatch => (usual, Work::Steps(Workload { batch: 2 * all.batch, ..all })),
        RowName::FourTimesTheBatch => (usual, Work::Steps(Workload { batch: 4 * all.batch, ..all })),
        RowName::AQuarter => (usual, Work::Steps(Workload { layers: (all.layers / 4).max(1), ..all })),
        RowName::Fp32 => (Precision::Fp32, Work::Steps(all)),
        RowName::Tf32 => (Precision::Tf32, Work::Steps(all)),
        RowName::Schedule40 => (usual, schedule(40)),
        RowName::Schedule400 => (usual, schedule(400)),
    };
    Task { precision, work }
}

fn parity(
    args: &BenchArgs,
    precision: Precision,
    reference: &Path,
    deadline: Instant,
) -> Result<Parity, Failed> {
    let begun = Instant::now();
    let mut command = Command::new(std::env::current_exe().map_err(internal)?);
    command.arg("parity").args(engine_flags(args, precision)).arg("--reference").arg(reference);
    let printed = within(command, deadline);
    let is_within = printed.is_ok();
    let last = |text: String| text.trim_end().lines().next_back().unwrap_or_default().to_owned();
    let said = printed.map_or_else(|why| why, last);
    Ok(Parity { is_within, seconds: begun.elapsed().as_secs_f64(), said })
}

/// Twice a single step, with a cache of kernels that is new.
fn first_step(args: &BenchArgs, deadline: Instant) -> Result<FirstStep, Failed> {
    let cache = tempfile::tempdir().map_err(internal)?;
    let one = Workload { steps: 1, ..args.workload() };
    let task = Task { precision: args.precision.into(), work: Work::Steps(one) };
    let run = || -> Result<Value, Failed> {
        let mut command = task.ours(args)?;
        command.env("XDG_CACHE_HOME", cache.path());
        let told = result(command, deadline);
        Ok(told.get("seconds_to_first_step").cloned().unwrap_or(told))
    };
    Ok(FirstStep { cold: run()?, warm: run()? })
}

fn row(args: &BenchArgs, task: &Task, peer: Option<&Path>, deadline: Instant) -> Result<Row, Failed> {
    let sapwood = result(task.ours(args)?, deadline);
    let none = || serde_json::json!({ "failed": "a schedule's peer was not named by --schedule-peer" });
    Ok(Row { sapwood, peer: peer.map_or_else(none, |script| result(task.theirs(args, script), deadline)) })
}

fn result(command: Command, deadline: Instant) -> Value {
    let printed = within(command, deadline).and_then(|text| last_result(&text));
    printed.unwrap_or_else(|why| serde_json::json!({ "failed": why }))
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        Some(rate(&self.sapwood)? / rate(&self.peer)?)
    }

    fn memory_ratio(&self) -> Option<f64> {
        let peak = |side: &Value| side.get("peak_memory_gib")?.as_f64();
        Some(peak(&self.sapwood)? / peak(&self.peer)?)
    }

    fn in_words(&self) -> String {
        let failures = [("sapwood", &self.sapwood), ("peer", &self.peer)];
        let said = failures
            .iter()
            .filter_map(|(who, side)| Some(format!("{who}: {}", side.get("failed")?.as_str()?)));
        self.ratio().map_or_else(
            || said.collect::<Vec<_>>().join("; "),
            |ratio| format!("{ratio:.2} of the peer's tokens per second"),
        )
    }
}

/// What a command prints when it ends well before the deadline; else what was wrong with it. Output goes through
/// files: a full pipe would hold up whoever prints into it.
fn within(mut command: Command, deadline: Instant) -> Result<String, String> {
    let shown = command.get_program().to_string_lossy().into_owned();
    if Instant::now() >= deadline {
        return Err("not run: the time was up".into());
    }
    let said = |error: std::io::Error| format!("{shown} cannot be run: {error}");
    let (mut out, mut err) = (tempfile::tempfile().map_err(said)?, tempfile::tempfile().map_err(said)?);
    command.stdout(out.try_clone().map_err(said)?).stderr(err.try_clone().map_err(said)?);
    let mut child = command.spawn().map_err(said)?;
    let status = loop {
        match child.try_wait().map_err(said)? {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(PATIENCE),
            None => {
                // It may have ended by itself in this moment.
                let _ = child.kill();
                child.wait().map_err(said)?;
                return Err(format!("{shown} was ended: the time was up"));
            }
        }
    };
    if status.success() {
        return text_of(&mut out).map_err(said);
    }
    let complaint = text_of(&mut err).map_err(said)?;
    Err(format!("{shown} ended with {status}: {}", complaint.trim()))
}

fn text_of(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
