//! Arms × seeds compared: what the runs measured, what that says about an arm, and the words and tables
//! in which it is said.
//!
//! The judgement is made of pure functions: no files, no clocks, no training.

mod curve;
mod report;
mod statistics;
mod verdict;

pub use curve::{Cost, EvaluationPoint, RunCurve};
pub use report::{to_json, to_markdown, to_terminal};
pub use statistics::{Interval, PairedStatistics, SignFlip, Summary, holm, paired, summarize};
pub use verdict::{
    ArmJudgement, ArmPlan, ArmRuns, ArmVerdict, Comparison, CostToReach, Evidence, FailedRun, FinalPoint,
    JudgeError, Judgement, LedgerCosts, LedgerRatios, LeftOut, LossDifference, LossPair, Outcome, Reach,
    RunStatus, SeedLedger, SeedReach, judge,
};
