//! What a judgement consists of. How it is reached is not here, nor how it is laid out.

use engine::{Flops, Step, Tokens};
use plugin_host::api::{Claim, Widths};
use serde::{Serialize, Serializer};
use trainer::WallTime;

use crate::verdict::statistics::{Equivalence, PairedStatistics, Summary};
use crate::verdict::{Continual, FailedRun, Shared};
use crate::{SuiteMean, SweepFinding};

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
    /// What came of looking for a learning rate for each arm.
    pub sweep: Option<SweepFinding>,
    /// Whether arms had the same chance to find one, in words.
    pub fairness: Vec<String>,
    /// What was not trained a second time; no comparison depends on it.
    pub shared: Shared,
    /// Finished runs that have skipped steps.
    pub skipped: Vec<SkippedSteps>,
    /// What suites came to; no comparison depends on it.
    pub suites: Vec<SuiteMean>,
}

/// Steps of a finished run whose update was not made, since their loss or gradient was not finite. It is charged with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SkippedSteps {
    /// `arm/budget/seed-N`.
    pub run: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// What became of an arm's runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmRuns {
    /// The arm.
    pub arm: String,
    /// Its part in the study.
    pub role: ArmRole,
    /// Runs that it was to have: budgets × seeds.
    pub planned: usize,
    /// Runs that ended with a finite loss.
    pub finished: usize,
    /// Runs that diverged.
    pub diverged: usize,
    /// Runs that ended with another error.
    pub failed: usize,
    /// Runs that were not run.
    pub missing: usize,
    /// Where the finished ones ended.
    pub final_points: Vec<FinalPoint>,
    /// Mean seconds of the finished ones by purpose; compared only where nothing ran beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_wall: Option<WallTime>,
    /// What the host's receipts say of changes of the stack, in the order in which they came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<MeanEdit>,
}

impl ArmRuns {
    /// Mean over the runs that ended, in nats per token; `None` where none did.
    pub fn mean_final_loss(&self) -> Option<f64> {
        let sum: f64 = self.final_points.iter().map(|point| point.loss_nats_per_token).sum();
        (!self.final_points.is_empty()).then(|| sum / self.final_points.len() as f64)
    }
}

/// A change of the stack, as the mean of what the receipts of an arm's finished runs say of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeanEdit {
    /// Runs that have had so many changes.
    pub runs: usize,
    /// The steps before which it came.
    pub step: f64,
    /// Blocks before.
    pub depth_before: f64,
    /// Blocks after.
    pub depth_after: f64,
    /// How wide the model was before and is after, where that has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<[Widths; 2]>,
    /// Mean loss on the probe batch right before, in nats per token.
    pub loss_before: f64,
    /// The same right after.
    pub loss_after: f64,
    /// Largest change of a logit; `None` where a run was made by a host that did not look.
    pub largest_logit_change: Option<f64>,
    /// The largest RMS of what a block leaves in the residual stream, after over before; `None` where it was not measured.
    pub activation_growth: Option<f64>,
    /// Tensors of new blocks that the first step leaves as they are, for want of a gradient.
    pub without_gradient: f64,
    /// What the initializers claimed, the weakest of all; `None` where nothing was inserted.
    pub claim: Option<Claim>,
}

/// An arm's part in the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArmRole {
    /// All others are compared with it.
    Baseline,
    /// Compared with the baseline.
    Compared,
}

/// Where a run ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FinalPoint {
    /// Its budget.
    pub budget: String,
    /// Its seed.
    pub seed: u64,
    /// Steps taken.
    pub step: Step,
    /// Tokens trained on.
    pub tokens: Tokens,
    /// Exact FLOPs spent.
    pub flops: Flops,
    /// Validation loss.
    #[serde(serialize_with = "loss_or_null")]
    pub loss_nats_per_token: f64,
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

/// Until when an arm is ahead of the baseline after the same exact FLOPs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Crossover {
    /// Every compared seed.
    pub seeds: Vec<SeedCrossover>,
    /// Where it falls behind for good, as a share of what the baseline spends, if it does so in all seeds.
    pub share_of_baseline: Option<Summary>,
}

/// One seed's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedCrossover {
    /// The seed.
    pub seed: u64,
    /// Until when it is ahead.
    pub ahead: Ahead,
}

/// Until when a run is ahead of another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ahead {
    /// At no evaluation.
    Never,
    /// Until it falls behind for good.
    Until {
        /// As a share of what the baseline spends in all.
        share_of_baseline: f64,
    },
    /// At the last point that both have.
    ToTheEnd,
}

impl Ahead {
    /// Where it falls behind for good.
    pub(crate) fn share(self) -> Option<f64> {
        match self {
            Ahead::Until { share_of_baseline } => Some(share_of_baseline),
            Ahead::Never | Ahead::ToTheEnd => None,
        }
    }
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

/// What a comparison of losses comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The interval lies below zero.
    Better,
    /// The interval lies above zero.
    Worse,
    /// The interval covers zero, and lies so close to it that the study's margin is kept: equal, as far as that counts.
    Equal,
    /// The interval covers zero.
    Inconclusive,
    /// Fewer than three pairs.
    TooFewSeeds,
    /// A run of the arm diverged: a mean over the others would flatter it.
    Diverged,
    /// There is no pair.
    NotCompared,
}

