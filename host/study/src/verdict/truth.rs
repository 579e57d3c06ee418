//! Studies whose truth is known: curves made from a formula give back what the formula says, and where there is no effect none
//! is found.

use engine::{Flops, Step, Tokens};
use plugin_host::api::{Key, Random};

use super::made_up::{Study, plan, run_of};
use crate::{Ahead, ArmJudgement, EvaluationPoint, Outcome, RunCurve};

/// Evaluations within the baseline's budget.
const EVALUATIONS: u64 = 400;
/// What reading between two evaluations costs.
const INTERPOLATION: f64 = 1e-4;

/// A baseline's loss after a share of its budget.
fn baseline(share: f64) -> f64 {
    2.0 + 3.0 / (1.0 + 20.0 * share).sqrt()
}

/// A run that spends so many times the baseline's FLOPs, whose token costs `flops` of the baseline's.
fn curve(arm: &str, seed: u64, budgets: f64, flops: f64, loss: &dyn Fn(f64) -> f64) -> RunCurve {
    let evaluations = (budgets / flops * EVALUATIONS as f64).round() as u64;
    let point = |i: u64| {
        let tokens = 1000 * i;
        let spent = flops * i as f64 / EVALUATIONS as f64;
        let flops = Flops((1e15 * spent).round() as u128);
        EvaluationPoint {
            step: Step(i),
            tokens: Tokens(tokens),
            flops,
            flops_weight_matmul: flops,
            flops_li2024: flops,
            wall_seconds: 0.0,
            joules: None,
            loss_nats_per_token: loss(spent),
            batches_sha256: format!("{seed}-{tokens}"),
        }
    };
    run_of(arm, seed, (0..=evaluations).map(point).collect())
}

/// Three seeds, which differ in both runs by the same amount: pairing takes it out.
fn judged(budgets: f64, flops: f64, loss: impl Fn(f64) -> f64) -> ArmJudgement {
    let mut study = Study { runs: Vec::new(), arms: vec![plan("arm")], ..Study::with_baseline(3) };
    for seed in 1..=3 {
        let luck = 0.05 * seed as f64;
        study.runs.push(curve("whole", seed, 1.0, 1.0, &|spent| baseline(spent) + luck));
        study.runs.push(curve("arm", seed, budgets, flops, &|spent| loss(spent) + luck));
    }
    study.judged().arms.remove(0)
}

fn near(ours: f64, truth: f64) -> bool {
    (ours - truth).abs() <= INTERPOLATION
}

#[test]
fn an_arm_that_needs_four_fifths_of_the_flops_is_found_to() {
    let arm = judged(1.0, 0.5, |spent| baseline(spent / 0.8));
    let cost = arm.cost_to_reach.expect("it is reached");
    let ratio = |summary: Option<crate::verdict::statistics::Summary>| summary.expect("in every seed").mean;
    assert!(near(ratio(cost.flops_ratio), 0.8) && near(ratio(cost.tokens_ratio), 1.6), "{cost:?}");
    let difference = arm.compute_matched.expect("both end there").statistics.expect("pairs").summary.mean;
    assert!(near(difference, baseline(1.25) - baseline(1.0)), "{difference}");
    assert_eq!(arm.verdict.outcome, Outcome::Better);
    let ahead = arm.crossover.expect("both have curves").seeds;
    assert!(ahead.iter().all(|seed| seed.ahead == Ahead::ToTheEnd), "{ahead:?}");
}

#[test]
fn an_arm_that_is_ahead_for_a_while_is_found_to_fall_behind_where_it_does() {
    for until in [0.05, 0.37, 0.62, 0.9] {
        // Every token costs seven tenths: evaluations do not fall together.
        let arm = judged(1.0, 0.7, |spent| baseline(spent) + 0.3 * (spent - until));
        let crossover = arm.crossover.expect("both have curves");
        let share = crossover.share_of_baseline.expect("in every seed").mean;
        assert!((share - until).abs() <= 1e-3, "{share} for {until}");
        assert_eq!(arm.verdict.outcome, Outcome::Worse);
        assert!(
            arm.verdict.sentence.contains("ahead after the same exact FLOPs until"),
            "{}",
            arm.verdict.sentence
        );
    }
    let behind = judged(1.0, 0.7, |spent| baseline(spent) + 0.1).crossover.expect("both have curves");
    assert!(behind.seeds.iter().all(|seed| seed.ahead == Ahead::Never), "{behind:?}");
}

