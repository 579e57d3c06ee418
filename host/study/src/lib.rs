//! Arms × seeds from one file: planned, run side by side, compared at matched cost, judged and reported.
//!
//! Not here: how one run trains (`trainer`), and what is printed where (`sapwood`). The judgement is made
//! of pure functions: no files, no clocks, no training.

mod diff;
mod error;
mod evidence;
mod file;
mod lab;
pub mod parity;
mod planning;
mod report;
pub mod resumption;
mod running;
mod source;
pub mod speed;
mod verdict;

pub use diff::{
    Changed, CheckpointsDiff, DecisionsDiff, FirstDifference, LogDiff, OtherTensor, RunDiff, diff,
};
pub use error::StudyError;
pub use evidence::beside::{ArmBeside, Beside, SkippedSteps};
pub use evidence::curve::{Cost, EvaluationPoint, RunCurve};
pub use evidence::edits::MeanEdit;
pub use evidence::findings::{ArmFinding, Findings, findings};
pub use evidence::shared::{Shared, SharedByArm};
pub use evidence::suites::SuiteMean;
pub use file::{Arm, BudgetSection, Comparison, StudyFile, StudySection, TrainingSection};
pub use lab::{BuildEngine, Lab, OpenSuite, OpenedSuite, PlannedArm, ReadingModel};
pub use planning::foresight::{RunDisk, StagedCost, StagedPart};
pub use planning::memory::{Auto, MicroBatch, PhaseMemory, mebibytes};
pub use planning::packing::{Packing, Room, pack};
pub use planning::prefixes::{Saving, Sharing};
pub use planning::sweep;
pub use planning::sweep::SweepFinding;
pub use report::{Report, report_folder, side_by_side, to_json, to_markdown, to_terminal};
pub use running::claim::Holder;
pub use running::execute::{Executed, Execution, Failure, Missing, Scope, execute, missing_runs, run_folder};
pub use running::progress::{RunProgress, RunState, StudyProgress, progress};
pub use running::slurm;
pub use source::{Place, Source, SourceError};
pub use verdict::statistics::{Interval, PairedStatistics, SignFlip, Summary, holm, paired, summarize};
pub use verdict::{
    Ahead, ArmJudgement, ArmPlan, ArmRole, ArmRuns, ArmVerdict, Case, Continual, CostToReach, Crossover,
    FailedRun, FinalPoint, Headline, JudgeError, Judgement, LedgerCosts, LedgerRatios, LedgerSteps, LeftOut,
    LossDifference, LossPair, Outcome, Reach, RunStatus, SeedContinual, SeedCrossover, SeedLedger, SeedReach,
    judge,
};
