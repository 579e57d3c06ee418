//! `state.json`: what a run's state is written as.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use engine::{Entry, Execution, LayerId, ModelShape, Step, TensorId, Trainable, Widths};
use plugin_host::api::{Batch, Evaluation, LossPoint, Measured, RateFactor, Saved};
use plugin_host::bounded;
use serde::{Deserialize, Serialize};

use super::format::FORMAT_VERSION;
use super::{LogLengths, MOMENTS_FILE, RunState, Untold, WEIGHTS_FILE};
use crate::TrainError;
use crate::costs::Costs;
use crate::course::schedule::RunningSchedule;
use crate::course::{Course, PlacedBlock};
use crate::growth::audit::PhaseStart;
use crate::run::SharedPrefix;
use crate::storage::{LARGEST_LOG_BYTES, failing};
use crate::trail::Trail;

/// `state.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateFile {
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
    pub(super) updates: Vec<u64>,
    plugin_state_versions: BTreeMap<String, u32>,
    pub(super) sha256: BTreeMap<String, String>,
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

/// Where a plugin's state lies in a checkpoint.
pub(super) fn plugin_file(name: &str) -> String {
    format!("plugins/{name}.bin")
}

impl StateFile {
    pub(super) fn new(state: &RunState, updates: Vec<u64>, sha256: BTreeMap<String, String>) -> StateFile {
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
    pub(super) fn check_names(&self) -> Result<(), String> {
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
    pub(super) fn check_blocks(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        match self.blocks.iter().find(|block| !seen.insert(block.layer) || block.layer >= self.next_layer) {
            None => Ok(()),
            Some(block) => Err(format!("names the block {} twice, or out of turn", block.layer)),
        }
    }

    pub(super) fn state(self, course: Course, folder: &Path) -> Result<RunState, TrainError> {
        let mut plugins = BTreeMap::new();
        for (name, version) in self.plugin_state_versions {
            let path = folder.join(plugin_file(&name));
            let bytes = bounded::read(&path, LARGEST_LOG_BYTES).map_err(failing("read", &path))?;
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

    pub(super) fn course(&self, shape: &ModelShape) -> Option<Course> {
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    /// Those that are left out where they are empty, too. One that comes, goes or changes raises the version.
    #[test]
    fn its_fields_belong_to_its_version() {
        let error = serde_json::from_str::<StateFile>(r#"{"another": 0}"#).err().expect("no such field");
        let named = error.to_string();
        let fields: Vec<&str> = named.split('`').skip(3).step_by(2).collect();
        let lines: Vec<String> = fields.chunks(4).map(|fields| fields.join(" ")).collect();
        expect![[r#"
            3: format_version step decided stopped
            blocks next_layer trainable execution
            gates rates batch widths
            phase schedule costs phase_start
            losses evaluations suites_asked evaluation_untold
            measured_untold batches_sha256 trail skipped
            shared logs updates plugin_state_versions
            sha256
        "#]]
        .assert_eq(&format!("{FORMAT_VERSION}: {}\n", lines.join("\n")));
    }
}
