//! Several studies beside each other, an arm a line.

use super::sections::{Content, mean_difference, outcome, reach_cell};
use crate::verdict::{ArmJudgement, ArmRuns, Headline, Judgement, nats};

/// A line for each arm of several studies, by the comparison that its verdict rests on.
pub(super) fn table(judgements: &[Judgement]) -> Content {
    let header =
        vec!["study", "baseline ends at", "arm", "equal", "pairs", "difference", "outcome", "exact FLOPs"];
    let row = |judgement: &Judgement, arm: &ArmJudgement| {
        let (kind, difference) = match arm.verdict.headline {
            Some(Headline::ComputeMatched) => ("compute", arm.compute_matched.as_ref()),
            Some(Headline::TokenMatched) => ("tokens", arm.token_matched.as_ref()),
            None => ("-", None),
        };
        let statistics = difference.and_then(|difference| difference.statistics.as_ref());
        let cost = arm.cost_to_reach.as_ref();
        let pairs = difference.map_or(0, |difference| difference.pairs.len());
        vec![
            judgement.study.clone(),
            judgement.runs.first().and_then(ArmRuns::mean_final_loss).map_or("-".into(), nats),
            arm.arm.clone(),
            kind.into(),
            format!("{pairs}/{}", judgement.seeds.len()),
            statistics.map_or("-".into(), |statistics| mean_difference(&statistics.summary)),
            difference.map_or("-".into(), outcome),
            cost.map_or("-".into(), |cost| reach_cell(cost.flops_ratio.as_ref(), cost.not_within_flops)),
        ]
    };
    let rows =
        judgements.iter().flat_map(|judgement| judgement.arms.iter().map(move |arm| row(judgement, arm)));
    Content::Table { header, rows: rows.collect() }
}
