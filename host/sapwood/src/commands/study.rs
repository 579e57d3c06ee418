//! `sapwood study` and `sapwood train`: runs what is missing, then judges.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use plugin_host::TimeSpent;
use study::{Executed, Execution, Lab, execute, run_folder};
use trainer::{ConfigError, ErrorClass, RunConfig};

use super::open_study;
use crate::args::{StudyArgs, TrainArgs};
use crate::failure::{Failed, INTERRUPTED, SEVERAL, code_of};
use crate::output::{note_line, result_line};
use crate::{Outcome, engines, log};

pub(crate) fn study(args: &StudyArgs, verbose: u8) -> Outcome {
    let build = engines::builder(args.engine);
    let lab = open_study(&args.file, &build)?;
    let runs: Vec<RunConfig> = lab.plan()?.into_iter().flat_map(|arm| arm.runs).collect();
    let folder = folder(args.out.clone(), &lab);
    log::into_folder(&folder, verbose)?;
    engines::log_choice(args.engine);
    let executed = run(&lab, &runs, &folder, args.jobs.map(usize::from))?;
    let report = study::report_folder(&folder)?;
    result_line!("{}", report.terminal);
    note_line!("report: {}", folder.join("report/report.html").display());
    Ok(exit_code(&executed))
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
    engines::log_choice(args.engine);
    let executed = run(&lab, std::slice::from_ref(&run_config), &folder, Some(1))?;
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
        let place = run_folder(&folder, &run_config);
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

fn folder(out: Option<PathBuf>, lab: &Lab<'_>) -> PathBuf {
    out.unwrap_or_else(|| PathBuf::from("runs").join(&lab.file.study.name))
}

fn run(
    lab: &Lab<'_>,
    runs: &[RunConfig],
    folder: &std::path::Path,
    jobs: Option<usize>,
) -> Result<Executed, Failed> {
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
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.unwrap_or((cores / lab.file.study.threads_per_run).max(1));
    let terminal = std::io::stderr().is_terminal();
    let executed = execute(lab, runs, &Execution { folder, jobs, interrupt: &INTERRUPT, terminal })?;
    for (run, error) in &executed.failed {
        note_line!("error: {run}: {error}");
        note_line!("hint: {}", error.hint());
    }
    for summary in &executed.done {
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
    Ok(executed)
}

fn exit_code(executed: &Executed) -> ExitCode {
    if executed.interrupted > 0 {
        return ExitCode::from(INTERRUPTED);
    }
    let mut codes: Vec<u8> = executed.failed.iter().map(|(_, error)| code_of(error.class())).collect();
    codes.dedup();
    match codes[..] {
        [] => ExitCode::SUCCESS,
        [code] => ExitCode::from(code),
        _ => ExitCode::from(SEVERAL),
    }
}
