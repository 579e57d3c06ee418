//! A study's folder read back: the runs' curves and failures, and the verdict on them. What is written of it: `report/folder.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use engine::Step;
use plugin_host::api::GrowthReceipt;
use trainer::folder::RunFolder;
use trainer::folder::records::EvaluationRecord;
use trainer::storage::{read_json, read_json_lines};
use trainer::{RunSummary, TrainError, WallTime};

use super::{edits, phases, suites};
use crate::file::{Comparison, StudyFile};
use crate::running::execute::Failure;
use crate::source::Source;
use crate::verdict::{Shared, SkippedSteps};
use crate::{
    ArmPlan, EvaluationPoint, Evidence, FailedRun, Judgement, RunCurve, RunStatus, StudyError, judge,
};

/// The study that a folder holds.
///
/// # Errors
/// A folder that is no study's.
pub(crate) fn study_of(folder: &Path) -> Result<StudyFile, StudyError> {
    let path = folder.join("study.toml");
    if !path.is_file() {
        return Err(StudyError::NoStudy { folder: folder.to_path_buf() });
    }
    Ok(Source::read(&path, &[])?.value()?)
}

/// The verdict on what its runs came to.
///
/// # Errors
/// A log that cannot be read.
pub(crate) fn judged(file: &StudyFile, runs: &Path) -> Result<Judgement, StudyError> {
    judged_with_curves(file, runs).map(|(judgement, _)| judgement)
}

/// The same, with the curves of the runs that finished.
///
/// # Errors
/// As for `judged`.
pub(crate) fn judged_with_curves(
    file: &StudyFile,
    runs: &Path,
) -> Result<(Judgement, Vec<RunCurve>), StudyError> {
    let baseline = &file.study.baseline;
    let others = file.arms.keys().filter(|arm| *arm != baseline);
    let arms: Vec<ArmPlan> = others.map(|arm| plan_of(file, arm)).collect();
    let (mut curves, mut failed) = (Vec::new(), Vec::new());
    let (mut shared, mut skipped) = (Shared::default(), Vec::new());
    let mut walls: BTreeMap<&str, Vec<WallTime>> = BTreeMap::new();
    let mut receipts: BTreeMap<&str, Vec<Vec<GrowthReceipt>>> = BTreeMap::new();
    let mut figures = Vec::new();
    let budgets = std::iter::once((baseline.as_str(), "tokens")).chain(arms.iter().flat_map(budgets_of));
    for (arm, budget) in budgets {
        let mut asked = Vec::new();
        for &seed in &file.study.seeds {
            let folder = RunFolder::at(runs.join(arm).join(budget).join(format!("seed-{seed}")));
            if folder.is_done() {
                let summary: RunSummary = read_json(&folder.done_file())?;
                curves.push(curve(&folder, arm, budget, seed, summary.costs.alone)?);
                shared.add(summary.costs.flops.total(), summary.costs.wall.training_seconds);
                summary.shared.iter().for_each(|copied| shared.add_copy(arm, budget, copied));
                if !summary.skipped_steps.is_empty() {
                    skipped.push(SkippedSteps { run: summary.run, steps: summary.skipped_steps });
                }
                walls.entry(arm).or_default().push(summary.costs.wall);
                receipts.entry(arm).or_default().push(edits::receipts(&folder)?);
                asked.push(suites::last_of(&folder)?);
            } else {
                failed.push(failure(&folder, arm, budget, seed)?);
            }
        }
        figures.extend(suites::figures(arm, budget, &asked));
    }
    let evidence = Evidence {
        equal_within_nats: file.study.equal_within_nats,
        study: &file.study.name,
        baseline,
        baseline_budget: "tokens",
        seeds: &file.study.seeds,
        arms: &arms,
        runs: &curves,
        failed: &failed,
    };
    let mut judgement = judge(&evidence).map_err(|error| TrainError::Internal(error.to_string()))?;
    for runs in &mut judgement.runs {
        runs.mean_wall = walls.get(runs.arm.as_str()).and_then(|walls| WallTime::mean(walls));
        runs.edits = receipts.get(runs.arm.as_str()).map(|runs| edits::means(runs)).unwrap_or_default();
    }
    (judgement.shared, judgement.skipped) = (shared, skipped);
    judgement.suites = figures;
    Ok((judgement, curves))
}

