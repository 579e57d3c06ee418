//! Arms × seeds from one file, run side by side, compared at matched cost, judged and reported.
//!
//! Not here: how one run trains (`trainer`), and what is printed where (`sapwood`).

mod error;
mod execute;
mod file;
mod lab;
pub mod parity;
mod source;

pub use error::StudyError;
pub use execute::{Executed, Execution, Failure, execute, run_folder};
pub use file::{Arm, BudgetSection, Comparison, StudyFile, StudySection};
pub use lab::{BuildEngine, Lab, PlannedArm};
pub use source::{Place, Source, SourceError};

/// temp
pub struct Rendered { /// t
    pub terminal: String, /// t
    pub json: String }
/// temp
/// # Errors
/// none
pub fn report_folder(_: &std::path::Path) -> Result<Rendered, StudyError> { Ok(Rendered { terminal: String::new(), json: String::new() }) }
