//! Checkpoints: everything that a run needs to go on as if nothing had happened, in one folder.
//!
//! ```text
//! checkpoints/STEP[-NAME]/weights.safetensors   Hugging Face names, by position
//!                         moments.safetensors   the same names, `.first_moment` and `.second_moment`
//!                         plugins/*.bin         what `save` gave
//!                         state.json            all else, and the hashes of the files above; written last
//! ```
//!
//! The folder is written under a temporary name and renamed, so that it is there whole or not at all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use engine::{
    Engine, EngineError, Entry, Execution, LayerId, LayerIndex, ModelShape, Moments, Part, Snapshot, Step,
    TensorId, TensorState, Trainable, Widths,
};
use plugin_host::api::{Batch, Evaluation, LossPoint, Measured, RateFactor, Saved};
use plugin_host::bounded;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::audit::{PhaseStart, hexadecimal};
use crate::costs::Costs;
use crate::course::{Course, PlacedBlock};
use crate::folder::{
    LARGEST_LOG_BYTES, create_folder, read_json, storage, sync_folder_of, write_json, write_whole,
};
use crate::run::SharedPrefix;
use crate::schedule::RunningSchedule;
use crate::tensor_file::{Pending, hash_of_file, read_tensors, write_tensors};
use crate::trail::Trail;

/// Version of the format.
const FORMAT_VERSION: u32 = 3;
const WEIGHTS_FILE: &str = "weights.safetensors";
const MOMENTS_FILE: &str = "moments.safetensors";
/// What a checkpoint's name ends in while it is written.
const TEMPORARY: &str = ".tmp";

/// Where a run stands, tensors aside.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState {
    /// The coming step.
    pub step: Step,
    /// Whether the strategy has been asked about the coming step already.
    pub decided: bool,
    /// Why the strategy has ended the run, if it has.
    pub stopped: Option<String>,
    /// What has been decided.
    pub course: Course,
    /// What it has cost.
    pub costs: Costs,
    /// The running phase's start, for its audit.
    pub phase_start: Option<PhaseStart>,
    /// Recent training losses, oldest first.
    pub losses: Vec<LossPoint>,
    /// Recent evaluations, oldest first.
    pub evaluations: Vec<Evaluation>,
    /// The step before which each suite was put to the model last.
    pub suites_asked: BTreeMap<String, Step>,
    /// What is still to be told to the strategy.
    pub untold: Untold,
    /// Chained hash of the batches so far.
    pub batches_sha256: String,
    /// Chained hash of all that the tensors have come from.
    pub(crate) trail: Trail,
    /// Steps whose update was not made, since their loss or gradient was not finite.
    pub skipped: Vec<Step>,
    /// What it took over from another run.
    pub shared: Option<SharedPrefix>,
    /// Lengths of the logs.
    pub logs: LogLengths,
    /// What the plugins saved, by file name.
    pub plugins: BTreeMap<String, Saved>,
}

/// What has happened, and is still to be told to the strategy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Untold {
    /// Whether the newest evaluation is.
    pub evaluation: bool,
    /// What was measured, oldest first.
    pub measured: Vec<Measured>,
}

/// Lengths of a run's logs, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLengths {
    /// Of `metrics.jsonl`.
    pub metrics: u64,
    /// Of `evals.jsonl`.
    pub evaluations: u64,
    /// Of `suites.jsonl`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suites: u64,
    /// Of `decisions.jsonl`.
    pub decisions: u64,
    /// Of `shadows.jsonl`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shadows: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    format_version: u32,
    step: Step,
    decided: bool,
    stopped: Option<String>,
    /// By position, from the embeddings up.
    blocks: Vec<SavedBlock>,
    next_layer: LayerId,
    trainable: Vec<SavedTensor>,
    /// `None` = the whole stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    execution: Option<Vec<Entry>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    gates: BTreeMap<LayerId, [f32; 2]>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rates: Vec<RateFactor>,
    batch: Batch,
    widths: Widths,
    phase: String,
    schedule: RunningSchedule,
    costs: Costs,
    phase_start: Option<PhaseStart>,
    losses: Vec<(u64, f64)>,
    evaluations: Vec<(u64, u64, f64)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    suites_asked: BTreeMap<String, Step>,
    evaluation_untold: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    measured_untold: Vec<Measured>,
    batches_sha256: String,
    #[serde(default)]
    trail: Trail,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<Step>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared: Option<SharedPrefix>,
    logs: LogLengths,
    /// AdamW step counters, in the order of the model's tensors.
    updates: Vec<u64>,
    plugin_state_versions: BTreeMap<String, u32>,
    sha256: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct SavedBlock {
    layer: LayerId,
    born_at: Step,
}

