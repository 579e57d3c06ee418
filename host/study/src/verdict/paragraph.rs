//! The verdict on a study in words, one paragraph: made from what its arms and its runs came to, and nothing else. An arm's own is a
//! sentence (`sentence.rs`).

use super::rounding::{at_most_known, nats, ratio};
use super::sentence::seeds;
use super::{ArmJudgement, ArmRuns, Case, Headline, Outcome};
use crate::verdict::statistics::{FEWEST_FOR_A_VERDICT, Interval};

pub(super) fn of(case: &Case<'_>, arms: &[ArmJudgement], runs: &[ArmRuns]) -> String {
    let mut sentences = vec![match arms.len() {
        0 => format!("No arm is compared with `{}`.", case.baseline),
        1 => {
            format!("One arm is compared with `{}` over {}.", case.baseline, seeds(case.seeds.len()))
        }
        n => format!("{n} arms are compared with `{}` over {}.", case.baseline, seeds(case.seeds.len())),
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
    let sentence = |outcome: Outcome| {
        let members: Vec<String> =
            arms.iter().filter(|arm| arm.verdict.outcome == outcome).map(short_result).collect();
        (!members.is_empty()).then(|| format!("{}: {}.", outcome.words().group, members.join("; ")))
    };
    Outcome::ALL.into_iter().filter_map(sentence).collect()
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
