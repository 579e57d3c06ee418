//! A learning rate for each arm, looked for in the same way: every arm is tried with the same rates, on seeds that the study
//! does not judge by, and is then run with the one that ended lowest.
//!
//! A rate's trials are a study of their own, below `STUDY/sweep/`: planned, run, gone on with and reported like any other.

use std::path::{Path, PathBuf};

use engine::Flops;
use serde::{Deserialize, Serialize};
use trainer::storage::{read_json, write_json};
use trainer::{ConfigError, TrainError};

use crate::evidence::results::judged;
use crate::file::{BudgetSection, StudyFile};
use crate::{ArmRuns, Judgement, StudyError};

/// The rates that every arm is tried with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepSection {
    /// Highest learning rates, in the place of `schedule.rate`.
    pub rates: Vec<f64>,
    /// Seeds of the trials, none of them the study's.
    pub seeds: Vec<u64>,
    /// A trial's budget as a share of the study's (default: all of it).
    #[serde(default = "all")]
    pub budget_fraction: f64,
}

fn all() -> f64 {
    1.0
}

/// What came of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepFinding {
    /// Seeds of the trials.
    pub seeds: Vec<u64>,
    /// Steps that the baseline had in a trial.
    pub reference_steps: u64,
    /// Exact FLOPs of all trials; no arm is charged with them.
    pub flops: Flops,
    /// The baseline first.
    pub arms: Vec<ArmSweep>,
}

/// An arm's trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmSweep {
    /// The arm.
    pub arm: String,
    /// One a rate, in the order of the file.
    pub trials: Vec<Trial>,
    /// The rate that ended lowest.
    pub chosen: f64,
}

/// What an arm came to with a rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The rate.
    pub rate: f64,
    /// Mean final validation loss over the seeds, in nats per token; `None` where one of them diverged.
    pub mean_loss: Option<f64>,
}

impl ArmSweep {
    /// The rate that ended lowest stands at an end of the grid: a better one may lie beyond.
    pub fn is_at_an_end(&self) -> bool {
        let rates = || self.trials.iter().map(|trial| trial.rate);
        rates().all(|rate| rate <= self.chosen) || rates().all(|rate| rate >= self.chosen)
    }
}

impl SweepSection {
    pub(crate) fn check(&self, study_seeds: &[u64]) -> Result<(), ConfigError> {
        let error = |key: &str, message: String, hint: &str| {
            Err(ConfigError::new(format!("sweep.{key}"), message, hint))
        };
        if self.rates.len() < 2 {
            return error(
                "rates",
                "`sweep.rates` leaves nothing to choose".into(),
                "give at least two rates",
            );
        }
        for (index, rate) in self.rates.iter().enumerate() {
            if !(*rate > 0.0 && *rate <= 10.0) {
                return error("rates", format!("a rate is {rate}"), "choose positive rates, at most 10");
            }
            if self.rates[..index].contains(rate) {
                return error("rates", format!("{rate:e} stands in `sweep.rates` twice"), "remove one");
            }
        }
        if self.seeds.is_empty() {
            return error("seeds", "`sweep.seeds` is empty".into(), "give at least one");
        }
        for (index, seed) in self.seeds.iter().enumerate() {
            if study_seeds.contains(seed) {
                let message = format!("seed {seed} stands in `sweep.seeds` and in `study.seeds`");
                return error(
                    "seeds",
                    message,
                    "a rate chosen by a seed must not be judged by it; take another",
                );
            }
            if self.seeds[..index].contains(seed) {
                return error("seeds", format!("seed {seed} stands in `sweep.seeds` twice"), "remove one");
            }
        }
        if !(self.budget_fraction > 0.0 && self.budget_fraction <= 1.0) {
            let message = format!("`sweep.budget_fraction` is {}", self.budget_fraction);
            return error(
                "budget_fraction",
                message,
                "choose a share of the study's budget, above 0 and at most 1",
            );
        }
        Ok(())
    }
}

/// The studies that a sweep consists of, each with its folder in the study's.
///
/// # Errors
/// A budget that makes no sense.
pub fn trials(file: &StudyFile) -> Result<Vec<(PathBuf, StudyFile)>, ConfigError> {
    let Some(sweep) = &file.sweep else { return Ok(Vec::new()) };
    let steps = (file.reference_steps()? as f64 * sweep.budget_fraction).ceil() as u64;
    let trial = |&rate: &f64| {
        let mut trial = StudyFile {
            sweep: None,
            budget: BudgetSection { steps: Some(steps), tokens: None },
            ..file.clone()
        };
        trial.study.name = format!("{}, rate {rate:e}", file.study.name);
        trial.study.seeds.clone_from(&sweep.seeds);
        trial.schedule.rate = rate;
        // A rate is chosen by its loss alone.
        trial.evaluation.suites.clear();
        for schedule in trial.arms.values_mut().filter_map(|arm| arm.schedule.as_mut()) {
            schedule.rate = rate;
        }
        (PathBuf::from(format!("sweep/rate-{rate:e}")), trial)
    };
    Ok(sweep.rates.iter().map(trial).collect())
}

