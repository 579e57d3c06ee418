//! Does a judgement say what the curves show, and does it say so when they do not show it?

use expect_test::{Expect, expect};

use super::made_up::{EARLY, LATE, LATE_COST, Study, curve, failed, of_all_kinds, plan};
use super::*;
use crate::RunCurve;
use engine::{Flops, Tokens};

/// The sentence of the only arm, a clause a line.
fn check(study: &Study, expected: Expect) {
    expected.assert_eq(&study.judged().arms[0].verdict.sentence.replace("; ", ";\n"));
}

fn only(study: &Study) -> ArmJudgement {
    study.judged().arms.remove(0)
}

#[test]
fn an_arm_that_is_the_baseline_shows_no_difference_and_costs_the_same() {
    let mut study = Study::with_baseline(3).arm("same", 10, 1.0, &[0.0; 3]);
    // The baseline passes its final loss before it ends, as a noisy curve does.
    for arm in ["whole", "same"] {
        for seed in 1..=3 {
            study.run(arm, seed).points[6].loss_nats_per_token = 2.9;
        }
    }
    let same = only(&study);
    assert_eq!(same.verdict.outcome, Outcome::Inconclusive);
    let cost = same.cost_to_reach.expect("planned");
    assert_eq!((cost.reached, cost.flops_ratio.map(|ratio| ratio.mean)), (3, Some(1.0)));
}