#[test]
fn an_arm_that_never_gets_there_has_the_bound_that_it_was_tried_to() {
    let arm = judged(1.8, 0.5, |spent| baseline(spent) + 0.5);
    let cost = arm.cost_to_reach.expect("it was tried");
    assert_eq!((cost.reached, cost.flops_ratio), (0, None));
    let bounds = [cost.not_within_flops, cost.not_within_tokens].map(|bound| bound.expect("a bound"));
    assert!(near(bounds[0], 1.8) && near(bounds[1], 3.6), "{bounds:?}");
}

/// A study of four arms and so many seeds in which every run has its own luck, and nothing else.
fn without_effect(number: u64, seeds: u64) -> Study {
    let mut random = Random::new(Key::of_seed(number).named("false alarms"));
    let mut study = Study { runs: Vec::new(), ..Study::with_baseline(seeds) };
    let arms = ["whole", "one", "two", "three", "four"];
    for arm in arms {
        for seed in 1..=seeds {
            let luck = 0.02 * random.normal();
            let mut run = curve(arm, seed, 1.0, 1.0, &|spent| baseline(spent) + luck);
            run.points.retain(|point| point.step.0 % 40 == 0);
            study.runs.push(run);
        }
    }
    study.arms = arms[1..].iter().map(|arm| plan(arm)).collect();
    study
}

#[test]
fn where_there_is_no_effect_hardly_any_is_found() {
    for seeds in [3, 5, 10] {
        let arms: Vec<ArmJudgement> =
            (0..100).flat_map(|number| without_effect(number, seeds).judged().arms).collect();
        let count = |outcome| arms.iter().filter(|arm| arm.verdict.outcome == outcome).count();
        let [better, worse] = [count(Outcome::Better), count(Outcome::Worse)];
        // Two-sided at 5 %: a fortieth on either side is expected of 400, and a twentieth is the most that may be.
        assert!(
            better <= 20 && worse <= 20,
            "{seeds} seeds: {better} better, {worse} worse of {}",
            arms.len()
        );
        assert!(better + worse > 0, "{seeds} seeds: an interval that never misses is too wide");
    }
}

#[test]
fn what_is_equal_within_a_stated_margin_is_said_to_be() {
    let study = |margin| Study { equal_within_nats: Some(margin), ..without_effect(7, 10) };
    let outcomes =
        |margin| study(margin).judged().arms.into_iter().map(|arm| arm.verdict).collect::<Vec<_>>();
    let wide = outcomes(0.05);
    // An interval that misses zero is told as a difference, however small: one of the four is a false alarm.
    let equal = wide.iter().filter(|verdict| verdict.outcome == Outcome::Equal);
    let told =
        equal.map(|verdict| verdict.sentence.contains("equal within ±0.0500 nats per token (two one-sided"));
    assert_eq!(told.collect::<Vec<_>>(), [true; 3], "{wide:?}");
    let narrow = outcomes(0.001);
    assert!(narrow.iter().all(|verdict| verdict.outcome != Outcome::Equal), "{narrow:?}");
}

/// The same runs once more under another name: no difference, to the last digit.
#[test]
fn the_baseline_against_itself_is_not_different() {
    let arm = judged(1.0, 1.0, baseline);
    let summary = arm.compute_matched.expect("both end there").statistics.expect("pairs").summary;
    assert_eq!((summary.mean, summary.standard_deviation), (0.0, Some(0.0)));
    assert_eq!(arm.verdict.outcome, Outcome::Inconclusive);
    assert!(near(arm.cost_to_reach.expect("reached").flops_ratio.expect("everywhere").mean, 1.0));
}
