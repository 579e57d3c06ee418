//! An arm against its paired baseline, seed by seed, in three ways. What the differences say in words is
//! not here.

use engine::{Flops, Tokens};

use super::judgement::{
    CostToReach, Crossover, LedgerCosts, LedgerRatios, LeftOut, LossDifference, LossPair, Outcome, Reach,
    SeedLedger, SeedReach,
};
use super::runs::{Run, Runs};
use super::{ArmPlan, Continual, continual, crossover, rounding};
use crate::evidence::curve::{Cost, EvaluationPoint, RunCurve};
use crate::verdict::statistics::{
    Equivalence, FEWEST_FOR_A_VERDICT, PairedStatistics, equivalence, paired, summarize,
};

/// A run that has used less of the baseline's compute is not compared at equal compute.
const LEAST_SHARE_OF_BUDGET: f64 = 0.98;

/// An arm's comparisons, before there are words for them.
pub(super) struct Compared {
    pub(super) plan: ArmPlan,
    pub(super) token_matched: Option<LossDifference>,
    pub(super) compute_matched: Option<LossDifference>,
    pub(super) cost_to_reach: Option<CostToReach>,
    pub(super) costs: Option<LedgerCosts>,
    pub(super) crossover: Option<Crossover>,
    pub(super) continual: Option<Continual>,
    /// Runs of the arm that have no result, of all that it was to have.
    pub(super) without_result: (usize, usize),
}

/// One seed of both, the baseline's loss finite at its end.
struct Pair<'a> {
    seed: u64,
    baseline: &'a RunCurve,
    /// Where the baseline ends.
    goal: &'a EvaluationPoint,
    arm: &'a RunCurve,
}

/// Why a seed has no result.
enum NoPair {
    ArmDiverged,
    LeftOut(String),
}

pub(super) fn arm(runs: &Runs<'_>, plan: &ArmPlan, margin_nats: Option<f64>) -> Compared {
    let losses = |budget: &Option<String>, compare: fn(&Pair<'_>) -> Result<LossPair, NoPair>| {
        let budget = budget.as_ref()?;
        Some(loss_difference(runs, margin_nats, |seed| compare(&pair(runs, plan, budget, seed)?)))
    };
    let own = runs.by_arm().into_iter().find(|runs| runs.arm == plan.arm);
    Compared {
        plan: plan.clone(),
        token_matched: losses(&plan.token_matched, at_equal_tokens),
        compute_matched: losses(&plan.compute_matched, at_equal_compute),
        cost_to_reach: plan.cost_to_reach.as_ref().map(|budget| cost_to_reach(runs, plan, budget)),
        costs: ledger_costs(runs, plan),
        crossover: crossover(runs, plan),
        continual: continual(runs, plan),
        without_result: own.map_or((0, 0), |own| (own.planned - own.finished, own.planned)),
    }
}

fn pair<'a>(runs: &Runs<'a>, plan: &ArmPlan, budget: &str, seed: u64) -> Result<Pair<'a>, NoPair> {
    let baseline = match runs.baseline(seed) {
        Run::Curve(curve) => curve,
        Run::Diverged => return Err(NoPair::LeftOut("the baseline diverged".into())),
        Run::Absent(reason) => return Err(NoPair::LeftOut(format!("no baseline: {reason}"))),
    };
    let goal = baseline.last().expect("a curve without a point counts as absent");
    if !goal.loss_nats_per_token.is_finite() {
        return Err(NoPair::LeftOut("the baseline diverged".into()));
    }
    match runs.run(&plan.arm, budget, seed) {
        Run::Curve(arm) => Ok(Pair { seed, baseline, goal, arm }),
        Run::Diverged => Err(NoPair::ArmDiverged),
        Run::Absent(reason) => Err(NoPair::LeftOut(format!("no run: {reason}"))),
    }
}