#[derive(Serialize, Deserialize)]
struct SavedTensor {
    layer: Option<LayerId>,
    class: String,
}

/// What the tensors of a checkpoint are read from.
#[derive(Clone, Copy)]
pub enum Tensors<'a> {
    /// The engine, one tensor after the other: no second model is held in memory.
    Engine(&'a dyn Engine),
    /// A copy of what it held.
    Copied(&'a Snapshot),
}

/// What is read of a tensor.
#[derive(Clone, Copy)]
enum Values {
    Weights,
    FirstMoment,
    SecondMoment,
}

impl Tensors<'_> {
    fn layers(&self) -> Vec<LayerId> {
        match self {
            Tensors::Engine(engine) => engine.layers(),
            Tensors::Copied(copy) => copy.layers.clone(),
        }
    }

    fn read(&self, tensor: TensorId, values: Values) -> Result<Vec<f32>, EngineError> {
        match (self, values) {
            (Tensors::Engine(engine), Values::Weights) => engine.read(tensor, Part::Weights),
            (Tensors::Engine(engine), Values::FirstMoment) => Ok(engine.moments(tensor)?.first),
            (Tensors::Engine(engine), Values::SecondMoment) => Ok(engine.moments(tensor)?.second),
            (Tensors::Copied(copy), Values::Weights) => Ok(of(copy, tensor)?.weights.clone()),
            (Tensors::Copied(copy), Values::FirstMoment) => Ok(of(copy, tensor)?.moments.first.clone()),
            (Tensors::Copied(copy), Values::SecondMoment) => Ok(of(copy, tensor)?.moments.second.clone()),
        }
    }

    fn updates(&self, tensor: TensorId) -> Result<u64, EngineError> {
        match self {
            Tensors::Engine(engine) => Ok(engine.moments(tensor)?.updates),
            Tensors::Copied(copy) => Ok(of(copy, tensor)?.moments.updates),
        }
    }
}

fn of(copy: &Snapshot, tensor: TensorId) -> Result<&TensorState, EngineError> {
    let held = copy.tensors.iter().find(|(id, _)| *id == tensor).map(|(_, state)| state);
    held.ok_or_else(|| EngineError::NoSuchTensor(format!("the copy has no {tensor}")))
}

/// Writes a checkpoint; answers its folder. `may_count` is asked when all is written, before it gets its name.
///
/// # Errors
/// What the system, the engine or `may_count` says; nothing half-written stays under the checkpoint's name.
pub fn save(
    checkpoints: &Path,
    name: &str,
    shape: &ModelShape,
    state: &RunState,
    tensors: Tensors<'_>,
    may_count: impl FnOnce() -> Result<(), TrainError>,
) -> Result<PathBuf, TrainError> {
    let temporary = checkpoints.join(format!("{name}{TEMPORARY}"));
    let folder = checkpoints.join(name);
    remove_if_there(&temporary)?;
    let written = write_files(&temporary, shape, state, tensors).and_then(|()| {
        may_count()?;
        remove_if_there(&folder)?;
        fs::rename(&temporary, &folder).map_err(storage("write", &folder))?;
        sync_folder_of(&folder)
    });
    written.inspect_err(|_| {
        // What is half written is of use to nobody, least of all on a full disk.
        let _ = fs::remove_dir_all(&temporary);
    })?;
    Ok(folder)
}

/// Removes what a process has left half written that was killed.
///
/// # Errors
/// What the system says.
pub(crate) fn remove_half_written(checkpoints: &Path) -> Result<(), TrainError> {
    let entries = fs::read_dir(checkpoints).map_err(storage("read", checkpoints))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let is_temporary = |path: &PathBuf| path.to_string_lossy().ends_with(TEMPORARY) && path.is_dir();
    paths.try_for_each(|path| if is_temporary(&path) { remove_if_there(&path) } else { Ok(()) })
}

fn remove_if_there(folder: &Path) -> Result<(), TrainError> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(storage("remove", folder)) } else { Ok(()) }
}

