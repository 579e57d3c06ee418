//! Ways to go on that are tried out before one is chosen.

use serde::{Deserialize, Serialize};

use super::Action;
use crate::{Error, Result};

/// Ways to go on, to be tried out from the same state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The requests of each; an empty one goes on as before.
    pub candidates: Vec<Vec<Action>>,
    /// Steps that each is trained for.
    pub steps: u64,
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// The coming step.
    pub step: u64,
    /// Steps that each candidate was given.
    pub steps: u64,
    /// Of each candidate, in their order, the training loss of each step in nats per token; shorter than the steps where a
    /// loss was no number.
    pub losses: Vec<Vec<f64>>,
}

impl Probed {
    /// The mean loss of each candidate over its last steps, at least one; infinite for one that did not get through.
    pub fn mean_of_last(&self, steps: usize) -> Vec<f64> {
        let mean = |losses: &Vec<f64>| {
            let last = &losses[losses.len().saturating_sub(steps.max(1))..];
            if (losses.len() as u64) < self.steps || last.is_empty() {
                return f64::INFINITY;
            }
            last.iter().sum::<f64>() / last.len() as f64
        };
        self.losses.iter().map(mean).collect()
    }
}

impl Action {
    /// Whether the request may stand beside those that were taken before the same step.
    ///
    /// # Errors
    /// A probe beside something else than numbers.
    pub fn check_beside(&self, taken: &[Action]) -> Result<()> {
        let is_number = |action: &Action| matches!(action, Action::Metric { .. });
        let probing = taken.iter().any(|action| matches!(action, Action::Probe(_)));
        let alone = taken.iter().all(is_number);
        match self {
            Action::Probe(_) if !alone => Err(Error::new("a probe has to be the only request of its step")),
            other if probing && !is_number(other) => {
                Err(Error::new("a probe was asked for; everything else has to wait for what comes of it"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may be part of a candidate: what changes the model or how it is trained, and nothing else.
    pub(super) fn can_be_tried(&self) -> bool {
        match self {
            Action::Insert(_) | Action::Remove(_) | Action::Replace(_) | Action::Permute(_) => true,
            Action::Widen(_) => true,
            Action::Train(_) | Action::Optimizer(_) | Action::Schedule(_) | Action::Rates(_) => true,
            Action::Gate(_) | Action::Execute(_) | Action::ExecuteWholeStack => true,
            Action::Batch(_) | Action::Probe(_) | Action::Evaluate | Action::Checkpoint(_) => false,
            Action::Stop(_) | Action::Phase(_) | Action::Metric { .. } => false,
            Action::Accept | Action::Reject(_) => false,
        }
    }
}
