//! A chained hash of all that a run's tensors have come from: where two runs' trails are equal before a step, their
//! tensors are, and one may go on from the other's checkpoint.
//!
//! The chain begins with what every step depends on (model, data, seed, optimizer, engine), and takes in each step's
//! course and learning rate, and the tensors themselves after each change that was made to them. What the batches held
//! follows from seed, data and position, and is in it thereby.

use engine::{EngineInfo, Entry, LayerId, Widths};
use plugin_host::api::{Action, Batch, RateFactor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::RunConfig;
use crate::checkpoint::saved_entries;
use crate::course::Course;

/// The chain so far, in hexadecimal; empty in checkpoints of versions that had none, which then equals no other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trail(String);

/// What a step does to tensors, its rate aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepKey([u8; 32]);

impl Trail {
    /// Of a run that is about to start.
    pub(crate) fn start(
        config: &RunConfig,
        engine: &EngineInfo,
        data_sha256: &str,
        initial_sha256: Option<&str>,
    ) -> Trail {
        let RunConfig { seed, model, training, optimizer, evaluation, audit, .. } = config;
        let parts = (seed, model, training, optimizer, evaluation, audit);
        let bound =
            (config.budget.reference_steps, engine.engine, &engine.device, data_sha256, initial_sha256);
        Trail(format!("{:x}", absorb(Sha256::new(), &(parts, bound)).finalize()))
    }

    /// Whether it is known at all.
    pub(crate) fn is_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// One step more.
    pub(crate) fn add_step(&mut self, course: StepKey, rate: f64) {
        self.add(|hash| hash.chain_update(course.0).chain_update(rate.to_bits().to_le_bytes()));
    }

    /// The tensors, after they were changed.
    pub(crate) fn add_tensors(&mut self, sha256: &str) {
        self.add(|hash| hash.chain_update(sha256));
    }

    /// Changes of AdamW's state, which follow from the tensors as they were.
    pub(crate) fn add_rules(&mut self, requests: &[Action]) {
        let rules: Vec<&Action> =
            requests.iter().filter(|request| matches!(request, Action::Optimizer(_))).collect();
        self.add(|hash| absorb(hash, &rules));
    }

    fn add(&mut self, more: impl FnOnce(Sha256) -> Sha256) {
        if self.is_known() {
            self.0 = format!("{:x}", more(Sha256::new_with_prefix(&self.0)).finalize());
        }
    }
}

impl StepKey {
    /// Of a step on that course.
    pub(crate) fn of(course: &Course) -> StepKey {
        let key = Numeric {
            layers: course.layers(),
            trainable: course.trainable.iter().map(|tensor| tensor.to_string()).collect(),
            execution: saved_entries(&course.execution),
            gates: course.gates.iter().map(|(&layer, &gates)| (layer, gates)).collect(),
            rates: &course.rates,
            batch: course.batch,
            widths: course.widths,
        };
        StepKey(absorb(Sha256::new(), &key).finalize().into())
    }

    /// The same step after that as well.
    pub(crate) fn after(self, what: &impl Serialize) -> StepKey {
        StepKey(absorb(Sha256::new_with_prefix(self.0), what).finalize().into())
    }
}

/// Of a course, what the numbers of a step depend on; labels and births are for people and strategies.
#[derive(Serialize)]
struct Numeric<'a> {
    layers: Vec<LayerId>,
    trainable: Vec<String>,
    execution: Option<Vec<Entry>>,
    gates: Vec<(LayerId, [f32; 2])>,
    rates: &'a [RateFactor],
    batch: Batch,
    widths: Widths,
}

fn absorb(hash: Sha256, what: &impl Serialize) -> Sha256 {
    hash.chain_update(serde_json::to_vec(what).expect("structs of numbers, texts and lists"))
}
