//! `sapwood study` and `sapwood train`: runs what is missing, then judges.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use plugin_host::TimeSpent;
use study::{BuildEngine, Executed, Execution, Lab, Packing, PlannedArm, Scope, execute, run_folder};
use trainer::{ConfigError, ErrorClass, RunConfig};

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
    let lab = open_study(&args.file, engines[0])?;
    let arms = lab.plan()?;
    let folder = folder(args.out.clone(), &lab);
    log::into_folder(&folder, verbose)?;
    engines::log_choice(args.engine, &args.devices);
    let jobs = jobs(args, &lab, &arms);
    let runs: Vec<RunConfig> = arms.into_iter().flat_map(|arm| arm.runs).collect();
    let executed = run(&lab, &runs, &folder, &Lanes { jobs, engines: &engines, scope: Scope::Study })?;
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
    let mut runs = lab.plan()?.into_iter().flat_map(|arm| arm.runs);
    let Some(run_config) = runs.find(|run| run.name() == name) else {
        let hint = "runs are named ARM/BUDGET/seed-N; `sapwood plan FILE --json` lists them";
        return Err(Failed::new(ErrorClass::Config, format!("the study has no run `{name}`"), hint));
    };
    let folder = folder(args.out.clone(), &lab);
    log::into_folder(run_folder(&folder, &run_config).path(), verbose)?;
    engines::log_choice(args.engine, &[]);
    one(&lab, &run_config, &folder, Scope::TheseRuns)
}

pub(crate) fn train(args: &TrainArgs, verbose: u8) -> Outcome {
    let build = engines::builder(args.engine);
    let lab = open_study(&args.file, &build)?;
    let arm = chosen_arm(args, &lab)?;
    let seed = args.seed.unwrap_or(lab.file.study.seeds[0]);
    // A seed that the study does not name is a run like any other.
    let planned = lab.plan()?.into_iter().find(|planned| planned.arm == arm);
    let mut run_config =
        planned.and_then(|planned| planned.runs.into_iter().next_back()).ok_or_else(|| {
            Failed::new(ErrorClass::Internal, format!("the arm `{arm}` has no run"), "please report this")
        })?;
    run_config.seed = seed;
    let folder = folder(args.out.clone(), &lab);
    log::into_folder(&folder, verbose)?;
    engines::log_choice(args.engine, &[]);
    one(&lab, &run_config, &folder, Scope::Study)
}

/// One run, and what it came to.
fn one(lab: &Lab<'_>, run_config: &RunConfig, folder: &Path, scope: Scope) -> Outcome {
    let executed =
        run(lab, std::slice::from_ref(run_config), folder, &Lanes { jobs: 1, engines: &[], scope })?;
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
}

fn run(
    lab: &Lab<'_>,
    runs: &[RunConfig],
    folder: &Path,
    &Lanes { jobs, engines, scope }: &Lanes<'_>,
) -> Result<Executed, Failed> {
    let (interrupt, terminal) = (interrupts(), std::io::stderr().is_terminal());
    let executed = execute(lab, runs, &Execution { folder, jobs, engines, scope, interrupt, terminal })?;
    tell(&executed);
    Ok(executed)
}

/// Set when somebody wants all runs saved and stopped.
fn interrupts() -> &'static AtomicBool {
    static INTERRUPT: AtomicBool = AtomicBool::new(false);
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
    &INTERRUPT
}

/// What did not go as it should.
fn tell(executed: &Executed) {
    for (run, error) in &executed.failed {
        note_line!("error: {run}: {error}");
        note_line!("hint: {}", error.hint());
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
