//! How far arms end from the baseline, and which seeds are not in that.

use super::{Content, Section, outcome};
use crate::verdict::statistics::{Interval, Summary};
use crate::verdict::{Judgement, LeftOut, LossDifference, nats, p_value, signed_nats};

pub(super) fn losses(judgement: &Judgement) -> Section {
    let header = vec!["arm", "equal", "pairs", "difference", "visible", "p", "least p", "Holm", "outcome"];
    let planned = judgement.seeds.len();
    let mut rows = Vec::new();
    for arm in &judgement.arms {
        let kinds = [("compute", &arm.compute_matched), ("tokens", &arm.token_matched)];
        for (kind, difference) in kinds {
            rows.extend(difference.as_ref().map(|difference| loss_row(&arm.arm, kind, difference, planned)));
        }
    }
    let note = "Nats per token, paired by seed; negative is better. The verdict rests on the 95% t interval. Visible: \
         the smallest effect that the seeds could show. Least p: the smallest that so many seeds can give.";
    Section::of("Final validation loss, arm - baseline", note, Content::Table { header, rows })
}

fn loss_row(arm: &str, kind: &str, difference: &LossDifference, planned: usize) -> Vec<String> {
    let statistics = difference.statistics.as_ref();
    let flip = statistics.and_then(|statistics| statistics.sign_flip);
    let known = |number: Option<f64>, words: fn(f64) -> String| number.map_or("-".into(), words);
    vec![
        arm.into(),
        kind.into(),
        format!("{}/{planned}", difference.pairs.len()),
        statistics.map_or("-".into(), |statistics| mean_difference(&statistics.summary)),
        known(statistics.and_then(|statistics| statistics.smallest_visible), |half| {
            format!("±{}", nats(half))
        }),
        known(flip.map(|flip| flip.p), p_value),
        known(flip.map(|flip| flip.smallest_attainable_p), p_value),
        known(difference.holm_p, p_value),
        outcome(difference),
    ]
}

pub(in crate::report) fn mean_difference(summary: &Summary) -> String {
    match summary.interval_95 {
        Some(Interval { low, high }) => {
            format!("{} [{}, {}]", signed_nats(summary.mean), signed_nats(low), signed_nats(high))
        }
        None => signed_nats(summary.mean),
    }
}

pub(super) fn left_out(judgement: &Judgement) -> Section {
    let mut items = Vec::new();
    for arm in &judgement.arms {
        let lists: [(&str, Option<&[LeftOut]>); 3] = [
            ("equal compute", arm.compute_matched.as_ref().map(|difference| &difference.left_out[..])),
            ("equal tokens", arm.token_matched.as_ref().map(|difference| &difference.left_out[..])),
            ("cost to reach", arm.cost_to_reach.as_ref().map(|cost| &cost.left_out[..])),
        ];
        for (comparison, list) in lists {
            let list = list.unwrap_or_default();
            items.extend(by_reason(list).into_iter().map(|(reason, seeds)| {
                let seeds_or_seed = if seeds.contains(' ') { "seeds" } else { "seed" };
                format!("{}, {comparison}, {seeds_or_seed} {seeds}: {reason}", arm.arm)
            }));
        }
    }
    Section::of("Seeds left out of a comparison", "", Content::List(items))
}

/// Every reason once, with the seeds that it holds for.
fn by_reason(list: &[LeftOut]) -> Vec<(&str, String)> {
    let mut reasons: Vec<(&str, String)> = Vec::new();
    for LeftOut { seed, reason } in list {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, seeds)) => seeds.push_str(&format!(" {seed}")),
            None => reasons.push((reason, seed.to_string())),
        }
    }
    reasons
}
