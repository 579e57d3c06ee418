//! Runs under way: which comes next, whose it is, where it runs, how far all are.

pub(crate) mod as_run;
pub(crate) mod claim;
pub(crate) mod execute;
mod owned;
pub(crate) mod progress;
mod queue;
pub mod slurm;
