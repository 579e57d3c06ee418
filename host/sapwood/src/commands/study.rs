//! `sapwood study` and `sapwood train`: runs what is missing, then judges.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use plugin_host::TimeSpent;
use study::sweep::{choose, trials, tuned};
use study::{
    BuildEngine, Executed, Execution, Lab, Packing, PlannedArm, Scope, Sharing, execute, run_folder,
};
use trainer::{ConfigError, ErrorClass, RunConfig, TrainError};

use super::{open_study, slurm};
use crate::args::{Executor, Jobs, StudyArgs, TrainArgs};
use crate::failure::{Failed, INTERRUPTED, SEVERAL, code_of};
use crate::output::{note_line, result_line, usage};
use crate::{Outcome, engines, log};

pub(crate) fn study(args: &StudyArgs, verbose: u8) -> Outcome {
    if let Some(contradiction) = args.contradiction() {
        return Ok(usage(&contradiction));
    }
    match (&args.only, args.executor) {
        (Some(run), _) => only(args, run, verbose),
        (None, Executor::Slurm) => slurm::study(args, verbose),
        (None, Executor::Local) => local(args, verbose),
    }
}

fn local(args: &StudyArgs, verbose: u8) -> Outcome {
    let builders = engines::builders(args.engine, &args.devices);
    let engines: Vec<BuildEngine<'_>> = builders.iter().map(|build| build as BuildEngine<'_>).collect();
    let mut lab = open_study(&args.file, engines[0])?;
    // What cannot work in the study itself is refused before the trials of a sweep.
    let folder = folder(args.out.clone(), &lab);
    let arms = lab.plan_for(&folder)?;
    log::into_folder(&folder, verbose)?;
    engines::log_choice(args.engine, &args.devices);
    let arms = if lab.file.sweep.is_some() {
        lab.check_suites()?;
        if let Some(code) = sweep(&mut lab, args, &engines, &folder)? {
            return Ok(code);
        }
        lab.plan_for(&folder)?
    } else {
        arms
    };
    let executed = run_planned(&lab, arms, args, &engines, &folder)?;
    if !executed.elsewhere.is_empty() {
        let (runs, folder) = (executed.elsewhere.len(), folder.display());
        note_line!("no verdict yet: others are to finish {runs} of its runs");
        note_line!(
            "hint: `sapwood status {folder}` tells how far they are, `sapwood report {folder}` what they came to"
        );
        return Ok(exit_code(&executed));
    }
    let report = study::report_folder(&folder)?;
    result_line!("{}", report.terminal);
    note_line!("report: {}", folder.join("report/report.html").display());
    Ok(exit_code(&executed))
}

