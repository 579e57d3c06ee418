//! `sapwood study --executor slurm`: submits what is missing, and waits for it if asked to. Not here: what a task does,
//! which is `--only`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use study::slurm::{JobArray, Submitted};
use study::{Lab, RunState, StudyProgress};
use trainer::{ErrorClass, RunConfig};

use super::{open_study, status};
use crate::args::{EngineName, FileArgs, Jobs, StudyArgs};
use crate::failure::{Failed, SEVERAL, code_of};
use crate::output::{note_line, passing_line, result_line};
use crate::{Outcome, engines, log};

/// From one look at the study's files to the next.
const LOOK: Duration = Duration::from_secs(1);
/// Looks from one question to Slurm to the next: its controller serves others, too.
const LOOKS_A_QUESTION: u32 = 10;
/// Answers that no task is left, one after another, that are believed: a task that is being put back is none for a moment.
const ANSWERS: u32 = 2;

pub(crate) fn study(args: &StudyArgs, verbose: u8) -> Outcome {
    // Here nothing is computed: the device may be one of the nodes' alone.
    let lab = open_study(&args.file, &engines::for_planning)?;
    super::study::refuse_sweep(&lab)?;
    let folder = super::study::folder(args.out.clone(), &lab);
    let runs: Vec<RunConfig> = lab.plan_for(&folder)?.into_iter().flat_map(|arm| arm.runs).collect();
    log::into_folder(&folder, verbose)?;
    let folder = absolute(&folder)?;
    let missing = study::missing_runs(&lab, runs, &folder)?;
    for (run, holder) in &missing.at_work {
        note_line!("left alone: {run}, which {holder} works on");
    }
    let names: Vec<String> = missing.free.iter().map(RunConfig::name).collect();
    let job = match still_queued(&folder)? {
        None if !names.is_empty() => Some(submitted(args, &lab, &folder, &names, verbose)?),
        queued => queued,
    };
    drop(missing);
    finish(args, &folder, job.as_ref())
}

/// The job of an earlier submission, while it has tasks.
fn still_queued(folder: &Path) -> Result<Option<Submitted>, Failed> {
    let Some(job) = Submitted::last(folder)? else { return Ok(None) };
    let left = match job.tasks_left()? {
        Some(0) => return Ok(None),
        Some(left) => format!("{left} tasks left"),
        None => return Err(silent(&job)),
    };
    note_line!("job {} is still at work, {left}: nothing more is submitted", job.job);
    note_line!("hint: run the same command again when it is over, or end it with `scancel {}`", job.job);
    Ok(Some(job))
}

fn silent(job: &Submitted) -> Failed {
    let message = format!("Slurm does not say whether job {} is still at work", job.job);
    Failed::new(ErrorClass::Resource, message, "`squeue` should tell why; run the same command again")
}

fn submitted(
    args: &StudyArgs,
    lab: &Lab<'_>,
    folder: &Path,
    runs: &[String],
    verbose: u8,
) -> Result<Submitted, Failed> {
    let at_once = match args.jobs {
        Jobs::Auto => None,
        Jobs::Number(number) => Some(number.into()),
    };
    let (study, threads_per_run) = (&lab.file.study.name, lab.file.study.threads_per_run);
    let (command, sbatch) = (&command(args, folder, verbose)?, &args.sbatch);
    let job = JobArray { study, folder, runs, command, threads_per_run, at_once, sbatch }.submit()?;
    tracing::info!("submitted as job {} with {} tasks", job.job, job.tasks);
    result_line!("submitted as job {}, {} tasks", job.job, job.tasks);
    Ok(job)
}