fn write_files(
    folder: &Path,
    shape: &ModelShape,
    state: &RunState,
    from: Tensors<'_>,
) -> Result<(), TrainError> {
    create_folder(&folder.join("plugins"))?;
    let (layers, shape) = (from.layers(), &state.course.shape(shape));
    let tensors: Vec<TensorId> = shape.tensors(&layers).into_iter().map(|(tensor, _)| tensor).collect();
    let (mut weights, mut moments) = (Vec::new(), Vec::new());
    for ((name, shape), &tensor) in names(shape, &layers).into_iter().zip(&tensors) {
        let pending = |name: String, values| Pending {
            name,
            shape: shape.clone(),
            read: Box::new(move || from.read(tensor, values)),
        };
        moments.push(pending(format!("{name}.first_moment"), Values::FirstMoment));
        moments.push(pending(format!("{name}.second_moment"), Values::SecondMoment));
        weights.push(pending(name.clone(), Values::Weights));
    }
    let mut sha256 = BTreeMap::new();
    for (name, tensors) in [(WEIGHTS_FILE, weights), (MOMENTS_FILE, moments)] {
        sha256.insert(name.to_owned(), write_tensors(&folder.join(name), &tensors, None)?);
    }
    for (name, saved) in &state.plugins {
        let name = plugin_file(name);
        write_whole(&folder.join(&name), &saved.bytes)?;
        sha256.insert(name, hexadecimal(Sha256::new_with_prefix(&saved.bytes)));
    }
    let updates = tensors.iter().map(|&tensor| Ok(from.updates(tensor)?));
    let updates = updates.collect::<Result<Vec<u64>, TrainError>>()?;
    write_json(&folder.join("state.json"), &StateFile::new(state, updates, sha256))
}

/// Where a plugin's state lies in a checkpoint.
fn plugin_file(name: &str) -> String {
    format!("plugins/{name}.bin")
}

/// Names and shapes of the tensors of a stack, in the order of [`ModelShape::tensors`].
fn names(shape: &ModelShape, layers: &[LayerId]) -> Vec<(String, Vec<usize>)> {
    let position = |tensor: TensorId| {
        tensor.layer.and_then(|layer| layers.iter().position(|&other| other == layer)).map(LayerIndex)
    };
    let tensors = shape.tensors(layers).into_iter();
    tensors.map(|(tensor, spec)| (tensor.hugging_face_name(position(tensor)), spec.shape)).collect()
}

impl StateFile {
    fn new(state: &RunState, updates: Vec<u64>, sha256: BTreeMap<String, String>) -> StateFile {
        let RunState { course, .. } = state;
        let block = |block: &PlacedBlock| SavedBlock { layer: block.layer, born_at: block.born_at };
        let tensor = |tensor: TensorId| SavedTensor { layer: tensor.layer, class: tensor.class.to_string() };
        StateFile {
            format_version: FORMAT_VERSION,
            step: state.step,
            decided: state.decided,
            stopped: state.stopped.clone(),
            blocks: course.blocks.iter().map(block).collect(),
            next_layer: course.next_layer,
            trainable: course.trainable.iter().map(tensor).collect(),
            execution: saved_entries(&course.execution),
            gates: course.gates.clone(),
            rates: course.rates.clone(),
            batch: course.batch,
            widths: course.widths,
            phase: course.phase.clone(),
            schedule: course.schedule.clone(),
            costs: state.costs.clone(),
            phase_start: state.phase_start.clone(),
            losses: state.losses.iter().map(|point| (point.step, point.loss_nats_per_token)).collect(),
            evaluations: state
                .evaluations
                .iter()
                .map(|e| (e.step, e.tokens, e.loss_nats_per_token))
                .collect(),
            suites_asked: state.suites_asked.clone(),
            evaluation_untold: state.untold.evaluation,
            measured_untold: state.untold.measured.clone(),
            batches_sha256: state.batches_sha256.clone(),
            trail: state.trail.clone(),
            skipped: state.skipped.clone(),
            shared: state.shared.clone(),
            logs: state.logs,
            updates,
            plugin_state_versions: state.plugins.iter().map(|(name, s)| (name.clone(), s.version)).collect(),
            sha256,
        }
    }

    /// Refuses a file that lies elsewhere, which may be anybody's or without an end, and one that is read unchecked.
    fn check_names(&self) -> Result<(), String> {
        let of_plugins: BTreeSet<String> =
            self.plugin_state_versions.keys().map(|name| plugin_file(name)).collect();
        let mut names = of_plugins.iter().map(String::as_str).chain([WEIGHTS_FILE, MOMENTS_FILE]);
        if let Some(name) = names.find(|name| !self.sha256.contains_key(*name)) {
            return Err(format!("does not say what `{}` hashes to", name.escape_debug()));
        }
        let is_known = |name: &&String| {
            of_plugins.contains(*name) || [WEIGHTS_FILE, MOMENTS_FILE].contains(&name.as_str())
        };
        let is_plain = |name: &String| !name.contains(['/', '\\', '\0']) && !name.is_empty();
        let foreign = self.sha256.keys().find(|name| !is_known(name));
        match foreign.or_else(|| self.plugin_state_versions.keys().find(|name| !is_plain(name))) {
            None => Ok(()),
            Some(name) => Err(format!("names `{}`, which is no file of a checkpoint", name.escape_debug())),
        }
    }