/// Runs all of a sweep's trials, and gives every arm the rate that did best; a code where that has not come to its end.
fn sweep(
    lab: &mut Lab<'_>,
    args: &StudyArgs,
    engines: &[BuildEngine<'_>],
    folder: &Path,
) -> Result<Option<ExitCode>, Failed> {
    let file = lab.file.clone();
    for (below, trial) in trials(&file).map_err(|error| lab.source().locate(error))? {
        note_line!("sweep: {}", trial.study.name);
        lab.file = trial;
        let place = folder.join(below);
        let planned = lab.plan_for(&place)?;
        let executed = run_planned(lab, planned, args, engines, &place)?;
        // That a rate is too high for an arm is what a trial finds out.
        let is_found = |(_, error): &(String, TrainError)| error.class() == ErrorClass::Numeric;
        let is_open = executed.interrupted > 0 || !executed.elsewhere.is_empty();
        if is_open || !executed.failed.iter().all(is_found) {
            return Ok(Some(exit_code(&executed)));
        }
        study::report_folder(&place)?;
    }
    lab.file = match choose(&file, folder)? {
        Some(finding) => tuned(&file, &finding),
        None => file,
    };
    Ok(None)
}

fn run_planned(
    lab: &Lab<'_>,
    planned: Vec<PlannedArm>,
    args: &StudyArgs,
    engines: &[BuildEngine<'_>],
    folder: &Path,
) -> Result<Executed, Failed> {
    let (jobs, sharing) = (jobs(args, lab, &planned), sharing(args, &planned));
    let runs: Vec<RunConfig> = planned.into_iter().flat_map(|arm| arm.runs).collect();
    run(lab, &runs, folder, &Lanes { jobs, engines, scope: Scope::Study, sharing: &sharing })
}

fn sharing(args: &StudyArgs, planned: &[PlannedArm]) -> Sharing {
    if args.no_sharing { Sharing::default() } else { Sharing::of(planned) }
}

/// How many side by side, with a line in the log where the machine has decided.
fn jobs(args: &StudyArgs, lab: &Lab<'_>, arms: &[PlannedArm]) -> usize {
    match args.jobs {
        Jobs::Number(number) => number.into(),
        Jobs::Auto if !args.devices.is_empty() => args.devices.len(),
        Jobs::Auto => {
            let room = engines::room(args.engine);
            let Packing { jobs, reason } = study::pack(arms, lab.file.study.threads_per_run, &room);
            tracing::info!("{jobs} runs side by side, chosen by `--jobs auto`: {reason}");
            jobs
        }
    }
}

/// One run of a study that others work on, too. Its log lies beside it: not every shared file system lets several
/// machines add to one file.
fn only(args: &StudyArgs, name: &str, verbose: u8) -> Outcome {
    let build = engines::builder(args.engine);
    let lab = open_study(&args.file, &build)?;
    refuse_sweep(&lab)?;
    let folder = folder(args.out.clone(), &lab);
    let planned = lab.plan_for(&folder)?;
    let sharing = sharing(args, &planned);
    let mut runs = planned.into_iter().flat_map(|arm| arm.runs);
    let Some(run_config) = runs.find(|run| run.name() == name) else {
        let hint = "runs are named ARM/BUDGET/seed-N; `sapwood plan FILE --json` lists them";
        return Err(Failed::new(ErrorClass::Config, format!("the study has no run `{name}`"), hint));
    };
    log::into_folder(run_folder(&folder, &run_config).path(), verbose)?;
    engines::log_choice(args.engine, &[]);
    one(&lab, &run_config, &folder, Scope::TheseRuns, &sharing)
}

pub(crate) fn train(args: &TrainArgs, verbose: u8) -> Outcome {
    let build = engines::builder(args.engine);
    let lab = open_study(&args.file, &build)?;
    refuse_sweep(&lab)?;
    let arm = chosen_arm(args, &lab)?;
    let seed = args.seed.unwrap_or(lab.file.study.seeds[0]);
    let folder = folder(args.out.clone(), &lab);
    // A seed that the study does not name is a run like any other.
    let planned = lab.plan_for(&folder)?.into_iter().find(|planned| planned.arm == arm);
    let mut run_config =
        planned.and_then(|planned| planned.runs.into_iter().next_back()).ok_or_else(|| {
            Failed::new(ErrorClass::Internal, format!("the arm `{arm}` has no run"), "please report this")
        })?;
    run_config.seed = seed;
    log::into_folder(&folder, verbose)?;
    engines::log_choice(args.engine, &[]);
    one(&lab, &run_config, &folder, Scope::Study, &Sharing::default())
}

/// One run, and what it came to.
fn one(lab: &Lab<'_>, run_config: &RunConfig, folder: &Path, scope: Scope, sharing: &Sharing) -> Outcome {
    let executed =
        run(lab, std::slice::from_ref(run_config), folder, &Lanes { jobs: 1, engines: &[], scope, sharing })?;
    for summary in &executed.done {
        result_line!(
            "{}: {} steps, {} tokens, {:.3e} FLOPs, validation loss {:.4} nats per token, {:.1} s of training",
            summary.run,
            summary.steps,
            summary.costs.tokens,
            summary.costs.flops.total().as_f64(),
            summary.loss_nats_per_token,
            summary.costs.wall.training_seconds,
        );
    }
    if executed.already_done > 0 {
        let place = run_folder(folder, run_config);
        let (run, place) = (run_config.name(), place.path().display());
        result_line!("{run}: finished before; delete {place} to run it again");
    }
    Ok(exit_code(&executed))
}

/// A run by itself is not known before its study's sweep has come to its end.
pub(super) fn refuse_sweep(lab: &Lab<'_>) -> Result<(), Failed> {
    if lab.file.sweep.is_none() {
        return Ok(());
    }
    let message = "a run of this study depends on what its sweep comes to";
    let hint =
        "run `sapwood study FILE` on one machine, or write the rates that a sweep has found into the arms";
    Err(lab.source().locate(ConfigError::new("sweep", message, hint)).into())
}

fn chosen_arm(args: &TrainArgs, lab: &Lab<'_>) -> Result<String, Failed> {
    let arms: Vec<&String> = lab.file.arms.keys().collect();
    match &args.arm {
        Some(arm) if lab.file.arms.contains_key(arm) => Ok(arm.clone()),
        None if arms.len() == 1 => Ok(arms[0].clone()),
        named => {
            let message = match named {
                Some(arm) => format!("there is no arm `{arm}`"),
                None => "the study has several arms".into(),
            };
            let arms: Vec<&str> = arms.iter().map(|arm| arm.as_str()).collect();
            let hint = format!("choose one with --arm: {}", arms.join(", "));
            Err(lab.source().locate(ConfigError::new("arms", message, hint)).into())
        }
    }
}

pub(super) fn folder(out: Option<PathBuf>, lab: &Lab<'_>) -> PathBuf {
    out.unwrap_or_else(|| PathBuf::from("runs").join(&lab.file.study.name))
}

/// Where runs compute side by side, and which they are.
struct Lanes<'a> {
    jobs: usize,
    engines: &'a [BuildEngine<'a>],
    scope: Scope,
    sharing: &'a Sharing,
}

