//! What was not trained a second time, since arms had it in common.

use engine::{Flops, Step};
use serde::Serialize;

/// What was not trained a second time. Every run is charged with it all the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Shared {
    /// Finished runs that began as copies of others, arm by arm.
    pub arms: Vec<SharedByArm>,
    /// Exact FLOPs that were not computed again.
    pub saved_flops: Flops,
    /// Those of all finished runs as they are charged.
    pub flops: Flops,
    /// Training seconds that were not spent again.
    pub saved_training_seconds: f64,
    /// Those of all finished runs as they are charged.
    pub training_seconds: f64,
}

/// An arm's runs of one budget that began as copies of the same arm's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SharedByArm {
    /// The arm.
    pub arm: String,
    /// The budget.
    pub budget: String,
    /// Arm and budget that they began as copies of.
    pub begins_as: String,
    /// How many.
    pub runs: usize,
    /// The first step of their own, the earliest of all.
    pub until: Step,
    /// Exact FLOPs that were not computed again.
    pub saved_flops: Flops,
    /// Training seconds that were not spent again.
    pub saved_training_seconds: f64,
}

impl Shared {
    /// A finished run, charged with so much.
    pub(crate) fn add(&mut self, flops: Flops, training_seconds: f64) {
        self.flops += flops;
        self.training_seconds += training_seconds;
    }

    /// What a finished run took over.
    pub(crate) fn add_copy(&mut self, arm: &str, budget: &str, shared: &trainer::SharedPrefix) {
        let begins_as = shared.run.rsplit_once('/').map_or(shared.run.as_str(), |(of, _seed)| of);
        let same = |known: &SharedByArm| {
            (&*known.arm, &*known.budget, &*known.begins_as) == (arm, budget, begins_as)
        };
        let index = self.arms.iter().position(same).unwrap_or_else(|| {
            self.arms.push(SharedByArm {
                arm: arm.into(),
                budget: budget.into(),
                begins_as: begins_as.into(),
                runs: 0,
                until: shared.steps,
                saved_flops: Flops(0),
                saved_training_seconds: 0.0,
            });
            self.arms.len() - 1
        });
        let known = &mut self.arms[index];
        known.runs += 1;
        known.until = known.until.min(shared.steps);
        known.saved_flops += shared.flops;
        known.saved_training_seconds += shared.training_seconds;
        self.saved_flops += shared.flops;
        self.saved_training_seconds += shared.training_seconds;
    }
}
