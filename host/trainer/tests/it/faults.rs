//! Bad plugins and failing devices: contained, saved, named.

use engine::{Fault, FaultKind, ScriptedEngine, Step};
use plugin_host::api::{Claim, Error};
use std::sync::atomic::AtomicBool;
use trainer::{ErrorClass, TrainError};

use crate::bench::{Bench, Filling, Told, grow};

fn at(step: u64, kind: FaultKind) -> Fault {
    Fault { at: Step(step), kind }
}

fn run_on_failing(bench: &Bench, fault: Fault) -> TrainError {
    let engine = Box::new(ScriptedEngine::failing(&bench.config.model, &[fault]));
    let filling = Filling(|first| first, Claim::None);
    let strategy = Told::to(|_, _| Ok(()));
    bench.run_with(strategy, filling, engine, &AtomicBool::new(false)).expect_err("the engine fails")
}

#[test]
fn a_strategys_error_stops_the_run_after_a_checkpoint_and_names_it() {
    let bench = Bench::new();
    let strategy =
        Told::to(
            |context, _| {
                if context.step == 9 { Err(Error::new("the moon is not right")) } else { Ok(()) }
            },
        );
    let error = bench.run(strategy).expect_err("the strategy fails");
    assert_eq!(error.class(), ErrorClass::PluginFault);
    assert_eq!(error.to_string(), "the strategy `test/told` failed in `before_step`: the moon is not right");
    assert!(bench.files().contains("checkpoints/00000009/state.json"), "{:?}", bench.files());
    // A healthy strategy goes on from there, to the same end as if nothing had happened.
    bench.run(Told::to(|_, _| Ok(()))).expect("a good run");
    let whole = Bench::new();
    whole.run(Told::to(|_, _| Ok(()))).expect("a good run");
    assert!(bench.steps() == whole.steps(), "another end");
    let calls = |bench: &Bench| {
        let path = bench.folder().checkpoints().join("00000020/plugins/strategy.bin");
        std::fs::read(path).expect("the last checkpoint")
    };
    assert_eq!(calls(&bench), calls(&whole), "the call that failed has left a trace");
}

#[test]
fn nonsense_that_a_strategy_insists_on_is_its_fault() {
    let bench = Bench::new();
    let strategy = Told::to(|_, actions| actions.remove(&[plugin_host::api::LayerId(77)]));
    let error = bench.run(strategy).expect_err("there is no such block");
    assert_eq!(error.to_string(), "the strategy `test/told` failed in `before_step`: there is no block 77");
}

#[test]
fn an_initializer_that_leaves_an_element_out_is_named_and_nothing_has_grown() {
    let bench = Bench::new();
    let strategy = Told::to(
        |context, actions| if context.step == 6 { grow(context, actions).map(|_| ()) } else { Ok(()) },
    );
    let lazy = Filling(|_| f32::NAN, Claim::None);
    let error = bench
        .run_with(strategy, lazy, bench.scripted(), &AtomicBool::new(false))
        .expect_err("an element is missing");
    let wanted = "the initializer `test/filling` failed in `init`: ln_1.weight of block 1 is not finite or not \
                  written at element 0";
    assert_eq!(error.to_string(), wanted);
    bench.run(Told::to(|_, _| Ok(()))).expect("the checkpoint is that of one block");
    assert!(bench.steps().iter().all(|step| step.depth == 1));
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_spares_the_checkpoints() {
    let bench = Bench::new();
    let error = run_on_failing(&bench, at(10, FaultKind::NotANumber));
    assert_eq!(
        (error.class(), error.to_string().as_str()),
        (ErrorClass::Numeric, "the loss at step 10 is NaN")
    );
    assert!(bench.files().contains("checkpoints/00000008/state.json"));
}

#[test]
fn a_failing_device_is_a_matter_of_resources() {
    for kind in [FaultKind::Device, FaultKind::OutOfMemory] {
        let error = run_on_failing(&Bench::new(), at(3, kind));
        assert_eq!(error.class(), ErrorClass::Resource, "{error}");
    }
}