fn loss_difference(
    runs: &Runs<'_>,
    margin_nats: Option<f64>,
    compare: impl Fn(u64) -> Result<LossPair, NoPair>,
) -> LossDifference {
    let (mut pairs, mut diverged_seeds, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for &seed in runs.seeds() {
        match compare(seed) {
            Ok(pair) => pairs.push(pair),
            Err(NoPair::ArmDiverged) => diverged_seeds.push(seed),
            Err(NoPair::LeftOut(reason)) => left_out.push(LeftOut { seed, reason }),
        }
    }
    let differences: Vec<f64> = pairs.iter().map(|pair| pair.difference).collect();
    let statistics = paired(&differences);
    let equivalence = margin_nats.and_then(|margin| equivalence(&differences, margin));
    let outcome = match &statistics {
        _ if !diverged_seeds.is_empty() => Outcome::Diverged,
        None => Outcome::NotCompared,
        Some(statistics) => outcome(statistics, equivalence),
    };
    let (holm_p, holm_family) = (None, 0);
    LossDifference { pairs, diverged_seeds, left_out, statistics, holm_p, holm_family, equivalence, outcome }
}

fn outcome(statistics: &PairedStatistics, equivalence: Option<Equivalence>) -> Outcome {
    match statistics.summary.interval_95 {
        Some(interval) if statistics.summary.count >= FEWEST_FOR_A_VERDICT => match () {
            () if interval.covers(0.0) && equivalence.is_some_and(|test| test.is_shown()) => Outcome::Equal,
            () if interval.covers(0.0) => Outcome::Inconclusive,
            () if interval.high < 0.0 => Outcome::Better,
            () => Outcome::Worse,
        },
        _ => Outcome::TooFewSeeds,
    }
}

fn at_equal_tokens(pair: &Pair<'_>) -> Result<LossPair, NoPair> {
    let Some(point) = pair.arm.at_tokens(pair.goal.tokens) else {
        let reason = format!("no evaluation after {} tokens, where the baseline ends", pair.goal.tokens);
        return Err(pair.unless_diverged(reason));
    };
    pair.check_finite(point)?;
    check_batches(pair.goal, point)?;
    Ok(pair.losses(point, Some(point.tokens)))
}

fn at_equal_compute(pair: &Pair<'_>) -> Result<LossPair, NoPair> {
    let budget = pair.goal.flops;
    let Some(point) = pair.arm.last_within(budget) else {
        return Err(
            pair.unless_diverged("not reached: its first evaluation cost more than the baseline".into())
        );
    };
    pair.check_finite(point)?;
    let used = pair.share(point.flops);
    // A baseline that cost nothing has no share that could be used.
    if used.is_nan() || used < LEAST_SHARE_OF_BUDGET {
        return Err(pair.unless_diverged(format!(
            "not reached: it used {} of the baseline's exact FLOPs, at least {} are required",
            rounding::percent(used),
            rounding::percent(LEAST_SHARE_OF_BUDGET),
        )));
    }
    Ok(pair.losses(point, pair.same_batches()?))
}

impl Pair<'_> {
    fn losses(&self, point: &EvaluationPoint, same_batches_until: Option<Tokens>) -> LossPair {
        LossPair {
            seed: self.seed,
            baseline_loss: self.goal.loss_nats_per_token,
            arm_loss: point.loss_nats_per_token,
            difference: point.loss_nats_per_token - self.goal.loss_nats_per_token,
            arm_tokens: point.tokens,
            share_of_baseline_flops: self.share(point.flops),
            same_batches_until,
        }
    }

    /// As a share of the baseline's cost.
    fn share(&self, flops: Flops) -> f64 {
        flops.as_f64() / self.goal.flops.as_f64()
    }

    fn check_finite(&self, point: &EvaluationPoint) -> Result<(), NoPair> {
        if point.loss_nats_per_token.is_finite() { Ok(()) } else { Err(NoPair::ArmDiverged) }
    }

    /// A run that stopped short because it diverged is a diverged run, not one that lacks an evaluation.
    fn unless_diverged(&self, reason: String) -> NoPair {
        match self.arm.divergence() {
            Some(_) => NoPair::ArmDiverged,
            None => NoPair::LeftOut(reason),
        }
    }

    /// Up to where both read the same batches; `None` where no evaluation is in common to show it.
    fn same_batches(&self) -> Result<Option<Tokens>, NoPair> {
        match self.baseline.last_in_common(self.arm) {
            None => Ok(None),
            Some((baseline, arm)) => check_batches(baseline, arm).map(|()| Some(arm.tokens)),
        }
    }
}

