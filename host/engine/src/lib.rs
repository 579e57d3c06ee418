//! What a model can be asked to do: the traits [`Model`] and [`Engine`], the shapes and names of its tensors, and
//! what a step costs in FLOPs.
//!
//! Not here: files, clocks, plugins, and any particular backend. [`ScriptedEngine`] answers with
//! losses that are a stated function of what it was asked, so that all above it is tested in
//! milliseconds; [`contract`] holds the checks that every engine has to pass.

mod batch;
pub mod contract;
mod engine;
mod flops;
mod model;
mod plan;
mod precision;
mod refusal;
mod scope;
mod scripted;
mod snapshot;
mod tensor;
mod units;

pub use batch::TokenBatch;
pub use engine::{
    AdamW, BlockTensors, Clocks, Edit, Energy, Engine, EngineError, EngineInfo, GraphCounts, Model, Moments,
    Part, StepOutcome, Wait,
};
pub use flops::{FlopTerms, plan_flops, step_flops, step_flops_li2024};
pub use model::{BlockKind, Mlp, ModelError, ModelShape, Norm, Position, Widths};
pub use plan::{
    BlockStatistics, Branch, Entry, Execution, Recompute, Statistics, StepMemory, StepPlan, TensorStatistics,
    Wanted,
};
pub use precision::Precision;
pub use refusal::{check_order, check_resized};
pub use scope::Trainable;
pub use scripted::{Fault, FaultKind, MILLIJOULES_OF_A_STEP, ScriptedEngine, Weights};
pub use snapshot::{Snapshot, TensorState};
pub use tensor::{TensorClass, TensorId, TensorRole, TensorSpec};
pub use units::{Flops, LayerId, LayerIndex, Step, Tokens};
