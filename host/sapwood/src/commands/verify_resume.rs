//! `sapwood verify-resume`: stopped again and again, every arm ends in the bytes of a run that was left alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use study::resumption::{Resumption, prove, stops};
use study::{Lab, PlannedArm};
use trainer::{ConfigError, ErrorClass};

use super::open_study;
use crate::args::VerifyResumeArgs;
use crate::failure::{Failed, NOT_THE_SAME};
use crate::output::{note_line, result_line};
use crate::{Outcome, engines};

pub(crate) fn verify_resume(args: &VerifyResumeArgs) -> Outcome {
    let build = engines::builder(args.engine);
    let lab = open_study(&args.file, &build)?;
    let planned = chosen(args, &lab)?;
    let folder = folder(args)?;
    let mut different = 0;
    for arm in &planned {
        // The longest budget's first seed: all that the others do, it does, too.
        let run = &arm.runs[arm.runs.len() - lab.file.study.seeds.len()];
        let stops = stops(run, &arm.rehearsal, args.stops);
        note_line!("{}: {} stops", run.name(), stops.len());
        let found = prove(&lab, run, &stops, &folder)?;
        different += usize::from(found.first_difference.is_some());
        print(&found);
    }
    if different == 0 {
        let arms = if planned.len() == 1 { "1 arm".into() } else { format!("{} arms", planned.len()) };
        result_line!("{arms}, every byte the same");
        if args.out.is_none() {
            // What is left of a temporary folder is the system's to clear away.
            let _ = std::fs::remove_dir_all(&folder);
        }
        return Ok(ExitCode::SUCCESS);
    }
    result_line!("{different} of {} arms differ; their runs are in {}", planned.len(), folder.display());
    Ok(ExitCode::from(NOT_THE_SAME))
}

fn chosen(args: &VerifyResumeArgs, lab: &Lab<'_>) -> Result<Vec<PlannedArm>, Failed> {
    if let Some(unknown) = args.arm.iter().find(|arm| !lab.file.arms.contains_key(*arm)) {
        let arms: Vec<&str> = lab.file.arms.keys().map(String::as_str).collect();
        let hint = format!("the arms are {}", arms.join(", "));
        let error = ConfigError::new("arms", format!("there is no arm `{unknown}`"), hint);
        return Err(lab.source().locate(error).into());
    }
    let mut planned = lab.plan_arms(&args.arm)?;
    planned.retain(|arm| args.arm.is_empty() || args.arm.contains(&arm.arm));
    Ok(planned)
}

/// An empty folder: what was there before would be gone on with.
fn folder(args: &VerifyResumeArgs) -> Result<PathBuf, Failed> {
    let temporary = || std::env::temp_dir().join(format!("sapwood-verify-resume-{}", std::process::id()));
    let folder = args.out.clone().unwrap_or_else(temporary);
    let is_empty =
        |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if folder.exists() && !is_empty(&folder) {
        let message = format!("{} is not empty", folder.display());
        return Err(Failed::new(ErrorClass::Config, message, "name a folder that is not there yet"));
    }
    Ok(folder)
}

fn print(found: &Resumption) {
    let Resumption { run, stopped_before, first_difference } = found;
    let steps: Vec<String> = stopped_before.iter().map(ToString::to_string).collect();
    let stopped = format!("stopped {} times (before steps {})", steps.len(), steps.join(" "));
    match first_difference {
        None => result_line!("{run}: {stopped}: every byte the same"),
        Some(file) => result_line!("{run}: {stopped}: {} differs", file.display()),
    }
}