    /// Refuses a block that stands in two places: tensors are found by it.
    fn check_blocks(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        match self.blocks.iter().find(|block| !seen.insert(block.layer) || block.layer >= self.next_layer) {
            None => Ok(()),
            Some(block) => Err(format!("names the block {} twice, or out of turn", block.layer)),
        }
    }

    fn state(self, course: Course, folder: &Path) -> Result<RunState, TrainError> {
        let mut plugins = BTreeMap::new();
        for (name, version) in self.plugin_state_versions {
            let path = folder.join(plugin_file(&name));
            let bytes = bounded::read(&path, LARGEST_LOG_BYTES).map_err(storage("read", &path))?;
            plugins.insert(name, Saved { version, bytes });
        }
        let loss = |(step, loss_nats_per_token)| LossPoint { step, loss_nats_per_token };
        let evaluation =
            |(step, tokens, loss_nats_per_token)| Evaluation { step, tokens, loss_nats_per_token };
        Ok(RunState {
            step: self.step,
            decided: self.decided,
            stopped: self.stopped,
            course,
            costs: self.costs,
            phase_start: self.phase_start,
            losses: self.losses.into_iter().map(loss).collect(),
            evaluations: self.evaluations.into_iter().map(evaluation).collect(),
            suites_asked: self.suites_asked,
            untold: Untold { evaluation: self.evaluation_untold, measured: self.measured_untold },
            batches_sha256: self.batches_sha256,
            trail: self.trail,
            skipped: self.skipped,
            shared: self.shared,
            logs: self.logs,
            plugins,
        })
    }

    fn course(&self, shape: &ModelShape) -> Option<Course> {
        let tensor =
            |saved: &SavedTensor| Some(TensorId { layer: saved.layer, class: shape.class(&saved.class)? });
        let block = |saved: &SavedBlock| PlacedBlock { layer: saved.layer, born_at: saved.born_at };
        Some(Course {
            blocks: self.blocks.iter().map(block).collect(),
            next_layer: self.next_layer,
            trainable: self.trainable.iter().map(tensor).collect::<Option<Trainable>>()?,
            execution: self.execution.clone().map_or(Execution::WholeStack, Execution::Entries),
            gates: self.gates.clone(),
            rates: self.rates.clone(),
            batch: self.batch,
            widths: self.widths,
            phase: self.phase.clone(),
            schedule: self.schedule.clone(),
        })
    }
}

/// `None` = the whole stack.
pub(crate) fn saved_entries(execution: &Execution) -> Option<Vec<Entry>> {
    match execution {
        Execution::WholeStack => None,
        Execution::Entries(entries) => Some(entries.clone()),
    }
}

/// Reads a checkpoint, every file checked against its hash.
///
/// # Errors
/// A file that is missing or damaged.
pub fn load(folder: &Path, shape: &ModelShape) -> Result<(RunState, Snapshot), TrainError> {
    let (file, course) = read_state(folder, shape)?;
    for (name, hash) in &file.sha256 {
        check_hash(&folder.join(name), hash)?;
    }
    let tensors = load_tensors(folder, &course.shape(shape), &course.layers(), &file.updates)?;
    Ok((file.state(course, folder)?, tensors))
}

/// A checkpoint's state and its weights by their Hugging Face names: what the model is, without what training it goes on with.
///
/// # Errors
/// A file that is missing or damaged.
pub(crate) fn load_model(
    folder: &Path,
    shape: &ModelShape,
) -> Result<(RunState, HashMap<String, Vec<f32>>), TrainError> {
    let (file, course) = read_state(folder, shape)?;
    for (name, hash) in file.sha256.iter().filter(|(name, _)| *name != MOMENTS_FILE) {
        check_hash(&folder.join(name), hash)?;
    }
    let weights = weights(folder)?;
    for (name, sizes) in names(&course.shape(shape), &course.layers()) {
        let len = sizes.iter().product::<usize>();
        if weights.get(&name).is_none_or(|values| values.len() != len) {
            let (path, reason) =
                (folder.join(WEIGHTS_FILE), format!("lacks `{name}`, or has another size of it"));
            return Err(TrainError::Damaged { path, reason });
        }
    }
    Ok((file.state(course, folder)?, weights))
}