/// Reads what the trials in a study's folder came to, and writes the choice beside them.
///
/// # Errors
/// Trials that are not finished, or an arm that diverged with every rate.
pub fn choose(file: &StudyFile, study: &Path) -> Result<Option<SweepFinding>, StudyError> {
    let Some(sweep) = &file.sweep else { return Ok(None) };
    let (mut reference_steps, mut judgements) = (0, Vec::new());
    for ((folder, trial), &rate) in trials(file).map_err(TrainError::from)?.iter().zip(&sweep.rates) {
        let folder = study.join(folder);
        let judgement = judged(trial, &folder)?;
        let open: usize = judgement.runs.iter().map(|runs| runs.failed + runs.missing).sum();
        if open > 0 {
            return Err(StudyError::NotFinished { folder, runs: open });
        }
        reference_steps = trial.reference_steps().map_err(TrainError::from)?;
        judgements.push((rate, judgement));
    }
    let arms = file.arms.keys().map(|arm| of_arm(file, arm, &judgements)).collect::<Result<_, _>>()?;
    let flops = judgements.iter().fold(Flops(0), |sum, (_, judgement)| sum + judgement.beside.shared.flops);
    let finding = SweepFinding { seeds: sweep.seeds.clone(), reference_steps, flops, arms };
    write_json(&file_of(study), &finding)?;
    Ok(Some(finding))
}

fn of_arm(file: &StudyFile, arm: &str, judgements: &[(f64, Judgement)]) -> Result<ArmSweep, StudyError> {
    let budget = file.budgets(arm).last().copied().unwrap_or_default();
    let trial = |(rate, judgement): &(f64, Judgement)| {
        let runs = judgement.runs.iter().find(|runs| runs.arm == arm);
        Trial { rate: *rate, mean_loss: runs.and_then(|runs| mean_loss(runs, budget)) }
    };
    let trials: Vec<Trial> = judgements.iter().map(trial).collect();
    let lowest = trials.iter().filter_map(|trial| Some((trial.rate, trial.mean_loss?)));
    let lowest = lowest.min_by(|(_, one), (_, other)| one.total_cmp(other));
    let (chosen, _) = lowest.ok_or_else(|| StudyError::EveryRateDiverged { arm: arm.to_owned() })?;
    Ok(ArmSweep { arm: arm.to_owned(), trials, chosen })
}

fn mean_loss(runs: &ArmRuns, budget: &str) -> Option<f64> {
    let points = runs.final_points.iter().filter(|point| point.budget == budget);
    let losses: Vec<f64> = points.map(|point| point.loss_nats_per_token).collect();
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    (runs.diverged == 0 && mean.is_finite()).then_some(mean)
}

/// The study with the rates that its arms were found to do best with.
pub fn tuned(file: &StudyFile, finding: &SweepFinding) -> StudyFile {
    let mut tuned = file.clone();
    for ArmSweep { arm, chosen, .. } in &finding.arms {
        if let Some(arm) = tuned.arms.get_mut(arm) {
            let schedule = arm.schedule.get_or_insert_with(|| file.schedule.clone());
            schedule.rate = *chosen;
        }
    }
    tuned
}

/// What a study's sweep came to, where it had one.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn found(study: &Path) -> Result<Option<SweepFinding>, StudyError> {
    let path = file_of(study);
    Ok(if path.is_file() { Some(read_json(&path)?) } else { None })
}

fn file_of(study: &Path) -> PathBuf {
    study.join("sweep.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(losses: &[Option<f64>], chosen: f64) -> ArmSweep {
        let rates = [1e-3, 3e-3, 1e-2];
        let trial = |(&mean_loss, rate): (&Option<f64>, f64)| Trial { rate, mean_loss };
        ArmSweep { arm: "arm".into(), trials: losses.iter().zip(rates).map(trial).collect(), chosen }
    }

    #[test]
    fn a_rate_at_an_end_of_the_grid_is_told() {
        let losses = [Some(2.0), Some(1.0), None];
        let at_an_end = [1e-3, 3e-3, 1e-2].map(|chosen| arm(&losses, chosen).is_at_an_end());
        assert_eq!(at_an_end, [true, false, true]);
    }

    #[test]
    fn a_sweep_that_leaves_nothing_to_choose_or_judges_by_its_own_seeds_is_refused() {
        let good = SweepSection { rates: vec![1e-3, 1e-2], seeds: vec![7], budget_fraction: 0.5 };
        assert_eq!(good.check(&[1, 2]), Ok(()));
        let bad = [
            (SweepSection { rates: vec![1e-3], ..good.clone() }, "sweep.rates"),
            (SweepSection { rates: vec![1e-3, 1e-3], ..good.clone() }, "sweep.rates"),
            (SweepSection { rates: vec![1e-3, -1.0], ..good.clone() }, "sweep.rates"),
            (SweepSection { rates: vec![1e-3, f64::NAN], ..good.clone() }, "sweep.rates"),
            (SweepSection { seeds: vec![], ..good.clone() }, "sweep.seeds"),
            (SweepSection { seeds: vec![2], ..good.clone() }, "sweep.seeds"),
            (SweepSection { seeds: vec![7, 7], ..good.clone() }, "sweep.seeds"),
            (SweepSection { budget_fraction: 0.0, ..good.clone() }, "sweep.budget_fraction"),
            (SweepSection { budget_fraction: 1.5, ..good }, "sweep.budget_fraction"),
        ];
        for (sweep, key) in bad {
            assert_eq!(sweep.check(&[1, 2]).expect_err("it makes no sense").key, key, "{sweep:?}");
        }
    }
}
