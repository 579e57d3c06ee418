//! `sapwood status`: how far a study is, from its files.

use std::process::ExitCode;

use study::{RunProgress, RunState, StudyProgress};

use trainer::ErrorClass;

use crate::Outcome;
use crate::args::StatusArgs;
use crate::failure::Failed;
use crate::output::{duration, result_line};

pub(crate) fn status(args: &StatusArgs) -> Outcome {
    let progress = study::progress(&args.folder)?;
    if args.json {
        let json = serde_json::to_string_pretty(&progress)
            .map_err(|error| Failed::new(ErrorClass::Internal, error, "please report this"))?;
        result_line!("{json}");
        return Ok(ExitCode::SUCCESS);
    }
    result_line!("{}", summary(&progress));
    let name = |run: &RunProgress| format!("{}/{}/seed-{}", run.arm, run.budget, run.seed);
    let widest = progress.runs.iter().map(|run| name(run).len()).max().unwrap_or(0);
    for run in &progress.runs {
        let loss = run.loss_nats_per_token.map_or(String::new(), |loss| format!("loss {loss:.4}"));
        let holder = run.holder.as_ref().map_or(String::new(), |holder| format!("by {holder}"));
        let row = format!(
            "{:<widest$}  {:>5.1} %  {:<12}  {loss:<11}  {holder}",
            name(run),
            100.0 * run.share,
            words(&run.state)
        );
        result_line!("{}", row.trim_end());
        if let RunState::Failed(reason) = &run.state {
            result_line!("{:widest$}  {reason}", "");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line on the whole.
pub(crate) fn summary(progress: &StudyProgress) -> String {
    let count = |state: RunState| progress.count(|other| *other == state);
    let failed = progress.count(|state| matches!(state, RunState::Failed(_)));
    let counts = [
        (count(RunState::Finished), "finished"),
        (count(RunState::Begun), "begun"),
        (count(RunState::NotBegun), "to come"),
        (count(RunState::Diverged), "diverged"),
        (failed, "failed"),
    ];
    let counts =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}"));
    let work = match (progress.seconds_left, progress.is_at_work) {
        (None, _) if count(RunState::Begun) + count(RunState::NotBegun) == 0 => {
            "nothing is left to do".to_owned()
        }
        (None, _) => "its pace is not known yet".to_owned(),
        (Some(left), true) => format!("at work, about {} left", duration(left)),
        (Some(left), false) => format!("nobody is at work on it, about {} left", duration(left)),
    };
    let counts = counts.collect::<Vec<_>>().join(", ");
    format!(
        "{}: {} runs, {counts}; {:.0} % done, {work}",
        progress.study,
        progress.runs.len(),
        100.0 * progress.share()
    )
}

pub(crate) fn words(state: &RunState) -> &'static str {
    match state {
        RunState::Finished => "finished",
        RunState::Diverged => "diverged",
        RunState::Failed(_) => "failed",
        RunState::Begun => "begun",
        RunState::NotBegun => "to come",
    }
}