fn read_state(folder: &Path, shape: &ModelShape) -> Result<(StateFile, Course), TrainError> {
    let path = folder.join("state.json");
    let file: StateFile = read_json(&path)?;
    let damaged = |reason: &str| TrainError::Damaged { path: path.clone(), reason: reason.into() };
    if file.format_version != FORMAT_VERSION {
        return Err(damaged(&format!(
            "has format version {}, this host reads {FORMAT_VERSION}",
            file.format_version
        )));
    }
    file.check_names().and_then(|()| file.check_blocks()).map_err(|reason| damaged(&reason))?;
    let course = file.course(shape).ok_or_else(|| damaged("names a tensor that the model does not have"))?;
    Ok((file, course))
}

/// The weights of a checkpoint alone, by their Hugging Face names.
///
/// # Errors
/// A file that is missing or damaged.
pub fn weights(folder: &Path) -> Result<HashMap<String, Vec<f32>>, TrainError> {
    read_tensors(&folder.join(WEIGHTS_FILE))
}

/// AdamW's moments of a checkpoint alone, by the weights' names with `.first_moment` and `.second_moment`.
///
/// # Errors
/// A file that is missing or damaged.
pub fn moments(folder: &Path) -> Result<HashMap<String, Vec<f32>>, TrainError> {
    read_tensors(&folder.join(MOMENTS_FILE))
}

fn check_hash(path: &Path, hash: &str) -> Result<(), TrainError> {
    if hash_of_file(path)? == *hash {
        return Ok(());
    }
    Err(TrainError::Damaged {
        path: path.to_path_buf(),
        reason: "is not what was written (its hash differs)".into(),
    })
}

fn load_tensors(
    folder: &Path,
    shape: &ModelShape,
    layers: &[LayerId],
    updates: &[u64],
) -> Result<Snapshot, TrainError> {
    let mut weights = read_tensors(&folder.join(WEIGHTS_FILE))?;
    let mut moments = read_tensors(&folder.join(MOMENTS_FILE))?;
    let damaged = |file: &str, name: &str| TrainError::Damaged {
        path: folder.join(file),
        reason: format!("lacks `{name}`, or has another size of it"),
    };
    let mut tensors = Vec::new();
    for (index, ((tensor, spec), (name, _))) in
        shape.tensors(layers).iter().zip(names(shape, layers)).enumerate()
    {
        let mut take = |moment: &str| {
            let name = format!("{name}.{moment}");
            let values = moments.remove(&name).filter(|values| values.len() == spec.len());
            values.ok_or_else(|| damaged(MOMENTS_FILE, &name))
        };
        let (first, second) = (take("first_moment")?, take("second_moment")?);
        let held = weights.remove(&name).filter(|values| values.len() == spec.len());
        let weights = held.ok_or_else(|| damaged(WEIGHTS_FILE, &name))?;
        let updates = *updates.get(index).ok_or_else(|| damaged("state.json", &name))?;
        tensors.push((*tensor, TensorState { weights, moments: Moments { first, second, updates } }));
    }
    Ok(Snapshot { layers: layers.to_vec(), widths: shape.widths(), tensors })
}

/// The checkpoints of a run, newest first.
///
/// # Errors
/// What the system says; a folder that is not there has none.
pub fn list(checkpoints: &Path) -> Result<Vec<PathBuf>, TrainError> {
    if !checkpoints.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(checkpoints).map_err(storage("read", checkpoints))?;
    let mut found: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((step_of(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    found.sort();
    Ok(found.into_iter().rev().map(|(_, path)| path).collect())
}

/// Removes the oldest checkpoints but `keep`; named ones stay.
///
/// # Errors
/// What the system says.
pub fn prune(checkpoints: &Path, keep: usize) -> Result<(), TrainError> {
    let unnamed = list(checkpoints)?.into_iter().filter(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    });
    for old in unnamed.skip(keep) {
        fs::remove_dir_all(&old).map_err(storage("remove", &old))?;
    }
    Ok(())
}

/// Bytes that a checkpoint takes on disk.
///
/// # Errors
/// What the system says.
pub fn size_in_bytes(folder: &Path) -> Result<u64, TrainError> {
    let mut size = 0;
    for entry in fs::read_dir(folder).map_err(storage("read", folder))?.flatten() {
        let facts = entry.metadata().map_err(storage("read", &entry.path()))?;
        size += if facts.is_dir() { size_in_bytes(&entry.path())? } else { facts.len() };
    }
    Ok(size)
}

/// The step in `STEP` or `STEP-NAME`; `None` for what is half written.
fn step_of(name: &str) -> Option<u64> {
    if name.ends_with(TEMPORARY) {
        return None;
    }
    name.split('-').next()?.parse().ok()
}
