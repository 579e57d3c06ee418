//! The verdict in words: made from the numbers of a judgement and nothing else, with their conditions.

use super::Evidence;
use super::compare::Compared;
use super::judgement::{
    Ahead, ArmJudgement, ArmRuns, ArmVerdict, CostToReach, Crossover, Headline, LedgerCosts, LossDifference,
    Outcome,
};
use super::rounding::{at_most_known, nats, p_value, percent, ratio, signed_nats};
use crate::verdict::statistics::{FEWEST_FOR_A_VERDICT, Interval, Summary};

/// Adds the words. `planned` seeds were to be compared.
pub(super) fn judged(compared: Compared, planned: usize) -> ArmJudgement {
    let Compared {
        plan,
        token_matched,
        compute_matched,
        cost_to_reach,
        costs,
        crossover,
        continual,
        without_result,
    } = compared;
    let headline = headline(compute_matched.as_ref(), token_matched.as_ref());
    let outcome = match headline {
        Some(Headline::ComputeMatched) => compute_matched.as_ref(),
        Some(Headline::TokenMatched) => token_matched.as_ref(),
        None => None,
    };
    let clauses = [
        compute_matched.as_ref().map(|difference| loss_clause("at equal compute", difference, planned)),
        token_matched.as_ref().map(|difference| loss_clause("at equal tokens", difference, planned)),
        crossover.as_ref().map(crossover_clause),
        cost_to_reach.as_ref().map(|cost| reach_clause(cost, planned)),
        costs.as_ref().map(ledger_clause),
        (without_result.0 > 0)
            .then(|| format!("{} of its {} runs without a result", without_result.0, without_result.1)),
    ];
    let clauses: Vec<String> = clauses.into_iter().flatten().collect();
    let sentence = match clauses[..] {
        [] => format!("`{}` is not compared in any way.", plan.arm),
        _ => format!("`{}`: {}.", plan.arm, clauses.join("; ")),
    };
    let outcome = outcome.map_or(Outcome::NotCompared, |difference| difference.outcome);
    let verdict = ArmVerdict { outcome, headline, sentence };
    ArmJudgement {
        arm: plan.arm,
        verdict,
        token_matched,
        compute_matched,
        cost_to_reach,
        costs,
        crossover,
        continual,
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

/// "1 seed", "3 seeds".
fn seeds(count: usize) -> String {
    if count == 1 { "1 seed".into() } else { format!("{count} seeds") }
}

fn loss_clause(place: &str, difference: &LossDifference, planned: usize) -> String {
    let statistics = difference.statistics.as_ref();
    let mean = statistics.map_or(0.0, |statistics| statistics.summary.mean);
    let interval = statistics.and_then(|statistics| statistics.summary.interval_95);
    let pairs = difference.pairs.len();
    let mut clause = match (difference.outcome, interval) {
        (Outcome::Better, Some(Interval { low, high })) => format!(
            "{place} better by {} nats per token [{}, {}] ({})",
            nats(mean),
            nats(high),
            nats(low),
            conditions(difference),
        ),
        (Outcome::Worse, Some(Interval { low, high })) => format!(
            "{place} worse by {} nats per token [{}, {}] ({})",
            nats(mean),
            nats(low),
            nats(high),
            conditions(difference),
        ),
        (Outcome::Equal, Some(Interval { low, high })) => format!(
            "{place} equal within ±{} nats per token (two one-sided t tests, p {}; mean {} [{}, {}]; {})",
            nats(difference.equivalence.map_or(0.0, |test| test.margin)),
            p_value(difference.equivalence.map_or(1.0, |test| test.p)),
            signed_nats(mean),
            signed_nats(low),
            signed_nats(high),
            conditions(difference),
        ),
        (Outcome::Inconclusive, Some(Interval { low, high })) => format!(
            "{place} no difference that {} could show (smallest visible ±{}; mean {} [{}, {}]; {})",
            seeds(pairs),
            nats((high - low) / 2.0),
            signed_nats(mean),
            signed_nats(low),
            signed_nats(high),
            conditions(difference),
        ),
        (Outcome::Diverged, _) => diverged(place, difference, planned, mean),
        (Outcome::NotCompared, _) => format!("{place} not compared, none of {} has a pair", seeds(planned)),
        _ => format!(
            "{place} a mean difference of {} nats per token over {}, too few for a verdict (at least \
             {FEWEST_FOR_A_VERDICT})",
            signed_nats(mean),
            seeds(pairs),
        ),
    };
    if pairs > 0 && !difference.left_out.is_empty() {
        clause.push_str(&format!(", {} of {} left out", difference.left_out.len(), seeds(planned)));
    }
    clause
}

fn diverged(place: &str, difference: &LossDifference, planned: usize, mean: f64) -> String {
    let others = match difference.pairs.len() {
        0 => String::new(),
        n => format!(" (the mean difference over {} that did not is {})", seeds(n), signed_nats(mean)),
    };
    let diverged = difference.diverged_seeds.len();
    format!("{place} it diverged in {diverged} of {}, so no mean stands for it{others}", seeds(planned))
}

/// What a difference rests on.
fn conditions(difference: &LossDifference) -> String {
    let mut conditions = vec![seeds(difference.pairs.len()), "95% t interval".into()];
    if let Some(flip) = difference.statistics.as_ref().and_then(|statistics| statistics.sign_flip) {
        let smallest = p_value(flip.smallest_attainable_p);
        conditions.push(format!("sign-flip p {}, smallest attainable {smallest}", p_value(flip.p)));
    }
    if let Some(corrected) = difference.holm_p.filter(|_| difference.holm_family > 1) {
        conditions.push(format!("{} after Holm over {} arms", p_value(corrected), difference.holm_family));
    }
    let shares = difference.pairs.iter().map(|pair| pair.share_of_baseline_flops);
    if let Some(least) = shares.reduce(f64::min) {
        conditions.push(format!("{} of the baseline's FLOPs used", percent(least)));
    }
    if difference.pairs.iter().any(|pair| pair.same_batches_until.is_none()) {
        conditions.push("equal data not shown".into());
    }
    conditions.join(", ")
}

fn crossover_clause(crossover: &Crossover) -> String {
    let count = |is: fn(&Ahead) -> bool| crossover.seeds.iter().filter(|seed| is(&seed.ahead)).count();
    let all = crossover.seeds.len();
    let (never, to_the_end) =
        (count(|ahead| *ahead == Ahead::Never), count(|ahead| *ahead == Ahead::ToTheEnd));
    match &crossover.share_of_baseline {
        Some(share) => format!(
            "ahead after the same exact FLOPs until {} of the baseline's are spent{}",
            ratio(share.mean),
            ratio_interval(share),
        ),
        None if never == all => format!("at no time ahead after the same exact FLOPs in {}", seeds(all)),
        None if to_the_end == all => format!("ahead after the same exact FLOPs to the end in {}", seeds(all)),
        None => format!(
            "after the same exact FLOPs ahead to the end in {to_the_end} of {}, for a while in {}, never in {never}",
            seeds(all),
            all - to_the_end - never,
        ),
    }
}

fn reach_clause(cost: &CostToReach, planned: usize) -> String {
    let compared = cost.seeds.len() + cost.diverged_seeds.len();
    let goal = "the baseline's final loss";
    let bound = match (cost.not_within_flops, cost.not_within_tokens) {
        (Some(flops), Some(tokens)) => {
            format!(
                "not within {} its exact FLOPs and {} its tokens",
                at_most_known(flops),
                at_most_known(tokens)
            )
        }
        _ => String::new(),
    };
    let mut clause = match (&cost.flops_ratio, &cost.tokens_ratio) {
        (Some(flops), Some(tokens)) => format!(
            "{goal} reached in {} for {} its exact FLOPs{} and {} its tokens{}",
            seeds(compared),
            ratio(flops.mean),
            ratio_interval(flops),
            ratio(tokens.mean),
            ratio_interval(tokens),
        ),
        _ if compared == 0 => format!("cost of {goal} not compared, none of {} has a pair", seeds(planned)),
        _ if cost.reached == 0 => format!("{goal} reached in none of {}", seeds(compared)),
        _ => format!("{goal} reached in {} of {}", cost.reached, seeds(compared)),
    };
    if !bound.is_empty() {
        clause.push_str(if cost.reached == 0 { ", " } else { ", in the others " });
        clause.push_str(&bound);
    }
    if !cost.diverged_seeds.is_empty() {
        clause.push_str(&format!(", diverged before in {}", cost.diverged_seeds.len()));
    }
    clause
}

/// The interval behind a mean ratio, where there are enough seeds to rely on one.
fn ratio_interval(summary: &Summary) -> String {
    match summary.interval_95.filter(|_| summary.count >= FEWEST_FOR_A_VERDICT) {
        Some(Interval { low, high }) => format!(" [{low:.3}, {high:.3}]"),
        None => String::new(),
    }
}

fn ledger_clause(costs: &LedgerCosts) -> String {
    format!(
        "the baseline's tokens cost it {} by the exact ledger, {} by weight_matmul, {} by li2024",
        ratio(costs.mean.exact),
        ratio(costs.mean.weight_matmul),
        ratio(costs.mean.li2024),
    )
}

/// The verdict on the study: one paragraph.
pub(super) fn overall(evidence: &Evidence<'_>, arms: &[ArmJudgement], runs: &[ArmRuns]) -> String {
    let mut sentences = vec![match arms.len() {
        0 => format!("No arm is compared with `{}`.", evidence.baseline),
        1 => {
            format!("One arm is compared with `{}` over {}.", evidence.baseline, seeds(evidence.seeds.len()))
        }
        n => format!(
            "{n} arms are compared with `{}` over {}.",
            evidence.baseline,
            seeds(evidence.seeds.len())
        ),
    }];
    sentences.extend(by_outcome(arms));
    sentences.extend(by_cost(arms));
    if arms.len() > 1 {
        sentences.push("The intervals hold arm by arm; Holm's p values are corrected over the arms.".into());
    }
    sentences.push(of_runs(runs));
    sentences.join(" ")
}

fn by_outcome(arms: &[ArmJudgement]) -> Vec<String> {
    let groups = [
        (Outcome::Better, "Better"),
        (Outcome::Worse, "Worse"),
        (Outcome::Equal, "Equal within the study's margin"),
        (Outcome::Inconclusive, "No difference that the seeds could show"),
        (Outcome::TooFewSeeds, "Too few seeds for a verdict"),
        (Outcome::Diverged, "Diverged in some seed"),
        (Outcome::NotCompared, "Not compared"),
    ];
    let sentence = |(outcome, words): (Outcome, &str)| {
        let members: Vec<String> =
            arms.iter().filter(|arm| arm.verdict.outcome == outcome).map(short_result).collect();
        (!members.is_empty()).then(|| format!("{words}: {}.", members.join("; ")))
    };
    groups.into_iter().filter_map(sentence).collect()
}

/// An arm with what its verdict rests on, in a few words.
fn short_result(arm: &ArmJudgement) -> String {
    let place = match arm.verdict.headline {
        Some(Headline::ComputeMatched) => "at equal compute",
        Some(Headline::TokenMatched) => "at equal tokens",
        None => return format!("`{}`", arm.arm),
    };
    let statistics = arm.headline().and_then(|difference| difference.statistics.as_ref());
    let interval = statistics.and_then(|statistics| statistics.summary.interval_95);
    match (arm.verdict.outcome, statistics, interval) {
        (Outcome::Better | Outcome::Worse, Some(statistics), Some(Interval { low, high })) => {
            let (mean, least, most) =
                (statistics.summary.mean, low.abs().min(high.abs()), low.abs().max(high.abs()));
            format!(
                "`{}` {place} by {} nats per token [{}, {}]",
                arm.arm,
                nats(mean),
                nats(least),
                nats(most)
            )
        }
        (Outcome::Inconclusive, _, Some(Interval { low, high })) => {
            format!("`{}` {place} (smallest visible ±{})", arm.arm, nats((high - low) / 2.0))
        }
        _ => format!("`{}` {place}", arm.arm),
    }
}

/// Who gets to the baseline's final loss for less.
fn by_cost(arms: &[ArmJudgement]) -> Vec<String> {
    let (mut less, mut more, mut unclear, mut never) = (vec![], vec![], vec![], vec![]);
    for arm in arms {
        let Some(cost) = &arm.cost_to_reach else { continue };
        match (&cost.flops_ratio, cost.not_within_flops) {
            (Some(summary), _) => {
                let words = format!("`{}` ({})", arm.arm, ratio(summary.mean));
                match summary.interval_95.filter(|_| summary.count >= FEWEST_FOR_A_VERDICT) {
                    Some(interval) if interval.high < 1.0 => less.push(words),
                    Some(interval) if interval.low > 1.0 => more.push(words),
                    _ => unclear.push(words),
                }
            }
            (None, Some(bound)) => {
                let words = format!("not within {}", at_most_known(bound));
                never.push(match cost.reached {
                    0 => format!("`{}` ({words})", arm.arm),
                    n => format!(
                        "`{}` ({n} of {}; the others {words})",
                        arm.arm,
                        seeds(cost.seeds.len() + cost.diverged_seeds.len())
                    ),
                });
            }
            (None, None) => {}
        }
    }
    let groups = [
        ("The baseline's final loss is reached for fewer FLOPs by", less),
        ("The baseline's final loss is reached for more FLOPs by", more),
        (
            "The baseline's final loss is reached, for a cost that the seeds cannot tell from the baseline's, by",
            unclear,
        ),
        ("The baseline's final loss is not reached in every seed by", never),
    ];
    let spoken = groups.into_iter().filter(|(_, members)| !members.is_empty());
    spoken.map(|(words, members)| format!("{words} {}.", members.join(", "))).collect()
}

fn of_runs(runs: &[ArmRuns]) -> String {
    let count = |number: fn(&ArmRuns) -> usize| runs.iter().map(number).sum::<usize>();
    let (planned, finished) = (count(|runs| runs.planned), count(|runs| runs.finished));
    if finished == planned {
        return format!("All {planned} runs finished.");
    }
    let others = [
        (count(|runs| runs.diverged), "diverged"),
        (count(|runs| runs.failed), "failed"),
        (count(|runs| runs.missing), "missing"),
    ];
    let others = others.iter().filter(|(n, _)| *n > 0).map(|(n, words)| format!("{n} {words}"));
    format!("Of {planned} runs {finished} finished: {}.", others.collect::<Vec<_>>().join(", "))
}