fn check_batches(baseline: &EvaluationPoint, arm: &EvaluationPoint) -> Result<(), NoPair> {
    if arm.batches_sha256 == baseline.batches_sha256 {
        return Ok(());
    }
    let short = |hash: &str| hash.chars().take(8).collect::<String>();
    Err(NoPair::LeftOut(format!(
        "it was not trained on the baseline's batches: after {} tokens their hash is {}, the baseline's {}",
        arm.tokens,
        short(&arm.batches_sha256),
        short(&baseline.batches_sha256),
    )))
}

fn cost_to_reach(runs: &Runs<'_>, plan: &ArmPlan, budget: &str) -> CostToReach {
    let (mut seeds, mut diverged_seeds, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for &seed in runs.seeds() {
        match pair(runs, plan, budget, seed).and_then(|pair| reach(&pair)) {
            Ok(reach) => seeds.push(reach),
            Err(NoPair::ArmDiverged) => diverged_seeds.push(seed),
            Err(NoPair::LeftOut(reason)) => left_out.push(LeftOut { seed, reason }),
        }
    }
    let reached = seeds.iter().filter(|seed| seed.reach == Reach::Reached).count();
    let all = reached == seeds.len() && diverged_seeds.is_empty();
    let summary = |ratio: fn(&SeedReach) -> Option<f64>| {
        let ratios: Option<Vec<f64>> = seeds.iter().map(ratio).collect();
        ratios.filter(|_| all).and_then(|ratios| summarize(&ratios))
    };
    // What holds for all seeds that did not get there is the smallest of their bounds.
    let bound = |ratio: fn(&SeedReach) -> Option<f64>| {
        let open = seeds.iter().filter(|seed| seed.reach == Reach::NotReached);
        open.map(ratio).collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min)
    };
    CostToReach {
        reached,
        flops_ratio: summary(|seed| Some(seed.flops_ratio)),
        tokens_ratio: summary(|seed| Some(seed.tokens_ratio)),
        seconds_ratio: summary(|seed| seed.seconds_ratio),
        joules_ratio: summary(|seed| seed.joules_ratio),
        not_within_flops: bound(|seed| Some(seed.flops_ratio)),
        not_within_tokens: bound(|seed| Some(seed.tokens_ratio)),
        not_within_seconds: bound(|seed| seed.seconds_ratio),
        not_within_joules: bound(|seed| seed.joules_ratio),
        seeds,
        diverged_seeds,
        left_out,
    }
}

fn reach(pair: &Pair<'_>) -> Result<SeedReach, NoPair> {
    pair.same_batches()?;
    let loss = pair.goal.loss_nats_per_token;
    let is_reached = pair.arm.first_crossing(loss, Cost::Tokens).is_some();
    if !is_reached && pair.arm.divergence().is_some() {
        return Err(NoPair::ArmDiverged);
    }
    // The baseline's own first crossing, not its end: a noisy curve may have been there before, and the
    // arm is asked for its first crossing too.
    let ratio = |cost| {
        let own = pair.baseline.first_crossing(loss, cost).filter(|&own| own > 0.0)?;
        let end = || pair.arm.last().map(|end| end.cost(cost));
        Some(pair.arm.first_crossing(loss, cost).or_else(end)? / own)
    };
    let known = |cost| if pair.baseline.knows(cost) && pair.arm.knows(cost) { ratio(cost) } else { None };
    let (Some(flops_ratio), Some(tokens_ratio)) = (ratio(Cost::ExactFlops), ratio(Cost::Tokens)) else {
        return Err(NoPair::LeftOut("the baseline's final loss is no lower than its first".into()));
    };
    Ok(SeedReach {
        seed: pair.seed,
        loss_nats_per_token: loss,
        reach: if is_reached { Reach::Reached } else { Reach::NotReached },
        flops_ratio,
        tokens_ratio,
        seconds_ratio: known(Cost::Seconds),
        joules_ratio: known(Cost::Joules),
    })
}

