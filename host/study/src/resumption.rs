//! The proof that stopping costs nothing: a run that is stopped again and again, and gone on with by fresh engines and plugins,
//! ends in the bytes of one that was left alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::Step;
use plugin_host::api::RunEvent;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use trainer::folder::RunFolder;
use trainer::storage::{read_json, read_json_lines};
use trainer::{Alone, Rehearsal, RunConfig, TrainError, checkpoint};

use crate::StudyError;
use crate::lab::Lab;
use crate::planning::prefixes::Sharing;
use crate::running::execute::{Execution, Hand, Scope, run_folder, train_from};

/// What came of stopping a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resumption {
    /// The run.
    pub run: String,
    /// The steps before which it stopped, in order.
    pub stopped_before: Vec<Step>,
    /// The first file that is not what the undisturbed run has; `None` where every byte is.
    pub first_difference: Option<PathBuf>,
}

/// Where a run is to be stopped: at its start, around every change of what trains, right after an evaluation, and before so many
/// steps drawn by the run's name.
pub fn stops(run: &RunConfig, rehearsal: &Rehearsal, random: u32) -> BTreeSet<Step> {
    let end = rehearsal.steps.0;
    let boundaries = rehearsal.phases.iter().flat_map(|phase| {
        let first = phase.first_step.0;
        [first.saturating_sub(1), first, first + 1]
    });
    let drawn = (0..random).map(|number| {
        let hash = Sha256::new_with_prefix(run.name()).chain_update(number.to_le_bytes()).finalize();
        u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
            % end.max(1)
    });
    let evaluated = run.evaluation.every_steps;
    boundaries.chain(drawn).chain([0, evaluated]).filter(|&step| step < end).map(Step).collect()
}

/// Trains a run below `folder` twice: once undisturbed, once stopped before each of these steps.
///
/// # Errors
/// Whatever ends a run otherwise.
pub fn prove(
    lab: &Lab<'_>,
    run: &RunConfig,
    stops: &BTreeSet<Step>,
    folder: &Path,
) -> Result<Resumption, StudyError> {
    let (whole, stopped) = (folder.join("undisturbed"), folder.join("stopped"));
    sit(lab, run, &whole, None)?;
    let mut stopped_before = Vec::new();
    let mut left = stops.clone();
    loop {
        let next = left.pop_first();
        match sit(lab, run, &stopped, next) {
            Ok(()) => break,
            Err(TrainError::Interrupted { step }) => {
                // It may have come further than it was to: what lies behind it is no stop any more.
                left = left.split_off(&step.next());
                stopped_before.push(step);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let [whole, stopped] = [run_folder(&whole, run), run_folder(&stopped, run)];
    let first_difference = first_difference(&whole, &stopped)?;
    Ok(Resumption { run: run.name(), stopped_before, first_difference })
}

/// One sitting of the run, to its end or to that step.
fn sit(lab: &Lab<'_>, run: &RunConfig, folder: &Path, stop: Option<Step>) -> Result<(), TrainError> {
    let interrupt = AtomicBool::new(stop == Some(Step(0)));
    let sharing = Sharing::default();
    let how = Execution {
        folder,
        jobs: 1,
        engines: &[],
        scope: Scope::Study,
        interrupt: &interrupt,
        terminal: false,
        sharing: &sharing,
    };
    let watch = |event: RunEvent| {
        let come_to = match event {
            RunEvent::Step { step, .. } => step + 1,
            RunEvent::Evaluated { step, .. } => step,
            _ => return,
        };
        if stop.is_some_and(|stop| come_to >= stop.0) {
            interrupt.store(true, Ordering::Relaxed);
        }
    };
    let threads = lab.file.study.threads_per_run;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| TrainError::Internal(format!("no threads to run on: {error}")))?;
    pool.install(|| {
        train_from(None, lab, run, &how, Hand { lane: 0, owner: Arc::new(Alone), report: &watch })
    })
    .map(|_| ())
}

fn first_difference(whole: &RunFolder, stopped: &RunFolder) -> Result<Option<PathBuf>, StudyError> {
    let logs = [whole.metrics_file(), whole.suites_file(), whole.decisions_file(), whole.shadows_file()];
    for log in logs {
        let name = log.strip_prefix(whole.path()).unwrap_or(&log).to_path_buf();
        if bytes(&log) != bytes(&stopped.path().join(&name)) {
            return Ok(Some(name));
        }
    }
    let evaluations = |run: &RunFolder| {
        let records: Result<Vec<Value>, _> = read_json_lines(&run.evaluations_file());
        records.map(|records| records.into_iter().map(without_clocks).collect::<Vec<_>>())
    };
    if evaluations(whole)? != evaluations(stopped)? {
        return Ok(Some("evals.jsonl".into()));
    }
    newest_differs(whole, stopped)
}

/// Every file of the newest checkpoints, tensors and states of plugins among them.
fn newest_differs(whole: &RunFolder, stopped: &RunFolder) -> Result<Option<PathBuf>, StudyError> {
    let newest =
        |run: &RunFolder| Ok::<_, TrainError>(checkpoint::list(&run.checkpoints())?.into_iter().next());
    let (Some(one), Some(other)) = (newest(whole)?, newest(stopped)?) else {
        return Ok(Some("checkpoints".into()));
    };
    let names: BTreeSet<PathBuf> = files_below(&one).into_iter().chain(files_below(&other)).collect();
    for name in names {
        let is_same = match name.as_path() == Path::new("state.json") {
            true => {
                let state = |folder: &Path| read_json(&folder.join(&name)).map(without_clocks);
                state(&one)? == state(&other)?
            }
            false => bytes(&one.join(&name)) == bytes(&other.join(&name)),
        };
        if !is_same {
            return Ok(Some(Path::new("checkpoints").join(one.file_name().unwrap_or_default()).join(name)));
        }
    }
    Ok(None)
}

/// A record without what clocks and counters of energy say, and without what hangs on the length of that in words.
fn without_clocks(mut record: Value) -> Value {
    if let Some(fields) = record.as_object_mut() {
        for clock in ["wall_seconds", "joules"] {
            fields.remove(clock);
        }
    }
    for (part, keys) in [("costs", &["wall", "joules"][..]), ("logs", &["evaluations"])] {
        if let Some(fields) = record.get_mut(part).and_then(Value::as_object_mut) {
            keys.iter().for_each(|key| drop(fields.remove(*key)));
        }
    }
    record
}

fn bytes(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

/// Names of all files, from the folder on.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let below = entries.flatten().flat_map(|entry| {
        let name = PathBuf::from(entry.file_name());
        match entry.path().is_dir() {
            true => files_below(&entry.path()).into_iter().map(|file| name.join(file)).collect(),
            false => vec![name],
        }
    });
    below.collect()
}
