//! Steps whose loss is no number: what a run makes of them, and that going on and copying know of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::{Engine, Fault, FaultKind, ScriptedEngine, Step};
use plugin_host::api::{Claim, RunEvent};
use trainer::{ErrorClass, OnNonFinite, Prefix, RunSummary, TrainError, checkpoint};

use crate::bench::{Bench, Filling, Told};
use crate::resume::result;

/// A workbench whose runs skip so many steps.
fn skipping(at_most: u64) -> Bench {
    let mut bench = Bench::new();
    bench.config.training.on_non_finite = OnNonFinite::Skip { at_most };
    bench
}

/// An engine whose loss is no number at these of the run's steps, where it is built before the step `from`.
fn bad_at(bench: &Bench, steps: &[u64], from: u64) -> Box<dyn Engine> {
    let fault = |step: &u64| Fault { at: Step(step - from), kind: FaultKind::NotANumber };
    let faults: Vec<Fault> = steps.iter().filter(|&&step| step >= from).map(fault).collect();
    Box::new(ScriptedEngine::failing(&bench.config.model, &faults))
}

fn run(bench: &Bench, engine: Box<dyn Engine>) -> Result<RunSummary, TrainError> {
    let filling = Filling(|first| first, Claim::None);
    bench.run_with(Told::to(|_, _| Ok(())), filling, engine, &AtomicBool::new(false))
}

#[test]
fn a_skipped_step_is_charged_and_written_down_and_updates_nothing() {
    let bench = skipping(3);
    let summary = run(&bench, bad_at(&bench, &[5, 6, 11], 0)).expect("three are allowed");
    assert_eq!(summary.skipped_steps, [5, 6, 11].map(Step));
    let whole = skipping(3);
    let undisturbed = run(&whole, whole.scripted()).expect("a good run");
    assert_eq!(undisturbed.skipped_steps, []);
    let costs =
        |summary: &RunSummary| (summary.costs.tokens, summary.costs.flops, summary.costs.flops_li2024);
    assert_eq!(costs(&summary), costs(&undisturbed), "each step is charged");
    let (steps, all) = (bench.steps(), whole.steps());
    let facts = |step: &trainer::folder::records::StepRecord| {
        (step.step, step.tokens, step.flops, step.learning_rate.to_bits())
    };
    assert!(steps.iter().map(facts).eq(all.iter().map(facts)), "data and schedule go on");
    assert_eq!(steps[5].skipped.as_deref(), Some("the loss is NaN"));
    assert!(steps[5].loss_nats_per_token.is_nan() && steps[4].skipped.is_none());
    let batches =
        |bench: &Bench| bench.evaluations().last().expect("evaluated at the end").batches_sha256.clone();
    assert_eq!(batches(&bench), batches(&whole), "the same data in the same order");
    let updates = |bench: &Bench| {
        let newest = checkpoint::list(&bench.folder().checkpoints()).expect("a folder")[0].clone();
        let (_, tensors) = checkpoint::load(&newest, &bench.config.model).expect("it is whole");
        tensors.tensors.iter().map(|(_, state)| state.moments.updates).max()
    };
    assert_eq!((updates(&bench), updates(&whole)), (Some(17), Some(20)));
}

#[test]
fn a_strategy_is_shown_no_loss_of_a_skipped_step_and_reporters_are_told_of_it_apart() {
    let bench = skipping(1);
    let strategy = Told::to(|context, _| {
        assert!(context.losses.iter().all(|loss| loss.loss_nats_per_token.is_finite()));
        assert_eq!(context.losses.len() as u64, context.step.saturating_sub(1) - u64::from(context.step > 6));
        Ok(())
    });
    let filling = Filling(|first| first, Claim::None);
    let engine = bad_at(&bench, &[5], 0);
    bench.run_with(strategy, filling, engine, &AtomicBool::new(false)).expect("one is allowed");
    let events = bench.events.lock().expect("nobody panicked");
    let steps = events.iter().filter(|event| matches!(event, RunEvent::Step { .. })).count();
    let skipped =
        |event: &&RunEvent| matches!(event, RunEvent::Metric { step: 5, key, .. } if key == "skipped_step");
    assert_eq!((steps, events.iter().filter(skipped).count()), (19, 1));
}

#[test]
fn one_more_than_is_allowed_stops_the_run() {
    let bench = skipping(2);
    let error = run(&bench, bad_at(&bench, &[5, 6, 11], 0)).expect_err("the third is too much");
    let wanted = "the loss at step 11 is NaN, after 2 steps were skipped for that";
    assert_eq!((error.class(), error.to_string().as_str()), (ErrorClass::Numeric, wanted));
    assert!(bench.files().contains("checkpoints/00000008/state.json"));
    // What was skipped before the checkpoint counts after it, too.
    let error = run(&bench, bad_at(&bench, &[11], 8)).expect_err("it is still the third");
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn a_run_that_has_skipped_steps_goes_on_to_the_same_end_wherever_it_stopped() {
    let bad = [0, 4, 7, 12, 19];
    let whole = skipping(5);
    run(&whole, bad_at(&whole, &bad, 0)).expect("a good run");
    let wanted = result(&whole);
    for stop in 0..20 {
        let bench = skipping(5);
        let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let strategy = Told::to(move |context, _| {
            interrupt.store(context.step == stop, Ordering::Relaxed);
            Ok(())
        });
        let filling = Filling(|first| first, Claim::None);
        let stopped = bench.run_with(strategy, filling, bad_at(&bench, &bad, 0), interrupt);
        let Err(TrainError::Interrupted { step }) = stopped else { panic!("{stop}: {stopped:?}") };
        let summary = run(&bench, bad_at(&bench, &bad, step.0)).expect("the rest of the run");
        assert_eq!(summary.skipped_steps, bad.map(Step), "stopped at {stop}");
        assert!(result(&bench) == wanted, "stopped at {stop}: another end");
    }
}

#[test]
fn a_copy_takes_skipped_steps_over_and_notices_where_they_differ() {
    let bad = [4, 7, 12];
    let mut leading = skipping(3);
    leading.forks = BTreeSet::from([10].map(Step));
    run(&leading, bad_at(&leading, &bad, 0)).expect("a good run");
    let copying = |at_most: u64| {
        let mut copy = skipping(at_most);
        copy.prefix = Some(Prefix { run: "leading".into(), folder: leading.folder(), until: Step(10) });
        copy
    };
    let copy = copying(3);
    let summary = run(&copy, bad_at(&copy, &bad, 10)).expect("a good run");
    assert!(summary.shared.is_some() && summary.skipped_steps == bad.map(Step));
    assert!(result(&copy) == result(&leading), "another end");
    // Another limit is another run, as its trail says; and fewer steps may be skipped while it is a copy, too.
    let other = copying(4);
    let error = run(&other, bad_at(&other, &bad, 10)).expect_err("another configuration");
    assert!(matches!(&error, TrainError::OtherPrefix { step: Step(10), .. }), "{error}");
    let fewer = copying(1);
    let error = run(&fewer, bad_at(&fewer, &bad, 10)).expect_err("it may skip one");
    assert_eq!(error.to_string(), "the loss at step 7 is NaN, after one step was skipped for that");
}

#[test]
fn nothing_that_is_allowed_is_a_mistake_in_the_configuration() {
    let refused = skipping(0).config.check().expect_err("it skips nothing");
    assert_eq!(refused.key, "training.on_non_finite");
}