/// Paired differences of validation loss, arm − baseline: negative is better.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossDifference {
    /// The pairs.
    pub pairs: Vec<LossPair>,
    /// Seeds in which the arm diverged.
    pub diverged_seeds: Vec<u64>,
    /// Seeds without a pair, each with the reason.
    pub left_out: Vec<LeftOut>,
    /// What the differences say; `None` where there is no pair.
    pub statistics: Option<PairedStatistics>,
    /// The sign-flip p after Holm's correction over the arms.
    pub holm_p: Option<f64>,
    /// Arms that were corrected over.
    pub holm_family: usize,
    /// Whether it is equal within the study's margin; `None` where the study states none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equivalence: Option<Equivalence>,
    /// What it comes to.
    pub outcome: Outcome,
}

/// One seed of both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossPair {
    /// The seed.
    pub seed: u64,
    /// The baseline's final loss.
    pub baseline_loss: f64,
    /// The arm's at the point that is compared.
    pub arm_loss: f64,
    /// Arm − baseline.
    pub difference: f64,
    /// Tokens that the arm had trained on there.
    pub arm_tokens: Tokens,
    /// Its exact FLOPs there, as a share of the baseline's.
    pub share_of_baseline_flops: f64,
    /// Tokens up to which the same batches are proved; `None` where no evaluation is in common.
    pub same_batches_until: Option<Tokens>,
}

/// A seed that could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The seed.
    pub seed: u64,
    /// Why not.
    pub reason: String,
}

/// What the baseline's final loss costs, as a ratio: the arm's first crossing of that loss to the
/// baseline's own first crossing of it, both linear between two evaluations. An arm that is the baseline
/// has 1 at every seed, however noisy its curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostToReach {
    /// Every compared seed.
    pub seeds: Vec<SeedReach>,
    /// Seeds in which it is reached.
    pub reached: usize,
    /// Exact FLOPs, where it is reached in all seeds: a mean over some would leave out the expensive ones.
    pub flops_ratio: Option<Summary>,
    /// Tokens, likewise.
    pub tokens_ratio: Option<Summary>,
    /// Training seconds, likewise; `None` unless all of these runs were measured alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_ratio: Option<Summary>,
    /// Joules, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules_ratio: Option<Summary>,
    /// Where it is not reached in every seed: it is not within this ratio in any of those others.
    pub not_within_flops: Option<f64>,
    /// The same of tokens.
    pub not_within_tokens: Option<f64>,
    /// The same of training seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_within_seconds: Option<f64>,
    /// The same of joules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_within_joules: Option<f64>,
    /// Seeds in which the arm diverged before it got there.
    pub diverged_seeds: Vec<u64>,
    /// Seeds that could not be compared, each with the reason.
    pub left_out: Vec<LeftOut>,
}

/// One seed's cost to reach the baseline's final loss.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedReach {
    /// The seed.
    pub seed: u64,
    /// The loss to reach.
    pub loss_nats_per_token: f64,
    /// Whether it is reached.
    pub reach: Reach,
    /// Exact FLOPs, as a ratio to the baseline's: when it is reached, or else at the run's end.
    pub flops_ratio: f64,
    /// Tokens, likewise.
    pub tokens_ratio: f64,
    /// Training seconds, likewise; `None` unless both runs were measured alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_ratio: Option<f64>,
    /// Joules, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules_ratio: Option<f64>,
}

/// Whether a loss is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// It is.
    Reached,
    /// Not until the run's end.
    NotReached,
}

/// What the baseline's number of tokens costs the arm, as ratios to what it costs the baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LedgerCosts {
    /// Every seed of which both have the evaluation.
    pub seeds: Vec<SeedLedger>,
    /// Mean over them.
    pub mean: LedgerRatios,
}

/// One seed's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedLedger {
    /// The seed.
    pub seed: u64,
    /// After so many tokens.
    pub tokens: Tokens,
    /// The ratios.
    pub ratios: LedgerRatios,
}

/// A cost by three ledgers, each as a ratio to the baseline's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LedgerRatios {
    /// All that ran.
    pub exact: f64,
    /// Matrix products with weights alone.
    pub weight_matmul: f64,
    /// The paper's formula.
    pub li2024: f64,
}

impl LossDifference {
    /// The sign-flip p, uncorrected.
    pub fn p(&self) -> Option<f64> {
        Some(self.statistics.as_ref()?.sign_flip?.p)
    }
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

/// A loss as a number, or `null` where it is none: JSON has no NaN, and divergence is a result.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn loss_or_null<S: Serializer>(loss: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    loss.is_finite().then_some(*loss).serialize(serializer)
}
