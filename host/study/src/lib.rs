//! Arms × seeds from one file: planned, run side by side, compared at matched cost, judged and reported.
//!
//! Not here: how one run trains (`trainer`), and what is printed where (`sapwood`). The judgement is made
//! of pure functions: no files, no clocks, no training.

mod as_run;
mod claim;
mod curve;
mod diff;
mod edits;
mod error;
mod execute;
mod fairness;
mod file;
mod findings;
mod foresight;
mod lab;
mod memory;
mod owned;
mod packing;
pub mod parity;
mod phases;
mod prefixes;
mod progress;
mod queue;
mod report;
mod results;
pub mod resumption;
pub mod slurm;
mod source;
pub mod speed;
mod statistics;
mod suites;
mod sunk;
pub mod sweep;
mod verdict;

pub use claim::Holder;
pub use curve::{Cost, EvaluationPoint, RunCurve};
pub use diff::{
    Changed, CheckpointsDiff, DecisionsDiff, FirstDifference, LogDiff, OtherTensor, RunDiff, diff,
};
pub use error::StudyError;
pub use execute::{Executed, Execution, Failure, Missing, Scope, execute, missing_runs, run_folder};
pub use file::{Arm, BudgetSection, Comparison, StudyFile, StudySection, TrainingSection};
pub use findings::{ArmFinding, Findings, findings};
pub use foresight::{RunDisk, StagedCost, StagedPart};
pub use lab::{BuildEngine, Lab, OpenSuite, OpenedSuite, PlannedArm, ReadingModel};
pub use memory::{Auto, MicroBatch, PhaseMemory, mebibytes};
pub use packing::{Packing, Room, pack};
pub use prefixes::{Saving, Sharing};
pub use progress::{RunProgress, RunState, StudyProgress, progress};
pub use report::{side_by_side, to_csv, to_json, to_markdown, to_terminal};
pub use results::{Report, report_folder};
pub use source::{Place, Source, SourceError};
pub use statistics::{Interval, PairedStatistics, SignFlip, Summary, holm, paired, summarize};
pub use suites::SuiteFigure;
pub use sweep::SweepFinding;
pub use verdict::{
    Ahead, ArmJudgement, ArmPlan, ArmRole, ArmRuns, ArmVerdict, Continual, CostToReach, Crossover, Evidence,
    FailedRun, FinalPoint, Headline, JudgeError, Judgement, LedgerCosts, LedgerRatios, LedgerSteps, LeftOut,
    LossDifference, LossPair, MeanEdit, Outcome, Reach, RunStatus, SeedContinual, SeedCrossover, SeedLedger,
    SeedReach, Shared, SharedByArm, SkippedSteps, judge,
};
