//! One run: the loop ([`run()`]), growth, schedule, checkpoint, decision log, evaluation, costs.
//!
//! Not here: which runs there are and how they compare (`study`), how plugins are loaded (`plugin-host`),
//! arithmetic (`engine`), how text becomes tokens (`data`).

mod audit;
mod binding;
mod boundary;
mod budget;
pub mod checkpoint;
mod config;
mod costs;
mod course;
mod energy;
mod error;
pub mod folder;
mod growth;
pub mod hugging_face;
mod initial;
mod looking;
mod measured;
mod onlooker;
mod owner;
mod recorded;
pub mod records;
mod rehearsal;
mod replay;
mod run;
mod schedule;
mod shown;
mod suites;
mod tensor_file;
mod trail;
mod trial;
mod turns;

pub use binding::{BoundTo, MadeBy, RunFile};
pub use config::{
    Audit, Budget, Checkpoints, ConfigError, Evaluation, InitialModelConfig, OnNonFinite, Optimizer,
    RunConfig, Training, Writing,
};
pub use costs::{Costs, ProbeCosts, WallTime, peak_memory_bytes};
pub use error::{ErrorClass, TrainError};
pub use growth::{Initializers, change_optimizer};
pub use initial::InitialModel;
pub use owner::{Alone, Owner};
pub use recorded::RecordedRun;
pub use rehearsal::{Rehearsal, RehearsedPhase, rehearse};
pub use replay::{Replay, ReplayedDecision, replay};
pub use run::{Parts, Prefix, RunSummary, SharedPrefix, check_shadow, run};
pub use schedule::{Schedule, ScheduleKind};
pub use suites::{
    PlainModel, Questions, Suite, SuiteConfig, SuiteFacts, SuiteKind, SuiteNumber, SuiteResult,
};
pub use trial::{WantedBlock, Widening};
pub use turns::Turns;