/// Arm and budget of every run that a study plans, seeds aside, the baseline's first.
pub(crate) fn planned_runs(file: &StudyFile) -> Vec<(String, String)> {
    let baseline = &file.study.baseline;
    let others = file.arms.keys().filter(|arm| *arm != baseline);
    let plans: Vec<ArmPlan> = others.map(|arm| plan_of(file, arm)).collect();
    let others = plans.iter().flat_map(budgets_of);
    let all = std::iter::once((baseline.as_str(), "tokens")).chain(others);
    all.map(|(arm, budget)| (arm.to_owned(), budget.to_owned())).collect()
}

/// Which of an arm's runs serve which comparison.
fn plan_of(file: &StudyFile, arm: &str) -> ArmPlan {
    let budgets = file.budgets(arm);
    let longest = budgets.last().copied();
    let compare = |comparison| file.study.compare.contains(&comparison);
    ArmPlan {
        arm: arm.to_owned(),
        token_matched: budgets.first().filter(|_| compare(Comparison::Tokens)).map(|&budget| budget.into()),
        compute_matched: longest.filter(|_| compare(Comparison::Compute)).map(Into::into),
        cost_to_reach: longest.map(Into::into),
    }
}

fn budgets_of(plan: &ArmPlan) -> impl Iterator<Item = (&str, &str)> {
    let mut budgets: Vec<&str> =
        [&plan.token_matched, &plan.cost_to_reach].into_iter().flatten().map(String::as_str).collect();
    budgets.dedup();
    budgets.into_iter().map(|budget| (plan.arm.as_str(), budget))
}

fn curve(
    folder: &RunFolder,
    arm: &str,
    budget: &str,
    seed: u64,
    alone: bool,
) -> Result<RunCurve, StudyError> {
    let records: Vec<EvaluationRecord> = read_json_lines(&folder.evaluations_file())?;
    let mut points: Vec<EvaluationPoint> = Vec::new();
    for record in records {
        // Two evaluations before one step: a strategy asked for the second after it had changed the model.
        if points.last().is_some_and(|last| last.step == record.step) {
            points.pop();
        }
        points.push(point(record));
    }
    let steps = points.last().map_or(0, |point| point.step.0);
    let phases = phases::of(folder, steps)?;
    let last_phase_at = phases.split_last().filter(|(_, before)| !before.is_empty());
    Ok(RunCurve {
        arm: arm.into(),
        budget: budget.into(),
        seed,
        alone,
        last_phase_at: last_phase_at.map(|(last, _)| Step(last.first_step)),
        points,
    })
}

fn point(record: EvaluationRecord) -> EvaluationPoint {
    EvaluationPoint {
        step: record.step,
        tokens: record.tokens,
        flops: record.flops,
        flops_weight_matmul: record.flops_weight_matmul,
        flops_li2024: record.flops_li2024,
        wall_seconds: record.wall_seconds,
        joules: record.joules,
        loss_nats_per_token: record.loss_nats_per_token,
        batches_sha256: record.batches_sha256,
    }
}

fn failure(folder: &RunFolder, arm: &str, budget: &str, seed: u64) -> Result<FailedRun, StudyError> {
    let (arm, budget) = (arm.to_owned(), budget.to_owned());
    let path = folder.failed_file();
    if path.is_file() {
        let Failure { reason, diverged, .. } = read_json(&path)?;
        let status = if diverged { RunStatus::Diverged } else { RunStatus::Failed };
        return Ok(FailedRun { arm, budget, seed, status, reason });
    }
    let begun = folder.run_file().is_file();
    let reason = if begun { "it is not finished" } else { "it has not been run" }.to_owned();
    Ok(FailedRun { arm, budget, seed, status: RunStatus::Missing, reason })
}