/// Waits and reports, or says how to.
fn finish(args: &StudyArgs, folder: &Path, job: Option<&Submitted>) -> Outcome {
    let shown = folder.display();
    match job {
        Some(job) if args.wait => wait(folder, job)?,
        Some(_) => {
            note_line!(
                "hint: `sapwood status {shown}` tells how far it is, `sapwood report {shown}` what it came to"
            );
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    let progress = study::progress(folder)?;
    let code = told(&progress);
    let report = study::report_folder(folder)?;
    result_line!("{}", report.terminal);
    note_line!("report: {}", folder.join("report/report.html").display());
    Ok(code)
}

/// Waits until all is finished, or no task is left.
fn wait(folder: &Path, job: &Submitted) -> Result<(), Failed> {
    note_line!("waits for job {}, which goes on if this is interrupted", job.job);
    let terminal = std::io::stderr().is_terminal();
    let (mut looks, mut empty) = (0, 0);
    let mut last = String::new();
    while empty < ANSWERS {
        let progress = study::progress(folder)?;
        if progress.count(|state| *state != RunState::Finished) == 0 {
            break;
        }
        let line = status::summary(&progress);
        let counts = line.split(';').next().unwrap_or_default();
        match terminal {
            true => passing_line!("{line}"),
            false if counts != last => note_line!("{line}"),
            false => {}
        }
        last = counts.to_owned();
        std::thread::sleep(LOOK);
        looks += 1;
        if empty > 0 || looks % LOOKS_A_QUESTION == 0 {
            // One that is not answered now is asked again.
            empty = if job.tasks_left()? == Some(0) { empty + 1 } else { 0 };
        }
    }
    if terminal {
        note_line!();
    }
    Ok(())
}

/// What has no result, and why, as far as the files tell; and the exit code for that.
fn told(progress: &StudyProgress) -> ExitCode {
    let mut codes: Vec<u8> = Vec::new();
    for run in &progress.runs {
        let name = format!("{}/{}/seed-{}", run.arm, run.budget, run.seed);
        match &run.state {
            RunState::Finished => {}
            RunState::Diverged => {
                note_line!("error: {name}: its loss was no number any more");
                codes.push(code_of(ErrorClass::Numeric));
            }
            RunState::Failed(reason) => {
                note_line!("error: {name}: {reason}");
                codes.push(SEVERAL);
            }
            RunState::Begun | RunState::NotBegun => {
                note_line!("error: {name}: no task has brought it to its end");
                codes.push(code_of(ErrorClass::Resource));
            }
        }
    }
    if !codes.is_empty() {
        note_line!(
            "hint: what the tasks printed stands in the study's folder, in slurm/*.out; run the same command again to go on"
        );
    }
    codes.dedup();
    match codes[..] {
        [] => ExitCode::SUCCESS,
        [code] => ExitCode::from(code),
        _ => ExitCode::from(SEVERAL),
    }
}

/// What a task runs: this binary with the same arguments, paths from the root on.
fn command(args: &StudyArgs, folder: &Path, verbose: u8) -> Result<Vec<String>, Failed> {
    let binary = std::env::current_exe().map_err(|error| {
        let message = format!("the path of this program is not known: {error}");
        Failed::new(ErrorClass::Resource, message, "run it by its path")
    })?;
    let FileArgs { file, set, locked, signed, plugins } = &args.file;
    let mut words = vec![text(&binary)?, "study".into(), text(&absolute(file)?)?];
    words.extend(["--out".into(), text(folder)?]);
    words.extend(["--engine".into(), name_of(args.engine.engine)]);
    words.extend(["--device".into(), args.engine.device.to_string()]);
    for assignment in set {
        words.extend(["--set".into(), assignment.clone()]);
    }
    for path in &plugins.plugin_path {
        words.extend(["--plugin-path".into(), text(&absolute(path)?)?]);
    }
    let flags = [(*locked, "--locked"), (*signed, "--signed"), (args.no_sharing, "--no-sharing")];
    for (given, flag) in flags {
        words.extend(given.then(|| flag.to_owned()));
    }
    words.extend((0..verbose).map(|_| "--verbose".into()));
    Ok(words)
}

fn name_of(engine: EngineName) -> String {
    engine.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn absolute(path: &Path) -> Result<PathBuf, Failed> {
    std::path::absolute(path).map_err(|error| {
        let message = format!("{} cannot be told from the root on: {error}", path.display());
        Failed::new(ErrorClass::Resource, message, "name it by its whole path")
    })
}

fn text(path: &Path) -> Result<String, Failed> {
    path.to_str().map(ToOwned::to_owned).ok_or_else(|| {
        let message = format!("{} cannot stand in a script: its name is no UTF-8", path.display());
        Failed::new(ErrorClass::Config, message, "rename it")
    })
}
