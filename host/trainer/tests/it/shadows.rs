//! Strategies that ride along: no bit of the run is theirs, and their log is the same however often the run was
//! interrupted.

use std::sync::atomic::{AtomicBool, Ordering};

use plugin_host::api::{self, Actions, Error, Event, LayerId, Measure, Probe, StepContext, Train};
use trainer::checkpoint;
use trainer::folder::records::{ShadowRecord, ShadowSaid};

use crate::bench::{Bench, Told, grow};

/// Grows before steps 6 and 12, keeps the second edit as it does the first, and interrupts before `stop`.
fn growing(stop: Option<(u64, &'static AtomicBool)>) -> Told {
    Told::to(move |context, actions| {
        if let Some((_, interrupt)) = stop.filter(|(step, _)| *step == context.step) {
            interrupt.store(true, Ordering::Relaxed);
        }
        if context.step == 6 || context.step == 12 {
            grow(context, actions)?;
            actions.phase(&format!("after {}", context.step))?;
        }
        Ok(())
    })
}

fn silent(context: &StepContext<'_>, _: &mut Actions<'_>) -> api::Result<()> {
    assert!(!context.blocks.is_empty());
    Ok(())
}

/// One that grows as the run does once and takes it back, one that wants too much, one that fails, one that says nothing.
fn crowd() -> Vec<Told> {
    let mut picky = Told::to(
        |context, actions| {
            if context.step == 6 { grow(context, actions).map(|_| ()) } else { Ok(()) }
        },
    );
    picky.react = Box::new(|event, actions| match event {
        Event::Edited(receipt) => actions.reject(&format!("no, not to {} blocks", receipt.depth_after)),
        _ => Ok(()),
    });
    let greedy = Told::to(
        |context, actions| {
            if context.step % 5 == 2 { actions.remove(&[LayerId(77)]) } else { Ok(()) }
        },
    );
    let failing = Told::to(
        |context, _| if context.step == 9 { Err(Error::new("the moon is not right")) } else { Ok(()) },
    );
    let mut quiet = Told::to(silent);
    quiet.react = Box::new(|event, _| match event {
        Event::Edited(_) => Err(Error::new("this edit was none of mine")),
        _ => Ok(()),
    });
    vec![picky, greedy, failing, quiet]
}

/// Everything that a run leaves behind and no clock touches, shadows aside.
fn results(bench: &Bench) -> (String, Vec<Vec<u8>>, Vec<f64>) {
    let newest = checkpoint::list(&bench.folder().checkpoints()).expect("a folder")[0].clone();
    let read = |name: &str| std::fs::read(newest.join(name)).expect("a whole checkpoint");
    let logs = [bench.folder().metrics_file(), bench.folder().decisions_file()];
    let logs = logs.map(|path| std::fs::read_to_string(path).expect("a log")).concat();
    let tensors = ["weights.safetensors", "moments.safetensors", "plugins/strategy.bin"].map(read).into();
    (logs, tensors, bench.evaluations().iter().map(|at| at.loss_nats_per_token).collect())
}

/// Of one shadow all that is not the number which every scripted strategy tells.
fn said(bench: &Bench, shadow: &str) -> Vec<String> {
    let of = bench.shadows().into_iter().filter(|record| record.shadow == shadow);
    of.filter_map(|ShadowRecord { step, said, .. }| in_words(&said).map(|words| format!("{step}: {words}")))
        .collect()
}

fn in_words(said: &ShadowSaid) -> Option<String> {
    match said {
        ShadowSaid::Began { plan, .. } => Some(format!("begins with {}", plan.initial_depth)),
        ShadowSaid::Asked { requests, refused, gave_up } => {
            let refused: Vec<&str> = refused.iter().map(|refused| refused.reason.as_str()).collect();
            let asked = requests.iter().filter(|request| !matches!(request, api::Action::Metric { .. }));
            let asked: Vec<String> =
                asked.map(|request| format!("{request:?}").chars().take(6).collect()).collect();
            let nothing = asked.is_empty() && refused.is_empty() && gave_up.is_none();
            (!nothing).then(|| format!("asks {asked:?}, refused {refused:?}, {gave_up:?}"))
        }
        ShadowSaid::Judged { rejected } => Some(format!("judges {rejected:?}")),
        ShadowSaid::Dropped { reason } => Some(format!("dropped: {reason}")),
    }
}

#[test]
fn no_bit_of_a_run_is_its_shadows() {
    let (alone, beside) = (Bench::new(), Bench::new());
    let bare = alone.run(growing(None)).expect("a good run");
    let summary = beside.run_beside(growing(None), crowd(), &AtomicBool::new(false)).expect("a good run");
    assert!(results(&alone) == results(&beside), "the run is another with shadows");
    assert!(!alone.folder().shadows_file().exists());
    assert_eq!((bare.costs.flops, bare.costs.tokens), (summary.costs.flops, summary.costs.tokens));
    let plugins = &summary.costs.wall.plugins;
    let calls = |name: &str| plugins[name].calls;
    assert_eq!(calls("test/told"), bare.costs.wall.plugins["test/told"].calls, "{plugins:?}");
    // plan; before each of 20 steps `save` and `before_step`; 4 evaluations told; saved 5 times; nothing of edits.
    assert_eq!(calls("test/shadow#4 (shadow)"), 1 + 40 + 4 + 5, "{plugins:?}");
    assert!(plugins["test/shadow#3 (shadow)"].calls > 10, "what a dropped one took is in the ledger, too");
}

#[test]
fn the_log_tells_what_each_would_have_done() {
    let bench = Bench::new();
    bench.run_beside(growing(None), crowd(), &AtomicBool::new(false)).expect("a good run");
    assert_eq!(
        said(&bench, "test/shadow"),
        [
            "0: begins with 1",
            "6: asks [\"Insert\"], refused [], None",
            "6: judges Some(\"no, not to 2 blocks\")",
        ]
    );
    let wants =
        |step| format!("{step}: asks [], refused [\"there is no block 77\"], Some(\"there is no block 77\")");
    let greedy: Vec<String> = [2, 7, 12, 17].map(wants).into();
    assert_eq!(said(&bench, "test/shadow#2")[1..], greedy);
    let failed = "9: dropped: the strategy `test/shadow` failed in `before_step`: the moon is not right";
    assert_eq!(said(&bench, "test/shadow#3"), ["0: begins with 1", failed]);
    assert!(bench.shadows().iter().all(|record| record.shadow != "test/shadow#3" || record.step.0 <= 9));
    assert_eq!(
        said(&bench, "test/shadow#4"),
        ["0: begins with 1"],
        "it heard of edits that it had not asked for"
    );
}

#[test]
fn interrupted_anywhere_its_log_is_the_same() {
    let whole = Bench::new();
    whole.run_beside(growing(None), crowd(), &AtomicBool::new(false)).expect("a good run");
    for step in 0..20 {
        let bench = Bench::new();
        let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        bench.run_beside(growing(Some((step, interrupt))), crowd(), interrupt).expect_err("interrupted");
        bench.run_beside(growing(None), crowd(), &AtomicBool::new(false)).expect("the rest of the run");
        assert!(bench.shadows() == whole.shadows(), "interrupted at step {step}: another shadow log");
        assert!(results(&bench) == results(&whole), "interrupted at step {step}: another end");
    }
}

#[test]
fn shadows_come_and_go() {
    let bench = Bench::new();
    let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    bench.run_beside(growing(Some((10, interrupt))), Vec::new(), interrupt).expect_err("interrupted");
    assert!(!bench.folder().shadows_file().exists());
    let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let joins = vec![Told::to(silent)];
    bench.run_beside(growing(Some((14, interrupt))), joins, interrupt).expect_err("interrupted");
    let began = bench.shadows()[0].clone();
    // It was saved with its decision about step 10 made; the one about step 11 is the first that there is to ask of.
    assert!(began.step.0 == 10 && matches!(began.said, ShadowSaid::Began { .. }), "{began:?}");
    bench.run(growing(None)).expect("the rest of the run");
    let last = bench.shadows().last().map(|record| record.step.0);
    assert_eq!(last, Some(14), "it has left before step 15");
}

/// Nor is one that announces what makes no sense an error of the run.
#[test]
fn one_that_lacks_a_slot_is_refused_what_needs_it() {
    let bench = Bench::new();
    let mut lacking = Told::to(
        |context, actions| {
            if context.step == 3 { grow(context, actions).map(|_| ()) } else { Ok(()) }
        },
    );
    lacking.slot = "other";
    lacking.decide = Box::new(|context, actions| {
        if context.step != 3 {
            return Ok(());
        }
        let top = context.blocks.last().map_or(api::Above::Embedding, |top| api::Above::Layer(top.id));
        let insert = api::Insert {
            above: top,
            count: 1,
            slot: "other".into(),
            sources: vec![],
            moments: api::MomentsRule::Zero,
        };
        actions.insert(insert).map(|_| ())
    });
    let mut senseless = Told::to(silent);
    (senseless.initial_depth, senseless.deepest) = (3, 2);
    bench.run_beside(growing(None), vec![lacking, senseless], &AtomicBool::new(false)).expect("a good run");
    let no_slot = "the arm names no initializer for the slot `other`";
    assert_eq!(
        said(&bench, "test/shadow")[1..],
        [format!("3: asks [], refused [\"{no_slot}\"], Some(\"{no_slot}\")")]
    );
    let [dropped] = &said(&bench, "test/shadow#2")[..] else { panic!("{:?}", bench.shadows()) };
    assert!(dropped.starts_with("0: dropped: ") && dropped.contains("at most 2 deep"), "{dropped}");
}

/// What came of a probe is told to whoever has asked for the same one.
#[test]
fn a_probe_is_told_to_those_that_asked_for_it() {
    let probing = |steps: u64| {
        let mut told = Told::to(move |context, actions| {
            if context.step != 4 {
                return Ok(());
            }
            let layers: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
            let alone = vec![api::Action::Train(Train::blocks_only(layers))];
            actions.probe(Probe { candidates: vec![Vec::new(), alone], steps })
        });
        told.react = Box::new(|event, actions| match event {
            Event::Probed(probed) => actions.phase(&format!("of {}", probed.losses.len())),
            _ => Ok(()),
        });
        told
    };
    let bench = Bench::new();
    bench.run_beside(probing(2), vec![probing(2), probing(3)], &AtomicBool::new(false)).expect("a good run");
    let asks = |what: &str| format!("4: asks [\"{what}\"], refused [], None");
    assert_eq!(said(&bench, "test/shadow")[1..], [asks("Probe("), asks("Phase(")]);
    assert_eq!(said(&bench, "test/shadow#2")[1..], [asks("Probe(")]);
}

/// What the run measures for its own strategy is told to those that want any; nothing is measured for a shadow's sake.
#[test]
fn what_was_measured_is_told_to_those_that_want_it() {
    let measuring = |every_steps: Option<u64>| {
        let mut told = Told::to(silent);
        told.measure = every_steps.map(|every_steps| Measure { every_steps, tensors: true, blocks: false });
        told.react = Box::new(|event, actions| match event {
            Event::Measured(measured) => actions.phase(&format!("measured {}", measured.step)),
            _ => Ok(()),
        });
        told
    };
    let bench = Bench::new();
    let shadows = vec![measuring(Some(5)), measuring(None)];
    let summary = bench.run_beside(measuring(Some(8)), shadows, &AtomicBool::new(false));
    summary.expect("a good run");
    let asks = |step| format!("{step}: asks [\"Phase(\"], refused [], None");
    assert_eq!(said(&bench, "test/shadow")[1..], [asks(2), asks(10), asks(18)]);
    assert_eq!(said(&bench, "test/shadow#2").len(), 1, "it wants none");
}
