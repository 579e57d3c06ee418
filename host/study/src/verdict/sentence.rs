//! The verdict on an arm in words, a clause for each comparison: made from its numbers and nothing else, with their conditions. The
//! study's verdict is a paragraph (`paragraph.rs`).

use super::compare::Compared;
use super::rounding::{at_most_known, nats, p_value, percent, ratio, signed_nats};
use super::{Ahead, CostToReach, Crossover, LedgerCosts, LossDifference, Outcome};
use crate::verdict::statistics::{FEWEST_FOR_A_VERDICT, Interval, Summary};

/// So many seeds were to be compared.
pub(super) fn of(compared: &Compared, planned_seeds: usize) -> String {
    let at_equal = |place, difference: &Option<LossDifference>| {
        difference.as_ref().map(|difference| loss_clause(place, difference, planned_seeds))
    };
    let (without, runs) = (compared.runs_without_result, compared.planned_runs);
    let clauses = [
        at_equal("at equal compute", &compared.compute_matched),
        at_equal("at equal tokens", &compared.token_matched),
        compared.crossover.as_ref().map(crossover_clause),
        compared.cost_to_reach.as_ref().map(|cost| reach_clause(cost, planned_seeds)),
        compared.costs.as_ref().map(ledger_clause),
        (without > 0).then(|| format!("{without} of its {runs} runs without a result")),
    ];
    let clauses: Vec<String> = clauses.into_iter().flatten().collect();
    match clauses[..] {
        [] => format!("`{}` is not compared in any way.", compared.arm),
        _ => format!("`{}`: {}.", compared.arm, clauses.join("; ")),
    }
}

/// "1 seed", "3 seeds".
pub(super) fn seeds(count: usize) -> String {
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
