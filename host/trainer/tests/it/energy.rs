//! Whether a run is charged with all that its steps have used, on a device that works on its own time, and with nothing else.

use std::sync::atomic::AtomicBool;

use engine::{MILLIJOULES_OF_A_STEP, ScriptedEngine};

use crate::bench::{Bench, Filling, Told};
use plugin_host::api::Claim;

#[test]
fn every_joule_of_a_step_is_counted_and_none_of_an_evaluation() {
    let bench = Bench::new();
    let engine = Box::new(ScriptedEngine::metered(&bench.config.model));
    // Decisions, evaluations and checkpoints end some steps before the next begins; others are followed at once.
    let asking = Told::to(|context, actions| if context.step == 9 { actions.evaluate() } else { Ok(()) });
    let strategy = Told { tells: false, ..asking };
    let filling = Filling(|first| first, Claim::None);
    let summary = bench.run_with(strategy, filling, engine, &AtomicBool::new(false)).expect("a good run");
    assert!(summary.steps.0 > 10);
    let joules = summary.costs.joules.expect("the device tells");
    let expected = (summary.steps.0 * MILLIJOULES_OF_A_STEP) as f64 / 1e3;
    assert!((joules - expected).abs() < 1e-9, "{joules}, not {expected}");
}
