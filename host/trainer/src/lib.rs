//! One run: the loop ([`run()`]), growth, schedule, checkpoint, decision log, evaluation, costs.
//!
//! Not here: which runs there are and how they compare (`study`), how plugins are loaded (`plugin-host`),
//! arithmetic (`engine`), how text becomes tokens (`data`).

pub mod checkpoint;
mod config;
mod costs;
mod course;
mod error;
pub mod folder;
mod growth;
pub mod hugging_face;
mod initial;
mod onlooker;
mod rehearsal;
mod run;
pub mod storage;
mod suites;
mod trail;

pub use config::{
    Audit, Budget, Checkpoints, ConfigError, Evaluation, InitialModelConfig, OnNonFinite, Optimizer,
    RunConfig, Training, Writing,
};
pub use costs::{Costs, ProbeCosts, WallTime, peak_memory_bytes};
pub use course::schedule::{Schedule, ScheduleKind};
pub use error::{ErrorClass, TrainError};
pub use folder::binding::{BoundTo, MadeBy, RunFile};
pub use folder::owner::{Alone, Owner};
pub use growth::{Initializers, change_optimizer};
pub use initial::InitialModel;
pub use onlooker::recorded::RecordedRun;
pub use onlooker::replay::{Replay, ReplayedDecision, replay};
pub use rehearsal::trial::{WantedBlock, Widening};
pub use rehearsal::turns::Turns;
pub use rehearsal::{Rehearsal, RehearsedPhase, rehearse};
pub use run::{Parts, Prefix, RunSummary, SharedPrefix, check_shadow, run};
pub use suites::{
    PlainModel, Questions, Suite, SuiteConfig, SuiteFacts, SuiteKind, SuiteNumber, SuiteResult,
};
