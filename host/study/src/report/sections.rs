//! What a report shows, in which order: headings, tables and lists as plain cells. How they are laid out
//! is the terminal's and Markdown's.

use plugin_host::TimeSpent;
use plugin_host::api::Claim;

use crate::SuiteFigure;
use crate::statistics::{FEWEST_FOR_A_VERDICT, Interval, Summary};
use crate::sweep::{ArmSweep, Trial};
use crate::verdict::{
    Ahead, ArmJudgement, ArmRole, ArmRuns, Continual, CostToReach, Crossover, Headline, Judgement, LeftOut,
    LossDifference, MeanEdit, Outcome, RunStatus, SharedByArm, SkippedSteps, at_most_known, nats, p_value,
    signed_nats,
};

/// A part of a report.
pub(super) struct Section {
    pub(super) title: &'static str,
    /// What its numbers are.
    pub(super) note: &'static str,
    pub(super) content: Content,
}

/// What stands in it.
pub(super) enum Content {
    /// Paragraphs.
    Text(Vec<String>),
    /// Items.
    List(Vec<String>),
    /// Rows of as many cells as the header has; the first cell names an arm.
    Table { header: Vec<&'static str>, rows: Vec<Vec<String>> },
}

impl Content {
    fn is_empty(&self) -> bool {
        match self {
            Content::Text(items) | Content::List(items) => items.is_empty(),
            Content::Table { rows, .. } => rows.is_empty(),
        }
    }
}

/// All parts that have content.
pub(super) fn sections(judgement: &Judgement) -> Vec<Section> {
    let section = |title, note, content| Section { title, note, content };
    let sections = vec![
        section("Verdict", "", Content::Text(vec![judgement.verdict.clone()])),
        section(
            "Final validation loss, arm - baseline",
            "Nats per token, paired by seed; negative is better. The verdict rests on the 95% t interval. Visible: \
             the smallest effect that the seeds could show. Least p: the smallest that so many seeds can give.",
            losses(judgement),
        ),
        section(
            "Cost to reach the baseline's final loss",
            "As a ratio to the baseline's own, first crossing to first crossing. Nothing is extrapolated. Seconds and joules are \
             compared where every run was measured alone (`--jobs 1`), joules where the machine counts them.",
            costs_to_reach(judgement),
        ),
        section(
            "Continual training",
            "Steps after an arm's last change, each as long as the baseline's: how many the baseline's whole cost pays for, by each ledger \
             (li2024 is the paper's T_cont), and after how many the baseline's final loss was reached.",
            continual(judgement),
        ),
        section(
            "Ahead after the same exact FLOPs",
            "Seeds in which an arm is ahead of the baseline to the end, for a while, or never; and, where it falls behind for good in \
             all of them, when: as a share of the FLOPs that the baseline spends.",
            crossovers(judgement),
        ),
        section(
            "Cost of the baseline's tokens",
            "As a ratio to the baseline's, by three ledgers. Comparisons rest on the exact one.",
            ledgers(judgement),
        ),
        section("Arm by arm", "", Content::List(by_arm(judgement))),
        section(
            "Learning rates",
            "Every arm was tried with the same rates and seeds, none of them the study's; it was then run with the one that ended \
             lowest. No arm is charged with the trials.",
            rates(judgement),
        ),
        section("Fairness", "", Content::List(judgement.fairness.clone())),
        section("Runs", "", runs(judgement)),
        section(
            "Suites",
            "What suites of questions came to at the end of the runs that finished, by what ended them: means over seeds. ± seeds: \
             the mean's standard error, by how the runs differ. ± items: a single run's, for its items being a sample. No verdict \
             rests on it.",
            suites(judgement),
        ),
        section(
            "Growth",
            "Means of what the host saw of each change of the stack, right before and right after it, on the probe batch: \
             the largest activation (RMS of what a block leaves in the residual stream) as a factor, and how many tensors \
             of new blocks the first step leaves as they are.",
            growth(judgement),
        ),
        section(
            "Wall time by purpose",
            "Mean seconds of a finished run: those of different arms may be compared where nothing ran beside them (`--jobs 1`).",
            wall_times(judgement),
        ),
        section(
            "Time in plugins",
            if has_shadows(judgement) {
                "Mean of a finished run, part of the times above: a strategy's calls stand under strategy, growth and \
                 checkpoints, an initializer's under growth and checkpoints. A shadow's are no part of them: it rides along, \
                 and is charged to nobody."
            } else {
                "Mean of a finished run, part of the times above: a strategy's calls stand under strategy, growth and \
                 checkpoints, an initializer's under growth and checkpoints."
            },
            plugin_times(judgement),
        ),
        section(
            "Shared prefixes",
            "What arms have in common was trained once, and taken over from a checkpoint: proved the same by a chained hash of all \
             that its tensors came from. Each run is charged with it as if it had trained it itself.",
            shared(judgement),
        ),
        section(
            "Skipped steps",
            "Their loss or gradient was not finite, and no update was made (`training.on_non_finite`). Each run is charged with \
             them.",
            Content::List(skipped(judgement)),
        ),
        section("Runs without a result", "", Content::List(failed(judgement))),
        section("Seeds left out of a comparison", "", Content::List(left_out(judgement))),
    ];
    sections.into_iter().filter(|section| !section.content.is_empty()).collect()
}

fn growth(judgement: &Judgement) -> Content {
    let header = vec![
        "arm",
        "runs",
        "step",
        "blocks, or width",
        "loss before",
        "after",
        "largest logit change",
        "largest activation",
        "no gradient",
        "claim",
    ];
    let rows = judgement.runs.iter().flat_map(|runs| runs.edits.iter().map(|edit| edit_row(&runs.arm, edit)));
    Content::Table { header, rows: rows.collect() }
}

fn edit_row(arm: &str, edit: &MeanEdit) -> Vec<String> {
    let claim = match edit.claim {
        Some(Claim::Exact) => "exact",
        Some(Claim::Approximate) => "approximate",
        Some(Claim::None) => "none",
        None => "-",
    };
    vec![
        arm.into(),
        edit.runs.to_string(),
        format!("{:.0}", edit.step),
        match edit.widths {
            Some([before, after]) => before.change_to(after),
            None => format!("{:.0} -> {:.0}", edit.depth_before, edit.depth_after),
        },
        nats(edit.loss_before),
        nats(edit.loss_after),
        edit.largest_logit_change.map_or("-".into(), |change| format!("{change:.3e}")),
        edit.activation_growth.map_or("-".into(), |growth| format!("x {growth:.3}")),
        format!("{:.0}", edit.without_gradient),
        claim.into(),
    ]
}

fn suites(judgement: &Judgement) -> Content {
    let header = vec!["arm", "suite", "number", "runs", "items", "mean", "± seeds", "± items"];
    let row = |figure: &SuiteFigure| {
        let known = |number: Option<f64>| number.map_or("-".into(), answer);
        vec![
            format!("{}/{}", figure.arm, figure.budget),
            figure.suite.clone(),
            figure.number.clone(),
            figure.runs.to_string(),
            if figure.cut > 0 {
                format!("{} ({} cut)", figure.items, figure.cut)
            } else {
                figure.items.to_string()
            },
            known(figure.mean),
            known(figure.standard_error),
            known(figure.standard_error_of_items),
        ]
    };
    Content::Table { header, rows: judgement.suites.iter().map(row).collect() }
}

/// Shares and losses as they are read; perplexities may be of any size.
fn answer(number: f64) -> String {
    if number.abs() < 1e6 { format!("{number:.4}") } else { format!("{number:.3e}") }
}

fn wall_times(judgement: &Judgement) -> Content {
    let mut header = vec!["arm", "training", "waiting for data", "evaluation"];
    let has_suites =
        judgement.runs.iter().filter_map(|runs| runs.mean_wall.as_ref()).any(|wall| wall.suite_seconds > 0.0);
    header.extend(has_suites.then_some("suites"));
    header.extend(["growth", "probes", "strategy", "checkpoints", "all"]);
    let rows = judgement.runs.iter().filter_map(|runs| {
        let wall = runs.mean_wall.as_ref()?;
        let training = format!("{:.3}", wall.training_seconds);
        let waiting_percent = 100.0 * wall.data_seconds / wall.training_seconds.max(f64::MIN_POSITIVE);
        let waiting = format!("{:.3} ({waiting_percent:.2} %)", wall.data_seconds);
        let mut seconds = vec![wall.evaluation_seconds];
        seconds.extend(has_suites.then_some(wall.suite_seconds));
        seconds.extend([
            wall.growth_seconds,
            wall.probing_seconds,
            wall.plugin_seconds,
            wall.checkpoint_seconds,
            wall.total_seconds(),
        ]);
        let cells = seconds.into_iter().map(|seconds| format!("{seconds:.3}"));
        Some([runs.arm.clone(), training, waiting].into_iter().chain(cells).collect())
    });
    Content::Table { header, rows: rows.collect() }
}

fn has_shadows(judgement: &Judgement) -> bool {
    let mut ids = judgement.runs.iter().flat_map(|runs| &runs.mean_wall).flat_map(|wall| wall.plugins.keys());
    ids.any(|id| id.ends_with("(shadow)"))
}

fn plugin_times(judgement: &Judgement) -> Content {
    let header = vec!["arm", "plugin", "calls", "seconds", "microseconds a call"];
    let of_arm = |runs: &ArmRuns| {
        let plugins = runs.mean_wall.iter().flat_map(|wall| &wall.plugins);
        let row = |(id, spent): (&String, &TimeSpent)| {
            let each = 1e6 * spent.seconds / spent.calls.max(1) as f64;
            let (calls, seconds) = (spent.calls.to_string(), format!("{:.3}", spent.seconds));
            vec![runs.arm.clone(), id.clone(), calls, seconds, format!("{each:.1}")]
        };
        plugins.map(row).collect::<Vec<_>>()
    };
    Content::Table { header, rows: judgement.runs.iter().flat_map(of_arm).collect() }
}

fn rates(judgement: &Judgement) -> Content {
    let row = |arm: &ArmSweep, trial: &Trial| {
        let chosen = if trial.rate == arm.chosen { "chosen" } else { "" };
        let loss = trial.mean_loss.map_or("diverged".into(), nats);
        vec![arm.arm.clone(), format!("{:e}", trial.rate), loss, chosen.into()]
    };
    let arms = judgement.sweep.iter().flat_map(|sweep| &sweep.arms);
    let rows = arms.flat_map(|arm| arm.trials.iter().map(move |trial| row(arm, trial))).collect();
    Content::Table { header: vec!["arm", "rate", "mean final loss", ""], rows }
}

fn shared(judgement: &Judgement) -> Content {
    let header = vec!["arm", "runs", "begin as", "until step", "exact FLOPs saved", "training s saved"];
    let all = &judgement.shared;
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
    Content::Table { header, rows }
}

fn skipped(judgement: &Judgement) -> Vec<String> {
    let of_run = |SkippedSteps { run, steps }: &SkippedSteps| {
        let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
        format!("{run}: {}", steps.join(", "))
    };
    judgement.skipped.iter().map(of_run).collect()
}

fn by_arm(judgement: &Judgement) -> Vec<String> {
    judgement.arms.iter().map(|arm| arm.verdict.sentence.clone()).collect()
}

fn losses(judgement: &Judgement) -> Content {
    let header = vec!["arm", "equal", "pairs", "difference", "visible", "p", "least p", "Holm", "outcome"];
    let planned = judgement.seeds.len();
    let mut rows = Vec::new();
    for arm in &judgement.arms {
        let kinds = [("compute", &arm.compute_matched), ("tokens", &arm.token_matched)];
        for (kind, difference) in kinds {
            rows.extend(difference.as_ref().map(|difference| loss_row(&arm.arm, kind, difference, planned)));
        }
    }
    Content::Table { header, rows }
}

/// A line for each arm of several studies, by the comparison that its verdict rests on.
pub(super) fn several(judgements: &[Judgement]) -> Content {
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
            baseline_end(judgement).map_or("-".into(), nats),
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

/// Mean over its runs; `None` where none finished.
fn baseline_end(judgement: &Judgement) -> Option<f64> {
    let points = &judgement.runs.first()?.final_points;
    let sum: f64 = points.iter().map(|point| point.loss_nats_per_token).sum();
    (!points.is_empty()).then(|| sum / points.len() as f64)
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

fn mean_difference(summary: &Summary) -> String {
    match summary.interval_95 {
        Some(Interval { low, high }) => {
            format!("{} [{}, {}]", signed_nats(summary.mean), signed_nats(low), signed_nats(high))
        }
        None => signed_nats(summary.mean),
    }
}

fn outcome(difference: &LossDifference) -> String {
    match difference.outcome {
        Outcome::Better => "better".into(),
        Outcome::Worse => "worse".into(),
        Outcome::Equal => "equal".into(),
        Outcome::Inconclusive => "inconclusive".into(),
        Outcome::TooFewSeeds => "few seeds".into(),
        Outcome::Diverged => format!("{} diverged", difference.diverged_seeds.len()),
        Outcome::NotCompared => "not compared".into(),
    }
}

fn costs_to_reach(judgement: &Judgement) -> Content {
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
    Content::Table { header, rows: rows.collect() }
}

fn continual(judgement: &Judgement) -> Content {
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
    Content::Table { header, rows: rows.collect() }
}

fn crossovers(judgement: &Judgement) -> Content {
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
    Content::Table { header, rows: rows.collect() }
}

fn reach_cell(ratio: Option<&Summary>, bound: Option<f64>) -> String {
    match (ratio, bound) {
        (Some(summary), _) => match summary.interval_95.filter(|_| summary.count >= FEWEST_FOR_A_VERDICT) {
            Some(Interval { low, high }) => format!("{:.3}× [{low:.3}, {high:.3}]", summary.mean),
            None => format!("{:.3}×, too few seeds for an interval", summary.mean),
        },
        (None, Some(bound)) => format!("not within {}", at_most_known(bound)),
        (None, None) => "-".into(),
    }
}

fn ledgers(judgement: &Judgement) -> Content {
    let header = vec!["arm", "exact", "weight_matmul", "li2024"];
    let ratio = |ratio: f64| format!("{ratio:.3}×");
    let row = |arm: &crate::ArmJudgement| {
        let mean = arm.costs.as_ref()?.mean;
        Some(vec![arm.arm.clone(), ratio(mean.exact), ratio(mean.weight_matmul), ratio(mean.li2024)])
    };
    Content::Table { header, rows: judgement.arms.iter().filter_map(row).collect() }
}

fn runs(judgement: &Judgement) -> Content {
    let header = vec!["arm", "planned", "finished", "diverged", "failed", "missing", "mean final loss"];
    let row = |runs: &ArmRuns| {
        let name = match runs.role {
            ArmRole::Baseline => format!("{} (baseline)", runs.arm),
            ArmRole::Compared => runs.arm.clone(),
        };
        let counts = [runs.planned, runs.finished, runs.diverged, runs.failed, runs.missing];
        let mut cells = vec![name];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(final_loss(runs));
        cells
    };
    Content::Table { header, rows: judgement.runs.iter().map(row).collect() }
}

/// Mean over seeds at the end of the runs, budget by budget where there are several.
fn final_loss(runs: &ArmRuns) -> String {
    let mut budgets: Vec<(&str, Vec<f64>)> = Vec::new();
    for point in runs.final_points.iter().filter(|point| point.loss_nats_per_token.is_finite()) {
        match budgets.iter_mut().find(|(budget, _)| *budget == point.budget) {
            Some((_, losses)) => losses.push(point.loss_nats_per_token),
            None => budgets.push((&point.budget, vec![point.loss_nats_per_token])),
        }
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    match &budgets[..] {
        [] => "-".into(),
        [(_, losses)] => format!("{:.4}", mean(losses)),
        several => {
            let each = several.iter().map(|(budget, losses)| format!("{:.4} ({budget})", mean(losses)));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

fn failed(judgement: &Judgement) -> Vec<String> {
    let status = |status| match status {
        RunStatus::Diverged => "diverged",
        RunStatus::Failed => "failed",
        RunStatus::Missing => "missing",
    };
    let item = |run: &crate::FailedRun| {
        format!("{}/{}/seed-{} {}: {}", run.arm, run.budget, run.seed, status(run.status), run.reason)
    };
    judgement.failed_runs.iter().map(item).collect()
}

fn left_out(judgement: &Judgement) -> Vec<String> {
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
    items
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