/// After the same exact FLOPs, by the runs that the comparison at equal compute rests on, or else the longest there are.
fn crossover(runs: &Runs<'_>, plan: &ArmPlan) -> Option<Crossover> {
    let budgets = [&plan.compute_matched, &plan.cost_to_reach, &plan.token_matched];
    let budget = budgets.into_iter().flatten().next()?;
    let of_seed = |&seed: &u64| {
        let pair = pair(runs, plan, budget, seed).ok()?;
        // Who ends before the baseline does is not known to be ahead to the end.
        let spent = pair.arm.last().map_or(0.0, |end| pair.share(end.flops));
        if spent.is_nan() || spent < LEAST_SHARE_OF_BUDGET {
            return None;
        }
        crossover::of_seed(seed, pair.baseline, pair.arm, Cost::ExactFlops)
    };
    crossover::of(runs.seeds().iter().filter_map(of_seed).collect())
}

/// By the runs that go furthest.
fn continual(runs: &Runs<'_>, plan: &ArmPlan) -> Option<Continual> {
    let budget = plan.cost_to_reach.as_ref()?;
    let of_seed = |&seed: &u64| {
        let pair = pair(runs, plan, budget, seed).ok()?;
        pair.same_batches().ok()?;
        continual::of_seed(seed, pair.baseline, pair.arm)
    };
    continual::of(runs.seeds().iter().filter_map(of_seed).collect())
}

/// Costs do not depend on losses, so a pair whose data differ is compared here too.
fn ledger_costs(runs: &Runs<'_>, plan: &ArmPlan) -> Option<LedgerCosts> {
    let budgets = [&plan.token_matched, &plan.compute_matched, &plan.cost_to_reach];
    let budget = budgets.into_iter().flatten().next()?;
    let seeds: Vec<SeedLedger> =
        runs.seeds().iter().filter_map(|&seed| seed_ledger(&pair(runs, plan, budget, seed).ok()?)).collect();
    if seeds.is_empty() {
        return None;
    }
    let mean = |ledger: fn(&LedgerRatios) -> f64| {
        seeds.iter().map(|seed| ledger(&seed.ratios)).sum::<f64>() / seeds.len() as f64
    };
    let mean = LedgerRatios {
        exact: mean(|ratios| ratios.exact),
        weight_matmul: mean(|ratios| ratios.weight_matmul),
        li2024: mean(|ratios| ratios.li2024),
    };
    Some(LedgerCosts { seeds, mean })
}

fn seed_ledger(pair: &Pair<'_>) -> Option<SeedLedger> {
    let point = pair.arm.at_tokens(pair.goal.tokens)?;
    let ratio = |own: Flops, baseline: Flops| (baseline > Flops(0)).then(|| own.as_f64() / baseline.as_f64());
    Some(SeedLedger {
        seed: pair.seed,
        tokens: point.tokens,
        ratios: LedgerRatios {
            exact: ratio(point.flops, pair.goal.flops)?,
            weight_matmul: ratio(point.flops_weight_matmul, pair.goal.flops_weight_matmul)?,
            li2024: ratio(point.flops_li2024, pair.goal.flops_li2024)?,
        },
    })
}