fn run(
    lab: &Lab<'_>,
    runs: &[RunConfig],
    folder: &Path,
    &Lanes { jobs, engines, scope, sharing }: &Lanes<'_>,
) -> Result<Executed, Failed> {
    heed_signals();
    let (interrupt, terminal) = (&INTERRUPT, std::io::stderr().is_terminal());
    let how = Execution { folder, jobs, engines, scope, interrupt, terminal, sharing };
    let executed = execute(lab, runs, &how)?;
    tell(&executed);
    Ok(executed)
}

/// What did not go as it should.
fn tell(executed: &Executed) {
    for (run, error) in &executed.failed {
        note_line!("error: {run}: {error}");
        note_line!("hint: {}", error.hint());
    }
    for summary in &executed.done {
        if !summary.skipped_steps.is_empty() {
            let steps: Vec<String> = summary.skipped_steps.iter().map(ToString::to_string).collect();
            note_line!(
                "warning: {}: {} of its steps made no update, since the loss or gradient was not finite: {}",
                summary.run,
                steps.len(),
                steps.join(", ")
            );
        }
        for shadow in &summary.dropped_shadows {
            note_line!("warning: {}: {shadow}; the run went on without it", summary.run);
        }
    }
    for reporter in &executed.reporters {
        if let Some(TimeSpent { calls, seconds }) = reporter.spent {
            tracing::info!("the reporter {}: {calls} calls, {seconds:.3} s beside training", reporter.id);
        }
        if let Some(failure) = &reporter.failure {
            note_line!("warning: {failure}; the study went on without it");
        }
        if reporter.dropped_events > 0 {
            note_line!("warning: {} missed {} step events", reporter.id, reporter.dropped_events);
        }
    }
    if executed.interrupted > 0 {
        note_line!("interrupted: {} runs are to go on; run the same command again", executed.interrupted);
    }
    for (run, holder) in &executed.elsewhere {
        note_line!("left alone: {run}, which {holder} works on");
    }
}

/// Set by the first signal to stop. Signals are of the whole process, so this is too.
static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// From the first time on, a signal has all runs saved.
fn heed_signals() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let installed = ctrlc::set_handler(|| {
            if INTERRUPT.swap(true, Ordering::Relaxed) {
                // The second time: whatever is not saved by now is wanted less than an end.
                plugin_host::blame::end();
                #[allow(clippy::exit)]
                std::process::exit(INTERRUPTED.into());
            }
            note_line!("saving; once more stops at once");
        });
        if let Err(error) = installed {
            tracing::warn!("signals are not handled: {error}");
        }
    });
}

fn exit_code(executed: &Executed) -> ExitCode {
    if executed.interrupted > 0 {
        return ExitCode::from(INTERRUPTED);
    }
    let mut codes: Vec<u8> = executed.failed.iter().map(|(_, error)| code_of(error.class())).collect();
    if codes.is_empty() && !executed.elsewhere.is_empty() {
        codes.push(code_of(ErrorClass::Resource));
    }
    codes.dedup();
    match codes[..] {
        [] => ExitCode::SUCCESS,
        [code] => ExitCode::from(code),
        _ => ExitCode::from(SEVERAL),
    }
}
