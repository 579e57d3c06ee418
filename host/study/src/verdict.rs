//! From the curves of all runs to a judgement: every arm against its paired baseline, at equal tokens, at
//! equal compute, and by the cost to reach the baseline's final loss. Pure functions; files, clocks and
//! layout are elsewhere.
//!
//! A pair is one seed: the same initial model and, shown by the hash of the batches, the same data. What
//! cannot be paired is listed with its reason, a run that diverged is counted, and nothing is
//! extrapolated.
//!
//! ```text
//! case ─ runs ─ compare: an arm ┬ losses (at equal tokens, at equal compute) ─ outcome
//!                               ├ reach, ledgers, crossover, continual           ├► judgement
//!                               └ sentence; of all arms a paragraph ─────────────┘
//! ```
//!
//! Another comparison is a file like `reach.rs`, a field of `Compared` and of [`ArmJudgement`], a clause in `sentence.rs` if the verdict is to
//! say it, a table in `report/sections/`, and a key in `report/json.rs`.

mod case;
mod compare;
mod continual;
mod crossover;
mod judgement;
mod ledgers;
mod losses;
#[cfg(test)]
pub(crate) mod made_up;
mod outcome;
mod pair;
mod paragraph;
mod reach;
mod rounding;
mod runs;
mod sentence;
pub(crate) mod statistics;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod truth;

use crate::Beside;
use crate::verdict::statistics::holm;
use runs::Runs;

pub use case::{ArmPlan, Case, FailedRun, JudgeError, RunStatus};
pub use continual::{Continual, LedgerSteps, SeedContinual};
pub use crossover::{Ahead, Crossover, SeedCrossover};
pub use judgement::{ArmJudgement, ArmVerdict, Headline, Judgement};
pub use ledgers::{LedgerCosts, LedgerRatios, SeedLedger};
pub use losses::{LossDifference, LossPair};
pub use outcome::Outcome;
pub use pair::LeftOut;
pub use reach::{CostToReach, Reach, SeedReach};
pub(crate) use rounding::{at_most_known, nats, p_value, ratio, signed_nats};
pub use runs::{ArmRole, ArmRuns, FinalPoint};

/// Compares every arm with the baseline. What is told beside the verdict goes along as it is.
///
/// # Errors
/// A case that contradicts itself. What is missing is no error: the judgement says so.
pub fn judge(case: &Case<'_>, beside: Beside) -> Result<Judgement, JudgeError> {
    let runs = Runs::checked(case)?;
    let mut compared: Vec<_> = case.arms.iter().map(|plan| compare::arm(&runs, plan)).collect();
    correct_over_arms(compared.iter_mut().filter_map(|arm| arm.token_matched.as_mut()).collect());
    correct_over_arms(compared.iter_mut().filter_map(|arm| arm.compute_matched.as_mut()).collect());
    let seeds = case.seeds.len();
    let arms: Vec<ArmJudgement> = compared.into_iter().map(|arm| arm.judged(seeds)).collect();
    let arm_runs = runs.by_arm();
    Ok(Judgement {
        study: case.study.into(),
        baseline: case.baseline.into(),
        seeds: case.seeds.into(),
        verdict: paragraph::of(case, &arms, &arm_runs),
        runs: arm_runs,
        arms,
        failed_runs: runs.without_result(),
        beside,
    })
}

/// One family of tests for each kind of comparison.
fn correct_over_arms(mut family: Vec<&mut LossDifference>) {
    let p_values: Vec<Option<f64>> = family.iter().map(|difference| difference.p()).collect();
    let members = p_values.iter().flatten().count();
    for (difference, corrected) in family.iter_mut().zip(holm(&p_values)) {
        difference.holm_p = corrected;
        difference.holm_family = members;
    }
}
