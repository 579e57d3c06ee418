//! A study's folder read back and judged: every finished run is read once, by the readers beside this file, and whatever a report says
//! is put together here. What is written of it: `report/folder.rs`.

use std::path::Path;

use engine::Step;
use trainer::folder::RunFolder;
use trainer::folder::records::EvaluationRecord;
use trainer::storage::{read_json, read_json_lines};
use trainer::{RunSummary, TrainError, WallTime};

use super::beside::{ArmBeside, Beside, SkippedSteps};
use super::shared::Shared;
use super::suites::{self, SuiteMean};
use super::{edits, fairness, phases, sunk};
use crate::file::StudyFile;
use crate::planning::comparisons::{BASELINE_BUDGET, plans, runs_by_arm};
use crate::planning::sweep;
use crate::running::execute::Failure;
use crate::source::Source;
use crate::{Case, EvaluationPoint, FailedRun, Judgement, RunCurve, RunStatus, StudyError, judge};

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
/// A run's file or log that cannot be read, or what came of the study's sweep.
pub(crate) fn judged(file: &StudyFile, folder: &Path) -> Result<Judgement, StudyError> {
    judged_with_curves(file, folder).map(|(judgement, _)| judgement)
}

/// The same, with the curves of the runs that finished.
///
/// # Errors
/// As for `judged`.
pub(crate) fn judged_with_curves(
    file: &StudyFile,
    folder: &Path,
) -> Result<(Judgement, Vec<RunCurve>), StudyError> {
    let runs = folder.join("runs");
    let Read { curves, failed, arms, shared, skipped, suites } = read(file, &runs)?;
    let sweep = sweep::found(folder)?;
    let mut fairness = fairness::of(file, sweep.as_ref());
    fairness.extend(sunk::told(&curves, &runs)?);
    let beside = Beside { arms, sweep, fairness, shared, skipped, suites };
    let case = Case {
        study: &file.study.name,
        baseline: &file.study.baseline,
        baseline_budget: BASELINE_BUDGET,
        seeds: &file.study.seeds,
        equal_within_nats: file.study.equal_within_nats,
        arms: &plans(file),
        runs: &curves,
        failed: &failed,
    };
    let judgement = judge(&case, beside).map_err(|error| TrainError::Internal(error.to_string()))?;
    Ok((judgement, curves))
}

/// What all runs' folders say.
#[derive(Default)]
struct Read {
    curves: Vec<RunCurve>,
    failed: Vec<FailedRun>,
    arms: Vec<ArmBeside>,
    shared: Shared,
    skipped: Vec<SkippedSteps>,
    suites: Vec<SuiteMean>,
}

fn read(file: &StudyFile, runs: &Path) -> Result<Read, StudyError> {
    let mut read = Read::default();
    for (arm, budgets) in runs_by_arm(file) {
        let (mut walls, mut receipts) = (Vec::new(), Vec::new());
        for budget in &budgets {
            let mut asked = Vec::new();
            for &seed in &file.study.seeds {
                let folder = RunFolder::at(runs.join(&arm).join(budget).join(format!("seed-{seed}")));
                if !folder.is_done() {
                    read.failed.push(failure(&folder, &arm, budget, seed)?);
                    continue;
                }
                let RunSummary { run, costs, shared, skipped_steps, .. } = read_json(&folder.done_file())?;
                read.curves.push(curve(&folder, &arm, budget, seed, costs.alone)?);
                read.shared.add(costs.flops.total(), costs.wall.training_seconds);
                shared.iter().for_each(|copied| read.shared.add_copy(&arm, budget, copied));
                if !skipped_steps.is_empty() {
                    read.skipped.push(SkippedSteps { run, steps: skipped_steps });
                }
                walls.push(costs.wall);
                receipts.push(edits::receipts(&folder)?);
                asked.push(suites::last_of(&folder)?);
            }
            read.suites.extend(suites::figures(&arm, budget, &asked));
        }
        read.arms.push(ArmBeside { arm, mean_wall: WallTime::mean(&walls), edits: edits::means(&receipts) });
    }
    Ok(read)
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
    let end = points.last().map_or(Step(0), |point| point.step);
    let phases = phases::of(folder, end)?;
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
