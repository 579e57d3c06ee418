//! Two runs that have their first steps in common: the second begins as a copy of the first.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::{Fault, FaultKind, ScriptedEngine, Step};
use plugin_host::api::{Claim, Error, Measure, OptimizerChange, OptimizerRule, Pass, Train, Which};
use trainer::{Prefix, TrainError};

use crate::bench::{Bench, Filling, Told, grow};
use crate::resume::result;

/// Grows before steps 6 and 12, asks for an evaluation before step 9, and from step `turn` on trains the newest block alone.
/// Its phases are called `name`.
fn growing(name: &'static str, turn: u64) -> Told {
    Told::to(move |context, actions| {
        if context.step == 6 || context.step == 12 {
            let new = grow(context, actions)?;
            actions.phase(&format!("{name} after {}", context.step))?;
            actions.train(Train::with_shared(new))?;
        }
        if context.step == 9 {
            actions.evaluate()?;
        }
        if context.step == turn {
            let newest = context.blocks.last().ok_or_else(|| Error::new("there is no block"))?;
            actions.train(Train::blocks_only(vec![newest.id]))?;
        }
        Ok(())
    })
}

/// What `strategy` comes to without another run.
fn alone(strategy: Told) -> Bench {
    let bench = Bench::new();
    bench.run(strategy).expect("a good run");
    bench
}

/// A run that saves for others before these steps.
fn leading(forks: &[u64]) -> Bench {
    let mut bench = Bench::new();
    bench.forks = forks.iter().copied().map(Step).collect();
    bench.run(growing("leading", 100)).expect("a good run");
    bench
}

/// A workbench whose run begins as a copy of that one.
fn copying(leading: &Bench, until: u64) -> Bench {
    let mut bench = Bench::new();
    bench.prefix = Some(Prefix { run: "leading".into(), folder: leading.folder(), until: Step(until) });
    bench
}

#[test]
fn a_copy_comes_to_the_same_bits_as_a_run_by_itself() {
    let leading = leading(&[3, 6, 9, 10, 12, 15]);
    assert!(
        result(&leading) == result(&alone(growing("leading", 100))),
        "saving for others is no part of a run"
    );
    // Before the first growth, between the two and after both.
    for turn in [3, 10, 15] {
        let wanted = alone(growing("copy", turn));
        let copy = copying(&leading, turn);
        let summary = copy.run(growing("copy", turn)).expect("a good run");
        assert!(result(&copy) == result(&wanted), "turned at {turn}: another end");
        let shared = summary.shared.expect("it shares");
        assert_eq!((shared.run.as_str(), shared.steps), ("leading", Step(turn)));
        let flops = leading.steps()[turn as usize - 1].flops;
        assert_eq!(shared.flops, flops);
    }
}

#[test]
fn a_copy_takes_no_step_that_is_shared() {
    let leading = leading(&[6, 9, 10]);
    let copy = copying(&leading, 10);
    // Of its 20 steps ten are left, and each growth is looked at with three more.
    let run = |bench: &Bench| {
        let fault = Fault { at: Step(16), kind: FaultKind::Device };
        let engine = Box::new(ScriptedEngine::failing(&bench.config.model, &[fault]));
        let filling = Filling(|first| first, Claim::None);
        bench.run_with(growing("copy", 10), filling, engine, &AtomicBool::new(false))
    };
    run(&copy).expect("sixteen steps are enough");
    run(&Bench::new()).expect_err("by itself they are not");
}

#[test]
fn a_copy_of_a_copy_needs_what_is_shared_with_both() {
    let leading = leading(&[6, 9, 10]);
    let mut second = copying(&leading, 10);
    second.forks = BTreeSet::from([6, 9, 12, 13].map(Step));
    second.run(growing("second", 10)).expect("a good run");
    let third = || {
        let mut strategy = growing("third", 10);
        let decide = strategy.decide;
        strategy.decide = Box::new(move |context, actions| {
            decide(context, actions)?;
            let all = context.blocks.iter().map(|block| block.id).collect();
            if context.step == 13 { actions.train(Train::with_shared(all)) } else { Ok(()) }
        });
        strategy
    };
    let mut copy = copying(&second, 13);
    copy.prefix.as_mut().expect("it copies").folder = second.folder();
    // The phase that began before step 10 is looked at there, which the second run did not save for.
    let missing = copy.run(third()).expect_err("there is nothing to look at");
    assert!(matches!(&missing, TrainError::OtherPrefix { step: Step(10), .. }), "{missing}");
    copy.prefix = None;
    copy.run(third()).expect("a run by itself in the same folder");
    let wanted = alone(third());
    assert!(result(&copy) == result(&wanted), "what it had begun as a copy is left behind");

    second = copying(&leading, 10);
    second.forks = BTreeSet::from([6, 9, 10, 12, 13].map(Step));
    second.run(growing("second", 10)).expect("a good run");
    let copy = copying(&second, 13);
    copy.run(third()).expect("a good run");
    assert!(result(&copy) == result(&wanted), "another end");
}

/// What makes a configuration another one.
type Change = fn(&mut trainer::RunConfig);

/// What is changed, what the strategy is told of it, how new blocks are filled, and before which step it is noticed.
type Case<'a> = (&'a str, Told, fn(f32) -> f32, u64);

