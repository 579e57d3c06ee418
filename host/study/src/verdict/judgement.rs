//! A study, judged: all that `judge` answers. What an arm's comparisons consist of stands with each of them (`losses.rs`, `reach.rs`,
//! `ledgers.rs`, `crossover.rs`, `continual.rs`), what became of its runs in `runs.rs`, and what is told beside the verdict in
//! `evidence/beside.rs`.

use serde::Serialize;

use super::{ArmRuns, Continual, CostToReach, Crossover, FailedRun, LedgerCosts, LossDifference, Outcome};
use crate::Beside;

/// A study, judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The study's name.
    pub study: String,
    /// The arm that all others are compared with.
    pub baseline: String,
    /// The seeds that every arm was to run with.
    pub seeds: Vec<u64>,
    /// What became of the runs, the baseline's first.
    pub runs: Vec<ArmRuns>,
    /// Every other arm against the baseline.
    pub arms: Vec<ArmJudgement>,
    /// All runs without a result that could be compared, those that diverged among them.
    pub failed_runs: Vec<FailedRun>,
    /// The verdict on the study, one paragraph.
    pub verdict: String,
    /// What is told beside it; no comparison depends on it.
    pub beside: Beside,
}

/// An arm against the baseline. A comparison that was not planned is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmJudgement {
    /// The arm.
    pub arm: String,
    /// The verdict in words.
    pub verdict: ArmVerdict,
    /// At the tokens at which the baseline ends.
    pub token_matched: Option<LossDifference>,
    /// At the exact FLOPs at which the baseline ends.
    pub compute_matched: Option<LossDifference>,
    /// What the baseline's final loss costs.
    pub cost_to_reach: Option<CostToReach>,
    /// What the same tokens cost, by all three ledgers.
    pub costs: Option<LedgerCosts>,
    /// Until when it is ahead after the same exact FLOPs; `None` where nothing is in common.
    pub crossover: Option<Crossover>,
    /// Training after its last change, where there was one.
    pub continual: Option<Continual>,
}

/// The verdict on an arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmVerdict {
    /// What it comes to.
    pub outcome: Outcome,
    /// The comparison that it rests on.
    pub headline: Option<Headline>,
    /// A sentence made from the numbers below it and nothing else.
    pub sentence: String,
}

/// The comparison that a verdict rests on: compute-matched where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Headline {
    /// At equal compute.
    ComputeMatched,
    /// At equal tokens.
    TokenMatched,
}

impl ArmJudgement {
    /// The comparison that the verdict rests on.
    pub fn headline(&self) -> Option<&LossDifference> {
        match self.verdict.headline? {
            Headline::ComputeMatched => self.compute_matched.as_ref(),
            Headline::TokenMatched => self.token_matched.as_ref(),
        }
    }
}
