//! Learning rates: of some tensors, and along which shape.

use serde::{Deserialize, Serialize};

use super::Which;

/// How much faster or slower some tensors learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateFactor {
    /// Which tensors.
    pub which: Which,
    /// Multiplies the schedule's rate; not negative.
    pub factor: f64,
}

/// A shape of the learning rate over what is left of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleShape {
    /// The same rate throughout.
    Constant,
    /// Falls linearly.
    Linear {
        /// The last rate as a share of the highest.
        final_fraction: f64,
    },
    /// Falls along half a cosine.
    Cosine {
        /// As for `Linear`.
        final_fraction: f64,
    },
    /// Constant, then a linear fall at the end.
    Wsd {
        /// As for `Linear`.
        final_fraction: f64,
        /// The share of the whole budget over which it falls.
        decay_fraction: f64,
    },
}
