//! What a report tells beside the verdict: no comparison depends on it. Each part is read or worked out by a file of its own in this
//! folder; `results.rs` puts them together.
//!
//! So a number for each arm, read from its runs' logs, becomes a table:
//!
//! 1. a reader like `edits.rs`: from a run's folder what its log says, and of an arm's runs the mean;
//! 2. a field of [`ArmBeside`], which stands in `report.json` at once; what is no arm's is a field of [`Beside`], and of `report/json.rs`;
//! 3. where `results.rs` reads a finished run, and where it puts the arm's together;
//! 4. a section like `report/sections/growth.rs`, which `report/sections.rs` has in its list: the terminal, Markdown and the page lay it out.

use engine::Step;
use serde::Serialize;
use trainer::WallTime;

use super::edits::MeanEdit;
use super::shared::Shared;
use super::suites::SuiteMean;
use crate::SweepFinding;

/// What is told beside a verdict; no comparison depends on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    /// What is told of each arm, the baseline first.
    pub arms: Vec<ArmBeside>,
    /// What came of looking for a learning rate for each arm.
    pub sweep: Option<SweepFinding>,
    /// Whether arms had the same chance to find one, and what they started from, in words.
    pub fairness: Vec<String>,
    /// What was not trained a second time.
    pub shared: Shared,
    /// Finished runs that have skipped steps.
    pub skipped: Vec<SkippedSteps>,
    /// What suites came to.
    pub suites: Vec<SuiteMean>,
}

/// What the finished runs of an arm tell. In `report.json` these fields stand with the arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmBeside {
    /// The arm.
    #[serde(skip)]
    pub arm: String,
    /// Mean seconds by purpose; compared only where nothing ran beside the runs. `None` where none is finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_wall: Option<WallTime>,
    /// What the host's receipts say of changes of the stack, in the order in which they came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<MeanEdit>,
}

/// Steps of a finished run whose update was not made, since their loss or gradient was not finite. It is charged with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SkippedSteps {
    /// `arm/budget/seed-N`.
    pub run: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Beside {
    /// What is told of that arm.
    pub(crate) fn of_arm(&self, arm: &str) -> Option<&ArmBeside> {
        self.arms.iter().find(|told| told.arm == arm)
    }
}
