//! One file a command.

pub(crate) mod bench;
pub(crate) mod checkpoint;
pub(crate) mod data;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod hugging_face;
pub(crate) mod parity;
pub(crate) mod plan;
pub(crate) mod plugin;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod sample;
pub(crate) mod shell;
pub(crate) mod slurm;
pub(crate) mod status;
pub(crate) mod study;
pub(crate) mod verify_resume;
pub(crate) mod watch;

use ::study::{BuildEngine, Lab, Source};

use crate::args::FileArgs;
use crate::failure::Failed;
use crate::suites;

/// The study that the arguments name, ready to run.
fn open_study<'a>(args: &FileArgs, build: BuildEngine<'a>) -> Result<Lab<'a>, Failed> {
    let source = Source::read(&args.file, &args.set)?;
    let mut lab = Lab::open(source, &args.plugins.plugin_path, build, suites::open)?;
    plugin::lock::require(args, &mut lab)?;
    plugin::sign::require(args, &mut lab)?;
    Ok(lab)
}
