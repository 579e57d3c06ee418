//! What arms cost, against the baseline.

use super::{Content, Section};
use crate::evidence::shared::SharedByArm;
use crate::verdict::statistics::{FEWEST_FOR_A_VERDICT, Interval, Summary};
use crate::verdict::{Ahead, Continual, CostToReach, Crossover, Judgement, at_most_known, ratio};

pub(super) fn costs_to_reach(judgement: &Judgement) -> Section {
    let costs = || judgement.arms.iter().filter_map(|arm| arm.cost_to_reach.as_ref());
    let [seconds, joules] = [
        costs().any(|cost| cost.seconds_ratio.is_some() || cost.not_within_seconds.is_some()),
        costs().any(|cost| cost.joules_ratio.is_some() || cost.not_within_joules.is_some()),
    ];
    let mut header = vec!["arm", "reached", "exact FLOPs", "tokens"];
    header.extend(seconds.then_some("training seconds"));
    header.extend(joules.then_some("joules"));
    let planned = judgement.seeds.len();
    let row = |arm: &str, cost: &CostToReach| {
        let mut cells = vec![
            arm.into(),
            format!("{}/{planned}", cost.reached),
            reach_cell(cost.flops_ratio.as_ref(), cost.not_within_flops),
            reach_cell(cost.tokens_ratio.as_ref(), cost.not_within_tokens),
        ];
        cells.extend(seconds.then(|| reach_cell(cost.seconds_ratio.as_ref(), cost.not_within_seconds)));
        cells.extend(joules.then(|| reach_cell(cost.joules_ratio.as_ref(), cost.not_within_joules)));
        cells
    };
    let rows = judgement.arms.iter().filter_map(|arm| Some(row(&arm.arm, arm.cost_to_reach.as_ref()?)));
    let note = "As a ratio to the baseline's own, first crossing to first crossing. Nothing is extrapolated. Seconds and joules are \
         compared where every run was measured alone (`--jobs 1`), joules where the machine counts them.";
    Section::of(
        "Cost to reach the baseline's final loss",
        note,
        Content::Table { header, rows: rows.collect() },
    )
}

pub(super) fn continual(judgement: &Judgement) -> Section {
    let header = vec!["arm", "steps before", "li2024", "weight_matmul", "exact", "measured"];
    let row = |arm: &str, continual: &Continual| {
        let Continual { seeds, predicted, measured, not_within } = continual;
        let before = seeds.iter().map(|seed| seed.staged_steps).sum::<f64>() / seeds.len() as f64;
        let steps = [before, predicted.li2024, predicted.weight_matmul, predicted.exact];
        let mut cells = vec![arm.to_owned()];
        cells.extend(steps.map(|steps| format!("{steps:.1}")));
        cells.push(match (measured, not_within) {
            (Some(Summary { mean, interval_95: Some(Interval { low, high }), .. }), _) => {
                format!("{mean:.1} [{low:.1}, {high:.1}]")
            }
            (Some(Summary { mean, .. }), _) => format!("{mean:.1}"),
            (None, Some(steps)) => format!("not within {steps:.0}"),
            (None, None) => "-".into(),
        });
        cells
    };
    let rows = judgement.arms.iter().filter_map(|arm| Some(row(&arm.arm, arm.continual.as_ref()?)));
    let note = "Steps after an arm's last change, each as long as the baseline's: how many the baseline's whole cost pays for, by each ledger \
         (li2024 is the paper's T_cont), and after how many the baseline's final loss was reached.";
    Section::of("Continual training", note, Content::Table { header, rows: rows.collect() })
}

pub(super) fn crossovers(judgement: &Judgement) -> Section {
    let header = vec!["arm", "to the end", "for a while", "never", "until"];
    let row = |arm: &str, crossover: &Crossover| {
        let count =
            |is: fn(Ahead) -> bool| crossover.seeds.iter().filter(|seed| is(seed.ahead)).count().to_string();
        let until = crossover.share_of_baseline.as_ref();
        vec![
            arm.into(),
            count(|ahead| ahead == Ahead::ToTheEnd),
            count(|ahead| ahead.share().is_some()),
            count(|ahead| ahead == Ahead::Never),
            until.map_or("-".into(), |_| reach_cell(until, None)),
        ]
    };
    let rows = judgement.arms.iter().filter_map(|arm| Some(row(&arm.arm, arm.crossover.as_ref()?)));
    let note = "Seeds in which an arm is ahead of the baseline to the end, for a while, or never; and, where it falls behind for good in \
         all of them, when: as a share of the FLOPs that the baseline spends.";
    Section::of("Ahead after the same exact FLOPs", note, Content::Table { header, rows: rows.collect() })
}

pub(super) fn ledgers(judgement: &Judgement) -> Section {
    let header = vec!["arm", "exact", "weight_matmul", "li2024"];
    let row = |arm: &crate::ArmJudgement| {
        let mean = arm.costs.as_ref()?.mean;
        Some(vec![arm.arm.clone(), ratio(mean.exact), ratio(mean.weight_matmul), ratio(mean.li2024)])
    };
    let note = "As a ratio to the baseline's, by three ledgers. Comparisons rest on the exact one.";
    Section::of(
        "Cost of the baseline's tokens",
        note,
        Content::Table { header, rows: judgement.arms.iter().filter_map(row).collect() },
    )
}

pub(in crate::report) fn reach_cell(measured: Option<&Summary>, bound: Option<f64>) -> String {
    match (measured, bound) {
        (Some(summary), _) => match summary.interval_95.filter(|_| summary.count >= FEWEST_FOR_A_VERDICT) {
            Some(Interval { low, high }) => format!("{} [{low:.3}, {high:.3}]", ratio(summary.mean)),
            None => format!("{}, too few seeds for an interval", ratio(summary.mean)),
        },
        (None, Some(bound)) => format!("not within {}", at_most_known(bound)),
        (None, None) => "-".into(),
    }
}

pub(super) fn shared(judgement: &Judgement) -> Section {
    let header = vec!["arm", "runs", "begin as", "until step", "exact FLOPs saved", "training s saved"];
    let all = &judgement.beside.shared;
    let mut rows: Vec<Vec<String>> = Vec::new();
    for SharedByArm { arm, budget, begins_as, runs, until, saved_flops, saved_training_seconds } in &all.arms
    {
        let (flops, seconds) =
            (format!("{:.3e}", saved_flops.as_f64()), format!("{saved_training_seconds:.3}"));
        rows.push(vec![
            format!("{arm}/{budget}"),
            runs.to_string(),
            begins_as.clone(),
            until.to_string(),
            flops,
            seconds,
        ]);
    }
    if !rows.is_empty() {
        let share = |saved: f64, of: f64| format!("{:.1} %", 100.0 * saved / of.max(f64::MIN_POSITIVE));
        let copies: usize = all.arms.iter().map(|arm| arm.runs).sum();
        rows.push(vec![
            "of all runs".into(),
            copies.to_string(),
            String::new(),
            String::new(),
            share(all.saved_flops.as_f64(), all.flops.as_f64()),
            share(all.saved_training_seconds, all.training_seconds),
        ]);
    }
    let note = "What arms have in common was trained once, and taken over from a checkpoint: proved the same by a chained hash of all \
         that its tensors came from. Each run is charged with it as if it had trained it itself.";
    Section::of("Shared prefixes", note, Content::Table { header, rows })
}
