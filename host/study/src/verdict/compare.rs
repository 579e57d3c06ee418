//! An arm against its paired baseline: all comparisons that are planned of it, each made in a file of its own, and what they come to.

use super::runs::Runs;
use super::{
    ArmJudgement, ArmPlan, ArmVerdict, Continual, CostToReach, Crossover, Headline, LedgerCosts,
    LossDifference, Outcome,
};
use super::{continual, crossover, ledgers, losses, reach, sentence};

/// An arm's comparisons, before there are words for them.
pub(super) struct Compared {
    pub(super) arm: String,
    pub(super) token_matched: Option<LossDifference>,
    pub(super) compute_matched: Option<LossDifference>,
    pub(super) cost_to_reach: Option<CostToReach>,
    pub(super) costs: Option<LedgerCosts>,
    pub(super) crossover: Option<Crossover>,
    pub(super) continual: Option<Continual>,
    /// Runs that it was to have.
    pub(super) planned_runs: usize,
    /// Those of them that have no result.
    pub(super) runs_without_result: usize,
}

pub(super) fn arm(runs: &Runs<'_>, plan: &ArmPlan) -> Compared {
    let own = runs.by_arm().into_iter().find(|runs| runs.arm == plan.arm);
    let (planned_runs, finished) = own.map_or((0, 0), |own| (own.planned, own.finished));
    Compared {
        arm: plan.arm.clone(),
        token_matched: losses::at_equal_tokens(runs, plan),
        compute_matched: losses::at_equal_compute(runs, plan),
        cost_to_reach: reach::of_arm(runs, plan),
        costs: ledgers::of_arm(runs, plan),
        crossover: crossover::of_arm(runs, plan),
        continual: continual::of_arm(runs, plan),
        planned_runs,
        runs_without_result: planned_runs - finished,
    }
}

impl Compared {
    /// With the verdict on them; so many seeds were to be compared.
    pub(super) fn judged(self, planned_seeds: usize) -> ArmJudgement {
        let sentence = sentence::of(&self, planned_seeds);
        let headline = headline(self.compute_matched.as_ref(), self.token_matched.as_ref());
        let difference = match headline {
            Some(Headline::ComputeMatched) => self.compute_matched.as_ref(),
            Some(Headline::TokenMatched) => self.token_matched.as_ref(),
            None => None,
        };
        let outcome = difference.map_or(Outcome::NotCompared, |difference| difference.outcome);
        let Compared {
            arm, token_matched, compute_matched, cost_to_reach, costs, crossover, continual, ..
        } = self;
        let verdict = ArmVerdict { outcome, headline, sentence };
        ArmJudgement {
            arm,
            verdict,
            token_matched,
            compute_matched,
            cost_to_reach,
            costs,
            crossover,
            continual,
        }
    }
}

/// Equal compute is the question; equal tokens answer where nothing was compared at equal compute.
fn headline(compute: Option<&LossDifference>, tokens: Option<&LossDifference>) -> Option<Headline> {
    let says_something = |difference: &&LossDifference| difference.outcome != Outcome::NotCompared;
    match (compute.filter(says_something), tokens.filter(says_something)) {
        (Some(_), _) => Some(Headline::ComputeMatched),
        (None, Some(_)) => Some(Headline::TokenMatched),
        (None, None) => None,
    }
}