#[test]
fn what_was_not_the_same_after_all_is_noticed() {
    // Tensors can be had wherever one of these looks at them: what is noticed is noticed by the trail.
    let leading = leading(&[3, 6, 7, 9, 12, 15]);
    let filling = |first: f32| first + 1.0;
    let cases: [Case<'_>; 5] = [
        ("trains less from step 3 on", growing("copy", 3), |first| first, 6),
        ("runs a block by half from step 2 on", halving(2), |first| first, 6),
        ("fills new blocks in with something else", growing("copy", 15), filling, 9),
        ("changes AdamW's state", forgetting_moments(7), |first| first, 9),
        ("fails, so that there is something to save", failing(4), |first| first, 4),
    ];
    for (name, strategy, filling, noticed) in cases {
        let copy = copying(&leading, 15);
        let ran =
            copy.run_with(strategy, Filling(filling, Claim::None), copy.scripted(), &AtomicBool::new(false));
        let error = ran.expect_err(name);
        assert!(
            matches!(&error, TrainError::OtherPrefix { step, .. } if step.0 == noticed),
            "{name}: {error}"
        );
    }
    let others: [(&str, Change); 4] = [
        ("another optimizer", |config| config.optimizer.weight_decay = 0.2),
        ("another rate", |config| config.schedule.rate *= 1.0 + f64::EPSILON),
        ("another seed", |config| config.seed = 2),
        ("evaluated elsewhere", |config| config.evaluation.sequences = 6),
    ];
    for (name, change) in others {
        let mut copy = copying(&leading, 15);
        change(&mut copy.config);
        let error = copy.run(growing("copy", 15)).expect_err(name);
        assert!(matches!(&error, TrainError::OtherPrefix { step: Step(6), .. }), "{name}: {error}");
    }
}

fn halving(from: u64) -> Told {
    let growing = growing("copy", 15).decide;
    Told::to(move |context, actions| {
        if context.step == from {
            actions.execute(vec![Pass { mlp_gate: 0.5, ..Pass::whole(context.blocks[0].id) }])?;
        }
        growing(context, actions)
    })
}

fn failing(at: u64) -> Told {
    let growing = growing("copy", 15).decide;
    Told::to(move |context, actions| match context.step {
        step if step == at => Err(Error::new("the moon is not right")),
        _ => growing(context, actions),
    })
}

fn forgetting_moments(at: u64) -> Told {
    let growing = growing("copy", 15).decide;
    Told::to(move |context, actions| {
        if context.step == at {
            actions.optimizer(OptimizerRule { which: Which::All, change: OptimizerChange::Reset })?;
        }
        growing(context, actions)
    })
}

#[test]
fn a_copy_goes_on_wherever_it_was_interrupted() {
    let leading = leading(&[6, 9, 10]);
    let wanted = alone(growing("copy", 10));
    for stop in [0, 4, 6, 9, 10, 11, 17] {
        let copy = copying(&leading, 10);
        let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let mut strategy = growing("copy", 10);
        let decide = strategy.decide;
        strategy.decide = Box::new(move |context, actions| {
            if context.step == stop {
                interrupt.store(true, Ordering::Relaxed);
            }
            decide(context, actions)
        });
        let filling = Filling(|first| first, Claim::None);
        let stopped = copy.run_with(strategy, filling, copy.scripted(), interrupt);
        assert!(matches!(stopped, Err(TrainError::Interrupted { .. })), "{stop}: {stopped:?}");
        copy.run(growing("copy", 10)).expect("the rest of the run");
        assert!(result(&copy) == result(&wanted), "stopped at {stop}: another end");
    }
}

#[test]
fn a_strategy_that_has_steps_measured_takes_them_itself() {
    let leading = leading(&[6, 9, 10]);
    let measuring = || {
        let measure = Some(Measure { every_steps: 4, tensors: true, blocks: true });
        Told { measure, ..growing("copy", 10) }
    };
    let copy = copying(&leading, 10);
    let summary = copy.run(measuring()).expect("a good run");
    assert_eq!(summary.shared, None);
    assert!(result(&copy) == result(&alone(measuring())), "another end");
}

#[test]
fn without_a_checkpoint_to_end_at_a_run_is_its_own() {
    let leading = leading(&[6]);
    let copy = copying(&leading, 10);
    let summary = copy.run(growing("copy", 10)).expect("a good run");
    assert_eq!(summary.shared, None);
    assert!(result(&copy) == result(&alone(growing("copy", 10))), "another end");
}

/// Another run's damage is no harm to this one.
#[test]
fn where_the_other_runs_files_are_damaged_it_is_trained_from_its_own_start() {
    let wanted = alone(growing("copy", 10));
    for (damaged, noticed) in
        [("forks/00000010/weights.safetensors", 10), ("metrics.jsonl", 0), ("evals.jsonl", 0)]
    {
        let leading = leading(&[6, 9, 10]);
        let path = leading.folder().path().join(damaged);
        let mut bytes = std::fs::read(&path).expect("it was written");
        let middle = bytes.len() / 2;
        bytes[middle] = !bytes[middle];
        std::fs::write(&path, bytes).expect("room");
        let mut copy = copying(&leading, 10);
        let error = copy.run(growing("copy", 10)).expect_err(damaged);
        assert!(
            matches!(&error, TrainError::OtherPrefix { step, .. } if step.0 == noticed),
            "{damaged}: {error}"
        );
        copy.prefix = None;
        copy.run(growing("copy", 10)).expect("a run by itself");
        assert!(result(&copy) == result(&wanted), "{damaged}: another end");
    }
}
