//! What a GPU machine is asked, in one go: parity, then a shape with all of it and with less of it training, each in
//! turn with the peer. Every part is a process of its own that ends when its time is up; what came of all of them goes
//! into one file. Not here: any measurement.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use study::speed::Workload;
use trainer::ErrorClass;
use trainer::storage::write_whole;

use super::internal;
use super::peer::{device, engine_flags, last_result, peer_flags, shape_flags};
use crate::Outcome;
use crate::args::{BenchArgs, SuiteArgs};
use crate::failure::{Failed, OUT_OF_TOLERANCE, code_of};
use crate::output::{note_line, result_line};

/// How often a process is asked whether it has ended.
const PATIENCE: Duration = Duration::from_millis(20);

#[derive(Serialize)]
struct Suite {
    sapwood: &'static str,
    device: String,
    parity: Parity,
    rows: BTreeMap<&'static str, Row>,
    /// Tokens per second, sapwood over peer; of the rows that both have finished.
    ratios: BTreeMap<&'static str, f64>,
    seconds: f64,
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
    let parity = parity(args, reference, deadline)?;
    note_line!("parity: {}", parity.said);
    let mut rows = BTreeMap::new();
    for (name, workload) in workloads(args) {
        let row = row(args, &workload, peer, deadline)?;
        note_line!("{name}: {}", row.in_words());
        rows.insert(name, row);
    }
    let ratios: BTreeMap<_, _> = rows.iter().filter_map(|(name, row)| Some((*name, row.ratio()?))).collect();
    let code = match (parity.is_within, ratios.len() == rows.len()) {
        (false, _) => ExitCode::from(OUT_OF_TOLERANCE),
        (true, false) => ExitCode::from(code_of(ErrorClass::Resource)),
        (true, true) => ExitCode::SUCCESS,
    };
    let sapwood = env!("CARGO_PKG_VERSION");
    let seconds = begun.elapsed().as_secs_f64();
    let all = Suite { sapwood, device: device(args), parity, rows, ratios, seconds };
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

/// The shape with everything training, with a quarter of its blocks, and with those and no embeddings.
fn workloads(args: &BenchArgs) -> [(&'static str, Workload); 3] {
    let all = Workload { frozen: 0, freeze_embeddings: false, ..args.workload() };
    let frozen = Workload { frozen: all.layers * 3 / 4, ..all.clone() };
    let alone = Workload { freeze_embeddings: true, ..frozen.clone() };
    [("all", all), ("three-quarters-frozen", frozen), ("embeddings-frozen-too", alone)]
}

fn parity(args: &BenchArgs, reference: &Path, deadline: Instant) -> Result<Parity, Failed> {
    let begun = Instant::now();
    let mut command = myself()?;
    command.arg("parity").args(engine_flags(args)).arg("--reference").arg(reference);
    let printed = within(command, deadline);
    let is_within = printed.is_ok();
    let last = |text: String| text.trim_end().lines().next_back().unwrap_or_default().to_owned();
    let said = printed.map_or_else(|why| why, last);
    Ok(Parity { is_within, seconds: begun.elapsed().as_secs_f64(), said })
}

fn row(args: &BenchArgs, workload: &Workload, peer: &Path, deadline: Instant) -> Result<Row, Failed> {
    let flags = shape_flags(workload, args.threads());
    let mut command = myself()?;
    command.arg("bench").args(engine_flags(args)).args(&flags).arg("--json");
    let sapwood = result(command, deadline);
    let mut command = Command::new(&args.python);
    command.arg(peer).args(peer_flags(args)).args(&flags).args(&args.peer_args);
    Ok(Row { sapwood, peer: result(command, deadline) })
}

fn result(command: Command, deadline: Instant) -> Value {
    let printed = within(command, deadline).and_then(|text| last_result(&text));
    printed.unwrap_or_else(|why| serde_json::json!({ "failed": why }))
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let rate = |side: &Value| side.get("tokens_per_second")?.as_f64();
        Some(rate(&self.sapwood)? / rate(&self.peer)?)
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

fn myself() -> Result<Command, Failed> {
    std::env::current_exe().map(Command::new).map_err(internal)
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