#[test]
fn better() {
    check(
        &Study::with_baseline(5).arm("grow", 16, 0.625, &EARLY),
        expect![[r#"
            `grow`: at equal compute better by 0.0120 nats per token [0.0100, 0.0140] (5 seeds, 95% t interval, sign-flip p 0.0625, smallest attainable 0.0625, 100.0% of the baseline's FLOPs used);
            at equal tokens worse by 1.1880 nats per token [1.1860, 1.1900] (5 seeds, 95% t interval, sign-flip p 0.0625, smallest attainable 0.0625, 62.5% of the baseline's FLOPs used);
            ahead after the same exact FLOPs to the end in 5 seeds;
            the baseline's final loss reached in 5 seeds for 0.996× its exact FLOPs [0.996, 0.997] and 1.594× its tokens [1.593, 1.595];
            the baseline's tokens cost it 0.625× by the exact ledger, 0.583× by weight_matmul, 0.531× by li2024."#]],
    );
}

#[test]
fn worse() {
    check(
        &Study::with_baseline(5).arm("grow", 11, LATE_COST, &LATE),
        expect![[r#"
            `grow`: at equal compute worse by 0.3300 nats per token [0.3104, 0.3496] (5 seeds, 95% t interval, sign-flip p 0.0625, smallest attainable 0.0625, 100.0% of the baseline's FLOPs used);
            at equal tokens worse by 0.5300 nats per token [0.5104, 0.5496] (5 seeds, 95% t interval, sign-flip p 0.0625, smallest attainable 0.0625, 90.9% of the baseline's FLOPs used);
            at no time ahead after the same exact FLOPs in 5 seeds;
            the baseline's final loss reached in none of 5 seeds, not within 1.00× its exact FLOPs and 1.10× its tokens;
            the baseline's tokens cost it 0.909× by the exact ledger, 0.899× by weight_matmul, 0.886× by li2024."#]],
    );
}

#[test]
fn inconclusive() {
    check(
        &Study::with_baseline(5).arm("grow", 10, 1.0, &[0.002, -0.003, 0.001, -0.001, 0.004]),
        expect![[r#"
            `grow`: at equal compute no difference that 5 seeds could show (smallest visible ±0.0034;
            mean +0.0006 [-0.0028, +0.0040];
            5 seeds, 95% t interval, sign-flip p 0.7500, smallest attainable 0.0625, 100.0% of the baseline's FLOPs used);
            at equal tokens no difference that 5 seeds could show (smallest visible ±0.0034;
            mean +0.0006 [-0.0028, +0.0040];
            5 seeds, 95% t interval, sign-flip p 0.7500, smallest attainable 0.0625, 100.0% of the baseline's FLOPs used);
            after the same exact FLOPs ahead to the end in 2 of 5 seeds, for a while in 0, never in 3;
            the baseline's final loss reached in 2 of 5 seeds, in the others not within 1.00× its exact FLOPs and 1.00× its tokens;
            the baseline's tokens cost it 1.000× by the exact ledger, 1.000× by weight_matmul, 1.000× by li2024."#]],
    );
}

#[test]
fn too_few_seeds() {
    check(
        &Study::with_baseline(2).arm("grow", 16, 0.625, &EARLY[..2]),
        expect![[r#"
            `grow`: at equal compute a mean difference of -0.0120 nats per token over 2 seeds, too few for a verdict (at least 3);
            at equal tokens a mean difference of +1.1880 nats per token over 2 seeds, too few for a verdict (at least 3);
            ahead after the same exact FLOPs to the end in 2 seeds;
            the baseline's final loss reached in 2 seeds for 0.996× its exact FLOPs and 1.594× its tokens;
            the baseline's tokens cost it 0.625× by the exact ledger, 0.583× by weight_matmul, 0.531× by li2024."#]],
    );
    check(
        &Study::with_baseline(1).arm("grow", 16, 0.625, &EARLY[..1]),
        expect![[r#"
            `grow`: at equal compute a mean difference of -0.0110 nats per token over 1 seed, too few for a verdict (at least 3);
            at equal tokens a mean difference of +1.1890 nats per token over 1 seed, too few for a verdict (at least 3);
            ahead after the same exact FLOPs to the end in 1 seed;
            the baseline's final loss reached in 1 seed for 0.997× its exact FLOPs and 1.595× its tokens;
            the baseline's tokens cost it 0.625× by the exact ledger, 0.583× by weight_matmul, 0.531× by li2024."#]],
    );
}

#[test]
fn divergence_is_counted_and_no_mean_stands_for_the_arm() {
    let mut study = Study::with_baseline(4).arm("grow", 12, 0.8, &[-0.02; 4]);
    for point in &mut study.run("grow", 2).points[3..] {
        point.loss_nats_per_token = f64::NAN;
    }
    study.runs.retain(|run| (run.arm.as_str(), run.seed) != ("grow", 3));
    study.failed.push(failed("grow", 3, RunStatus::Diverged, "the loss is NaN at step 45"));
    let grow = only(&study);
    assert_eq!(grow.verdict.outcome, Outcome::Diverged);
    assert_eq!(grow.token_matched.expect("planned").diverged_seeds, [2, 3]);
    assert_eq!(grow.cost_to_reach.expect("planned").diverged_seeds, [2, 3]);
    let runs = &study.judged().runs[1];
    assert_eq!((runs.planned, runs.finished, runs.diverged, runs.failed, runs.missing), (4, 2, 2, 0, 0));
    check(
        &study,
        expect![[r#"
            `grow`: at equal compute it diverged in 2 of 4 seeds, so no mean stands for it;
            at equal tokens it diverged in 2 of 4 seeds, so no mean stands for it (the mean difference over 2 seeds that did not is -0.0200);
            the baseline's final loss reached in 2 of 4 seeds, diverged before in 2;
            the baseline's tokens cost it 0.800× by the exact ledger, 0.778× by weight_matmul, 0.750× by li2024;
            2 of its 4 runs without a result."#]],
    );
}

#[test]
fn a_run_that_diverged_after_the_point_of_comparison_is_compared() {
    let mut study = Study::with_baseline(3).arm("grow", 14, 1.0, &[0.01, 0.02, 0.03]);
    study.run("grow", 1).points[14].loss_nats_per_token = f64::NAN;
    let tokens = only(&study).token_matched.expect("planned");
    assert_eq!((tokens.pairs.len(), tokens.outcome), (3, Outcome::Inconclusive));
    assert_eq!(study.judged().failed_runs[0].status, RunStatus::Diverged);
}

#[test]
fn a_baseline_that_diverged_leaves_the_seed_out() {
    let mut study = Study::with_baseline(3).arm("grow", 10, 1.0, &[0.1; 3]);
    study.run("whole", 2).points[10].loss_nats_per_token = f64::INFINITY;
    let tokens = only(&study).token_matched.expect("planned");
    assert_eq!(tokens.left_out, [LeftOut { seed: 2, reason: "the baseline diverged".into() }]);
    assert_eq!(tokens.outcome, Outcome::TooFewSeeds);
}

#[test]
fn other_batches_make_no_pair() {
    let mut study = Study::with_baseline(3).arm("grow", 10, 1.0, &[0.1; 3]);
    study.run("grow", 2).points[10].batches_sha256 = "0123456789abcdef".into();
    let grow = only(&study);
    let reason = "it was not trained on the baseline's batches: after 1000 tokens their hash is 01234567, \
                  the baseline's 0002-001";
    let left_out = [LeftOut { seed: 2, reason: reason.into() }];
    assert_eq!(grow.token_matched.expect("planned").left_out, left_out);
    assert_eq!(grow.compute_matched.expect("planned").left_out, left_out);
    assert_eq!(grow.cost_to_reach.expect("planned").left_out, left_out);
}

#[test]
fn where_no_evaluation_is_in_common_it_is_said_that_equal_data_is_not_shown() {
    let mut study = Study::with_baseline(3).arm("grow", 10, 1.0, &[0.1, 0.2, 0.3]);
    for seed in 1..=3 {
        for point in &mut study.run("grow", seed).points[1..] {
            point.tokens.0 -= 1;
        }
    }
    let grow = only(&study);
    assert_eq!(grow.verdict.headline, Some(Headline::ComputeMatched));
    assert!(grow.verdict.sentence.contains("equal data not shown"), "{}", grow.verdict.sentence);
    assert_eq!(
        grow.token_matched.expect("planned").left_out[0].reason,
        "no evaluation after 1000 tokens, where the baseline ends"
    );
}

#[test]
fn less_than_98_percent_of_the_budget_is_not_the_budget() {
    let share = |cost: f64| {
        let study = Study::with_baseline(3).arm("grow", 10, cost, &[0.1; 3]);
        only(&study).compute_matched.expect("planned")
    };
    let enough = share(0.98);
    assert_eq!(enough.pairs[0].share_of_baseline_flops, 0.98);
    let short = share(0.97);
    assert_eq!(
        short.left_out[0].reason,
        "not reached: it used 97.0% of the baseline's exact FLOPs, at least 98.0% are required"
    );
    assert_eq!(short.outcome, Outcome::NotCompared);
}

#[test]
fn flops_are_compared_exactly() {
    let mut study = Study::with_baseline(3).arm("grow", 10, 1.0, &[0.1; 3]);
    // One more than a f64 of this size can tell.
    let budget = 1_u128 << 80;
    for seed in 1..=3 {
        study.run("whole", seed).points[10].flops = Flops(budget);
        study.run("grow", seed).points[10].flops = Flops(budget + 1);
        study.run("grow", seed).points[9].flops = Flops(budget - 1);
    }
    let pairs = only(&study).compute_matched.expect("planned").pairs;
    assert_eq!(pairs[0].arm_tokens, Tokens(900));
}

#[test]
fn a_loss_never_reached_has_a_bound_and_a_mixture_has_both() {
    let mut study = Study::with_baseline(3).arm("grow", 13, 1.0, &[0.1, 0.9, 0.8]);
    study.run("grow", 3).points.truncate(13);
    let cost = only(&study).cost_to_reach.expect("planned");
    assert_eq!(cost.reached, 1);
    assert_eq!(cost.flops_ratio, None);
    assert_eq!(cost.not_within_flops, Some(1.2), "the smaller of 1.3 and 1.2 holds for both");
    // 3.0 is crossed half-way from 1000 tokens (3.1) to 1100 (2.9).
    assert!((cost.seeds[0].tokens_ratio - 1.05).abs() < 1e-12);
    check(
        &study,
        expect![[r#"
            `grow`: at equal compute no difference that 3 seeds could show (smallest visible ±1.0828;
            mean +0.6000 [-0.4828, +1.6828];
            3 seeds, 95% t interval, sign-flip p 0.2500, smallest attainable 0.2500, 100.0% of the baseline's FLOPs used);
            at equal tokens no difference that 3 seeds could show (smallest visible ±1.0828;
            mean +0.6000 [-0.4828, +1.6828];
            3 seeds, 95% t interval, sign-flip p 0.2500, smallest attainable 0.2500, 100.0% of the baseline's FLOPs used);
            at no time ahead after the same exact FLOPs in 3 seeds;
            the baseline's final loss reached in 1 of 3 seeds, in the others not within 1.20× its exact FLOPs and 1.20× its tokens;
            the baseline's tokens cost it 1.000× by the exact ledger, 1.000× by weight_matmul, 1.000× by li2024."#]],
    );
}

/// An offset of -0.2 is one evaluation's fall: the arm is there after 900 of 1000 tokens.
#[test]
fn seconds_and_joules_are_compared_where_every_run_was_alone() {
    let mut study = Study::with_baseline(3).arm("grow", 10, 1.0, &[-0.2, -0.2, -0.2]);
    let cost = |study: &Study| only(study).cost_to_reach.expect("it is planned");
    let side_by_side = cost(&study);
    assert_eq!((side_by_side.seconds_ratio, side_by_side.joules_ratio), (None, None));
    for run in &mut study.runs {
        run.alone = true;
        // Ten joules a second, for what grows twice as many.
        let watts = if run.arm == "grow" { 20.0 } else { 10.0 };
        run.points.iter_mut().for_each(|point| point.joules = Some(watts * point.wall_seconds));
    }
    let near = |ratio: Option<crate::Summary>, wanted: f64| {
        ratio.is_some_and(|ratio| (ratio.mean - wanted).abs() < 1e-12)
    };
    let alone = cost(&study);
    assert!(near(alone.seconds_ratio, 0.9) && near(alone.joules_ratio, 1.8), "{alone:?}");
    study.run("grow", 2).points[3].joules = None;
    let without = cost(&study);
    assert!(near(without.seconds_ratio, 0.9) && without.joules_ratio.is_none(), "{without:?}");
    study.run("whole", 2).alone = false;
    assert_eq!(cost(&study).seconds_ratio, None, "a mean over some would be no mean");
}

#[test]
fn a_decaying_rate_has_a_run_for_each_comparison() {
    let mut study = Study::with_baseline(3);
    let by = |budget: &str| Some(budget.to_owned());
    study.arms.push(ArmPlan {
        arm: "grow".into(),
        token_matched: by("tokens"),
        compute_matched: by("compute"),
        cost_to_reach: by("compute"),
    });
    for seed in 1..=3 {
        let spread = 0.001 * seed as f64;
        study.runs.push(RunCurve { budget: "tokens".into(), ..curve("grow", seed, 10, 0.5, 0.1 + spread) });
        study.runs.push(RunCurve { budget: "compute".into(), ..curve("grow", seed, 20, 0.5, -0.3 + spread) });
    }
    let judgement = study.judged();
    let grow = &judgement.arms[0];
    let mean = |difference: &Option<LossDifference>| {
        difference.as_ref().and_then(|difference| difference.statistics.clone()).map(|s| s.summary.mean)
    };
    assert!(mean(&grow.token_matched).is_some_and(|mean| (mean - 0.102).abs() < 1e-12));
    assert!(mean(&grow.compute_matched).is_some_and(|mean| (mean + 2.298).abs() < 1e-12));
    assert_eq!(judgement.runs[1].planned, 6);
}

#[test]
fn p_values_are_corrected_over_the_arms() {
    let study = Study::with_baseline(6).arm("a", 10, 1.0, &[0.1, 0.11, 0.12, 0.13, 0.14, 0.15]).arm(
        "b",
        10,
        1.0,
        &[0.1, -0.1, 0.2, -0.2, 0.3, -0.2],
    );
    let arms = study.judged().arms;
    let p = |arm: usize| arms[arm].token_matched.as_ref().and_then(|difference| difference.p());
    let holm = |arm: usize| arms[arm].token_matched.as_ref().and_then(|difference| difference.holm_p);
    assert_eq!((p(0), holm(0)), (Some(0.03125), Some(0.0625)));
    assert!(p(1) > Some(0.1));
    assert_eq!(holm(1), p(1), "the largest is not raised");
}

#[test]
fn what_is_not_planned_is_not_compared() {
    let mut study = Study::with_baseline(3);
    let none = ArmPlan { token_matched: None, compute_matched: None, cost_to_reach: None, ..plan("grow") };
    study.arms.push(none);
    check(&study, expect!["`grow` is not compared in any way."]);
}

#[test]
fn missing_and_failed_runs_are_listed() {
    let judgement = of_all_kinds().judged();
    let listed: Vec<String> = judgement
        .failed_runs
        .iter()
        .map(|run| format!("{} {} {:?}: {}", run.arm, run.seed, run.status, run.reason))
        .collect();
    expect![[r#"
        grow-fast-with-a-high-rate 2 Diverged: its loss was no number any more at step 70
        grow-twice 3 Failed: the plugin `example/grow-twice` failed in `before_step`: index out of bounds
        grow-twice 5 Missing: it has not been run"#]]
    .assert_eq(&listed.join("\n"));
    expect![[r#"
        5 arms are compared with `whole` over 5 seeds.
        Better: `grow-early` at equal compute by 0.0120 nats per token [0.0100, 0.0140].
        Worse: `grow-late` at equal compute by 0.3300 nats per token [0.3104, 0.3496].
        No difference that the seeds could show: `no-growth` at equal compute (smallest visible ±0.0034).
        Too few seeds for a verdict: `grow-twice` at equal compute.
        Diverged in some seed: `grow-fast-with-a-high-rate` at equal compute.
        The baseline's final loss is reached for fewer FLOPs by `grow-early` (0.996×).
        The baseline's final loss is not reached in every seed by `grow-late` (not within 1.00×), `no-growth` (2 of 5 seeds; the others not within 1.00×), `grow-twice` (1 of 2 seeds; the others not within 0.68×).
        The intervals hold arm by arm; Holm's p values are corrected over the arms.
        Of 30 runs 27 finished: 1 diverged, 1 failed, 1 missing."#]].assert_eq(&judgement.verdict.replace(". ", ".\n"));
}

#[test]
fn evidence_that_contradicts_itself_is_refused() {
    let refused = |study: &Study| {
        let error = judge(&study.case(), Beside::default()).expect_err("must be refused");
        format!("{error}; {}", error.hint())
    };
    let mut twice = Study::with_baseline(2).arm("grow", 10, 1.0, &[0.0; 2]);
    twice.runs.push(curve("grow", 2, 3, 1.0, 0.0));
    assert_eq!(refused(&twice), "the run grow/main/seed-2 is given twice; keep one of the two folders");
    let mut unplanned = Study::with_baseline(2);
    unplanned.runs.push(curve("whole", 9, 3, 1.0, 0.0));
    assert!(refused(&unplanned).starts_with("the run whole/main/seed-9 belongs to no arm"));
    let mut failed_unplanned = Study::with_baseline(2);
    failed_unplanned.failed.push(failed("other", 1, RunStatus::Failed, "x"));
    assert!(refused(&failed_unplanned).starts_with("the run other/main/seed-1 belongs to no arm"));
    let same_name = Study::with_baseline(2).arm("whole", 0, 1.0, &[]);
    assert!(refused(&same_name).starts_with("the arm `whole` is named twice"));
    let mut back = Study::with_baseline(2);
    back.run("whole", 1).points.swap(3, 4);
    assert!(refused(&back).starts_with("the run whole/main/seed-1 goes back at its evaluation of step 30"));
}
