//! What became of the runs, and by which rates they were trained.

use super::{Content, Section};
use crate::evidence::beside::SkippedSteps;
use crate::planning::sweep::{ArmSweep, Trial};
use crate::verdict::{ArmRole, ArmRuns, Judgement, RunStatus, nats};

pub(super) fn runs(judgement: &Judgement) -> Section {
    let header = vec!["arm", "planned", "finished", "diverged", "failed", "missing", "mean final loss"];
    let row = |runs: &ArmRuns| {
        let name = match runs.role {
            ArmRole::Baseline => format!("{} (baseline)", runs.arm),
            ArmRole::Compared => runs.arm.clone(),
        };
        let counts = [runs.planned, runs.finished, runs.diverged, runs.failed, runs.missing];
        let mut cells = vec![name];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(final_loss(runs));
        cells
    };
    Section::of("Runs", "", Content::Table { header, rows: judgement.runs.iter().map(row).collect() })
}

/// Mean over seeds at the end of the runs, budget by budget where there are several.
fn final_loss(runs: &ArmRuns) -> String {
    let mut budgets: Vec<(&str, Vec<f64>)> = Vec::new();
    for point in runs.final_points.iter().filter(|point| point.loss_nats_per_token.is_finite()) {
        match budgets.iter_mut().find(|(budget, _)| *budget == point.budget) {
            Some((_, losses)) => losses.push(point.loss_nats_per_token),
            None => budgets.push((&point.budget, vec![point.loss_nats_per_token])),
        }
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    match &budgets[..] {
        [] => "-".into(),
        [(_, losses)] => format!("{:.4}", mean(losses)),
        several => {
            let each = several.iter().map(|(budget, losses)| format!("{:.4} ({budget})", mean(losses)));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

pub(super) fn rates(judgement: &Judgement) -> Section {
    let row = |arm: &ArmSweep, trial: &Trial| {
        let chosen = if trial.rate == arm.chosen { "chosen" } else { "" };
        let loss = trial.mean_loss.map_or("diverged".into(), nats);
        vec![arm.arm.clone(), format!("{:e}", trial.rate), loss, chosen.into()]
    };
    let arms = judgement.beside.sweep.iter().flat_map(|sweep| &sweep.arms);
    let rows = arms.flat_map(|arm| arm.trials.iter().map(move |trial| row(arm, trial))).collect();
    let note = "Every arm was tried with the same rates and seeds, none of them the study's; it was then run with the one that ended \
         lowest. No arm is charged with the trials.";
    Section::of(
        "Learning rates",
        note,
        Content::Table { header: vec!["arm", "rate", "mean final loss", ""], rows },
    )
}

pub(super) fn skipped(judgement: &Judgement) -> Section {
    let of_run = |SkippedSteps { run, steps }: &SkippedSteps| {
        let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
        format!("{run}: {}", steps.join(", "))
    };
    let note = "Their loss or gradient was not finite, and no update was made (`training.on_non_finite`). Each run is charged with \
         them.";
    Section::of("Skipped steps", note, Content::List(judgement.beside.skipped.iter().map(of_run).collect()))
}

pub(super) fn failed(judgement: &Judgement) -> Section {
    let status = |status| match status {
        RunStatus::Diverged => "diverged",
        RunStatus::Failed => "failed",
        RunStatus::Missing => "missing",
    };
    let item = |run: &crate::FailedRun| {
        format!("{}/{}/seed-{} {}: {}", run.arm, run.budget, run.seed, status(run.status), run.reason)
    };
    Section::of("Runs without a result", "", Content::List(judgement.failed_runs.iter().map(item).collect()))
}
