//! Going on from a checkpoint, as if nothing had happened.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use plugin_host::api::{
    Actions, Claim, Error, Event, LayerId, Measure, MomentsRule, Pass, Replace, StepContext, Train,
};
use trainer::checkpoint;
use trainer::folder::records::Decision;
use trainer::{Owner, TrainError, Writing};

use crate::bench::{Bench, Filling, Told, grow};

/// Grows before steps 6 and 12, freezes in between, leaves a block out from step 8 on and runs one twice from step 14 on,
/// makes one anew before step 16, and interrupts before `stop`.
pub(crate) fn growing(stop: Option<(u64, &'static AtomicBool)>) -> Told {
    Told::to(move |context, actions| {
        if let Some((_, interrupt)) = stop.filter(|(step, _)| *step == context.step) {
            interrupt.store(true, Ordering::Relaxed);
        }
        if context.step == 6 || context.step == 12 {
            let new = grow(context, actions)?;
            actions.phase(&format!("after {}", context.step))?;
            actions.train(Train::with_shared(new))?;
        }
        let blocks: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        match context.step {
            8 => actions.execute(vec![Pass { mlp_gate: 0.5, ..Pass::whole(blocks[1]) }]),
            14 => actions.execute([blocks[2], blocks[0], blocks[2]].map(Pass::whole).into()),
            16 => actions.replace(Replace {
                layers: vec![blocks[1]],
                slot: "new".into(),
                sources: vec![blocks[2]],
                moments: MomentsRule::CopyFromSource,
            }),
            _ => Ok(()),
        }
    })
}

/// Everything that a finished run leaves behind and that does not depend on the clock; tensors as hashes.
pub(crate) fn result(bench: &Bench) -> (String, u64, u64, String) {
    let newest = checkpoint::list(&bench.folder().checkpoints()).expect("a folder")[0].clone();
    let read = |name: &str| {
        let mut hash = DefaultHasher::new();
        std::fs::read(newest.join(name)).expect("a whole checkpoint").hash(&mut hash);
        hash.finish()
    };
    let logs = [bench.folder().metrics_file(), bench.folder().decisions_file()];
    let logs = logs.map(|path| std::fs::read_to_string(path).expect("a log")).concat();
    let evaluations =
        bench.evaluations().iter().map(|e| format!("{} {}", e.step, e.loss_nats_per_token)).collect();
    (logs, read("weights.safetensors"), read("moments.safetensors"), evaluations)
}

pub(crate) fn run(bench: &Bench, strategy: Told, interrupt: &AtomicBool) -> Result<(), TrainError> {
    let filling = Filling(|first| first, Claim::None);
    bench.run_with(strategy, filling, bench.scripted(), interrupt).map(|_| ())
}

#[test]
fn an_interrupted_run_ends_like_an_uninterrupted_one() {
    let whole = Bench::new();
    run(&whole, growing(None), &AtomicBool::new(false)).expect("a good run");
    let wanted = result(&whole);
    for step in 0..20 {
        let bench = Bench::new();
        let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let first = run(&bench, growing(Some((step, interrupt))), interrupt);
        assert!(matches!(first, Err(TrainError::Interrupted { .. })), "step {step}: {first:?}");
        run(&bench, growing(None), &AtomicBool::new(false)).expect("the rest of the run");
        assert!(result(&bench) == wanted, "interrupted at step {step}: another end");
    }
}

/// Loses its folder at the so manieth question of one kind: before a step, or before a file.
struct Loses {
    step: Option<u64>,
    file: Option<u64>,
    asked: [AtomicU64; 2],
}

impl Owner for Loses {
    fn has_lost(&self) -> bool {
        self.step.is_some_and(|step| self.asked[0].fetch_add(1, Ordering::Relaxed) >= step)
    }

    fn has_lost_now(&self) -> bool {
        self.file.is_some_and(|file| self.asked[1].fetch_add(1, Ordering::Relaxed) >= file)
    }
}

#[test]
fn a_run_that_was_taken_over_saves_nothing_more_and_the_rest_is_the_same() {
    let whole = Bench::new();
    run(&whole, growing(None), &AtomicBool::new(false)).expect("a good run");
    let wanted = result(&whole);
    // It is asked when a checkpoint is about to be written, and when it is about to count.
    let losses = [
        (Some(9), None, vec!["00000004"]),
        (None, Some(3), vec!["00000004"]),
        (None, Some(4), vec!["00000004", "00000008"]),
    ];
    for (step, file, saved) in losses {
        let mut bench = Bench::new();
        bench.owner = Arc::new(Loses { step, file, asked: Default::default() });
        // So that it is known which checkpoint asks when.
        bench.config.checkpoints.write = Writing::AtOnce;
        let lost = run(&bench, growing(None), &AtomicBool::new(false));
        assert!(matches!(lost, Err(TrainError::TakenOver { .. })), "{lost:?}");
        let mut found = checkpoint::list(&bench.folder().checkpoints()).expect("a folder");
        found.reverse();
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, saved);
        assert!(!bench.folder().is_done());
        bench.owner = Arc::new(trainer::Alone);
        run(&bench, growing(None), &AtomicBool::new(false)).expect("the rest of the run");
        assert!(result(&bench) == wanted, "another end");
    }
}

/// Loses the folder while a checkpoint is being written.
struct LosesMeanwhile;

impl Owner for LosesMeanwhile {
    fn has_lost(&self) -> bool {
        false
    }

    fn has_lost_now(&self) -> bool {
        std::thread::current().name() == Some("checkpoint")
    }
}

#[test]
fn a_checkpoint_that_was_being_written_when_the_run_was_taken_over_does_not_count() {
    let mut bench = Bench::new();
    bench.owner = Arc::new(LosesMeanwhile);
    let lost = run(&bench, growing(None), &AtomicBool::new(false));
    assert!(matches!(lost, Err(TrainError::TakenOver { .. })), "{lost:?}");
    let left: Vec<String> =
        bench.files().into_iter().filter(|name| name.starts_with("checkpoints/")).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn the_ledger_holds_every_plugins_calls_in_all_sittings() {
    let calls = |interrupt_before: Option<u64>| {
        let bench = Bench::new();
        if let Some(step) = interrupt_before {
            let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
            run(&bench, growing(Some((step, interrupt))), interrupt).expect_err("interrupted");
        }
        let summary = bench.run(growing(None)).expect("a good run");
        let of = |id: &str| summary.costs.wall.plugins[id];
        assert!(of("test/told").seconds > 0.0 && of("test/filling").seconds > 0.0);
        (of("test/told").calls, of("test/filling").calls)
    };
    // plan; before each of 20 steps `save` and `before_step`; 5 evaluations but the last one, and 3 edits, told;
    // saved at 4 steps and the end. Of these the initializer has every `save`, and `init` three times.
    assert_eq!(calls(None), (1 + 40 + 4 + 3 + 5, 20 + 5 + 3));
    // One sitting more: `plan`, `restore`, the event that says so; saved once more.
    assert_eq!(calls(Some(14)), (53 + 3 + 1, 28 + 1 + 1));
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let whole = Bench::new();
    run(&whole, growing(None), &AtomicBool::new(false)).expect("a good run");
    let bench = Bench::new();
    let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    run(&bench, growing(Some((14, interrupt))), interrupt).expect_err("interrupted");
    let newest = checkpoint::list(&bench.folder().checkpoints()).expect("a folder")[0].clone();
    let weights = newest.join("weights.safetensors");
    let mut bytes = std::fs::read(&weights).expect("a whole checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).expect("room");
    run(&bench, growing(None), &AtomicBool::new(false)).expect("the rest of the run");
    assert!(result(&bench) == result(&whole), "another end");
}

/// A name in it may lead anywhere, and a file without a hash may hold anything.
#[test]
fn a_checkpoint_names_its_own_files_and_all_of_them() {
    let bench = Bench::new();
    run(&bench, growing(None), &AtomicBool::new(false)).expect("a good run");
    let newest = checkpoint::list(&bench.folder().checkpoints()).expect("a folder")[0].clone();
    let path = newest.join("state.json");
    let good: serde_json::Value = trainer::storage::read_json(&path).expect("a good state");
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut state = good.clone();
        change(&mut state);
        std::fs::write(&path, state.to_string()).expect("room");
        let error = checkpoint::load(&newest, &bench.config.model).expect_err("must be refused").to_string();
        error.replace(&format!("{} ", path.display()), "")
    };
    assert_eq!(
        refused(&|state| state["sha256"]["/dev/zero"] = "".into()),
        "names `/dev/zero`, which is no file of a checkpoint"
    );
    let elsewhere = |state: &mut serde_json::Value| {
        state["plugin_state_versions"]["../weights"] = 0.into();
        state["sha256"]["plugins/../weights.bin"] = "".into();
    };
    assert_eq!(refused(&elsewhere), "names `../weights`, which is no file of a checkpoint");
    let unchecked = |state: &mut serde_json::Value| {
        state["sha256"].as_object_mut().expect("hashes").remove("weights.safetensors");
    };
    assert_eq!(refused(&unchecked), "does not say what `weights.safetensors` hashes to");
    assert_eq!(
        refused(&|state| state["blocks"][1] = state["blocks"][0].clone()),
        "names the block 0 twice, or out of turn"
    );
}

#[test]
fn another_configuration_in_the_same_folder_is_refused_by_key() {
    let mut bench = Bench::new();
    run(&bench, growing(None), &AtomicBool::new(false)).expect("a good run");
    bench.config.schedule.rate = 2e-2;
    let error = run(&bench, growing(None), &AtomicBool::new(false)).expect_err("another run");
    assert!(error.to_string().ends_with("`schedule.rate` was 0.01, now 0.02"), "{error}");
}

#[test]
fn only_the_newest_checkpoints_are_kept_and_nothing_half_written() {
    let bench = Bench::new();
    run(&bench, growing(None), &AtomicBool::new(false)).expect("a good run");
    let files = bench.files();
    assert!(files.iter().all(|name| !name.contains("tmp")), "{files:?}");
    let kept: Vec<&String> = files.iter().filter(|name| name.ends_with("state.json")).collect();
    assert_eq!(kept, ["checkpoints/00000016/state.json", "checkpoints/00000020/state.json"]);
}

/// Records what is measured every fourth step as a phase, by the step, the gradient norm of the lowest block, and the
/// number of passes, and leaves a block out from step 9 on.
fn told_of_measurements(fails_at: Option<u64>) -> Told {
    let react = |event: &Event, actions: &mut Actions<'_>| match event {
        Event::Measured(measured) => {
            let norm = measured.gradient_norm(LayerId(0)).unwrap_or_default();
            actions.phase(&format!("measured {}: {norm:.4}, {}", measured.step, measured.blocks.len()))
        }
        _ => Ok(()),
    };
    let decide = move |context: &StepContext<'_>, actions: &mut Actions<'_>| match context.step {
        step if fails_at == Some(step) => Err(Error::new("the moon is not right")),
        9 => actions.execute(vec![Pass::whole(context.blocks[1].id)]),
        _ => Ok(()),
    };
    let measure = Some(Measure { every_steps: 4, tensors: true, blocks: true });
    Told { initial_depth: 2, react: Box::new(react), measure, ..Told::to(decide) }
}

#[test]
fn what_is_measured_is_told_once_before_the_same_step_whatever_the_checkpoint() {
    let told = |bench: &Bench| -> Vec<(u64, String)> {
        let phase = |decision| match decision {
            Decision::PhaseStarted { step, label, .. } => Some((step.0, label)),
            _ => None,
        };
        let phases = bench.decisions().into_iter().filter_map(phase);
        phases.filter(|(_, label)| label.starts_with("measured")).collect()
    };
    let whole = Bench::new();
    run(&whole, told_of_measurements(None), &AtomicBool::new(false)).expect("a good run");
    // Twelve tensors of a block, each of whose gradients has a norm of one over its updates and 1.
    let norm = |updates: u32| 12.0f64.sqrt() / f64::from(1 + updates);
    let line = |step: u64, said: String| (step + 2, format!("measured {step}: {said}"));
    let wanted = [
        line(0, format!("{:.4}, 2", norm(0))),
        line(4, format!("{:.4}, 2", norm(4))),
        line(8, format!("{:.4}, 2", norm(8))),
        line(12, "0.0000, 1".into()),
        line(16, "0.0000, 1".into()),
    ];
    assert_eq!(told(&whole), wanted);
    // The newest checkpoint is one with something untold in it, or that of the fault itself.
    for fails_at in [5, 6, 7, 10, 18] {
        let bench = Bench::new();
        run(&bench, told_of_measurements(Some(fails_at)), &AtomicBool::new(false)).expect_err("it fails");
        if fails_at == 7 {
            let newest = &checkpoint::list(&bench.folder().checkpoints()).expect("a folder")[0];
            std::fs::remove_dir_all(newest).expect("as if there had been no room for it");
        }
        run(&bench, told_of_measurements(None), &AtomicBool::new(false)).expect("the rest of the run");
        assert_eq!(told(&bench), wanted, "failed at {fails_at}");
        assert!(result(&bench) == result(&whole), "failed at {fails_at}: another end");
    }
}

/// Records every evaluation that it is told of as a phase, asks for one more before step 12, and saves before step 10,
/// right after it was told of the evaluation there.
fn told_of_evaluations(fails_at: Option<u64>) -> Told {
    let react = |event: &Event, actions: &mut Actions<'_>| match event {
        Event::Evaluated { step, .. } => actions.phase(&format!("told of {step}")),
        _ => Ok(()),
    };
    let decide = move |context: &StepContext<'_>, actions: &mut Actions<'_>| match context.step {
        step if fails_at == Some(step) => Err(Error::new("the moon is not right")),
        10 => actions.checkpoint("told"),
        12 => actions.evaluate(),
        _ => Ok(()),
    };
    Told { react: Box::new(react), ..Told::to(decide) }
}

#[test]
fn every_evaluation_is_told_once_whatever_the_checkpoint() {
    let told = |bench: &Bench| -> Vec<(u64, String)> {
        let decisions = bench.decisions().into_iter();
        let phase = |decision| match decision {
            Decision::PhaseStarted { step, label, .. } => Some((step.0, label)),
            _ => None,
        };
        decisions.filter_map(phase).filter(|(_, label)| label.starts_with("told")).collect()
    };
    let whole = Bench::new();
    run(&whole, told_of_evaluations(None), &AtomicBool::new(false)).expect("a good run");
    let wanted = [(0, 0), (5, 5), (10, 10), (13, 12), (15, 15)];
    assert_eq!(told(&whole), wanted.map(|(step, of)| (step, format!("told of {of}"))));
    // It fails before the next checkpoint: what is newest is the named one, or that of the fault itself.
    for fails_at in [10, 11, 13, 15] {
        let bench = Bench::new();
        run(&bench, told_of_evaluations(Some(fails_at)), &AtomicBool::new(false)).expect_err("it fails");
        if fails_at == 11 {
            let newest = &checkpoint::list(&bench.folder().checkpoints()).expect("a folder")[0];
            assert!(newest.ends_with("00000011"), "{newest:?}");
            std::fs::remove_dir_all(newest).expect("as if there had been no room for it");
        }
        run(&bench, told_of_evaluations(None), &AtomicBool::new(false)).expect("the rest of the run");
        assert_eq!(told(&bench), told(&whole), "failed at {fails_at}");
        assert!(result(&bench) == result(&whole), "failed at {fails_at}: another end");
    }
}

/// Every file of every checkpoint that is left, without what a clock says.
fn checkpoints(bench: &Bench) -> Vec<(PathBuf, String)> {
    let folder = bench.folder().checkpoints();
    let files = bench.files().into_iter().filter(|name| name.starts_with("checkpoints/"));
    let content = |name: &String| {
        let bytes = std::fs::read(bench.folder().path().join(name)).expect("it is there");
        if !name.ends_with("state.json") {
            return format!("{bytes:?}");
        }
        let mut state: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        // Evaluations have seconds in them.
        for clock in ["/costs/wall", "/costs/joules", "/logs/evaluations"] {
            state.pointer_mut(clock).map(serde_json::Value::take);
        }
        state.to_string()
    };
    let all = files.map(|name| (folder.join(&name), content(&name)));
    all.map(|(path, content)| (path.strip_prefix(&folder).expect("below it").to_path_buf(), content))
        .collect()
}

#[test]
fn checkpoints_have_the_same_bits_whether_training_waits_for_them_or_not() {
    let run_with = |write| {
        let mut bench = Bench::new();
        (bench.config.checkpoints.write, bench.config.checkpoints.keep) = (write, 10);
        run(&bench, growing(None), &AtomicBool::new(false)).expect("a good run");
        bench
    };
    let [background, at_once] = [Writing::Background, Writing::AtOnce].map(run_with);
    assert_eq!(checkpoints(&background).len(), 5 * 5, "five of five files each");
    assert!(checkpoints(&background) == checkpoints(&at_once));
    assert!(result(&background) == result(&at_once));
    // A run goes on whichever way it was begun.
    let mut bench = Bench::new();
    bench.config.checkpoints.write = Writing::AtOnce;
    let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    run(&bench, growing(Some((9, interrupt))), interrupt).expect_err("interrupted");
    bench.config.checkpoints.write = Writing::Background;
    run(&bench, growing(None), &AtomicBool::new(false)).expect("it is the same run");
    assert!(result(&bench) == result(&background));
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_run_whether_training_waits_for_it_or_not() {
    for write in [Writing::Background, Writing::AtOnce] {
        let mut bench = Bench::new();
        bench.config.checkpoints.write = write;
        let in_the_way = bench.folder().checkpoints().join("00000008.tmp");
        let path = in_the_way.clone();
        // A file where the checkpoint's folder is to be.
        let strategy = Told::to(move |context, _| {
            let placed = if context.step == 6 { std::fs::write(&path, "") } else { Ok(()) };
            placed.map_err(|error| Error::new(error.to_string()))
        });
        let error =
            run(&bench, strategy, &AtomicBool::new(false)).expect_err("there is something in its way");
        assert!(matches!(&error, TrainError::Storage { path, .. } if *path == in_the_way), "{error}");
        assert!(!bench.folder().is_done());
        let found = checkpoint::list(&bench.folder().checkpoints()).expect("a folder");
        assert!(found.iter().map(|path| path.ends_with("00000004")).eq([true]), "{found:?}");
        std::fs::remove_file(&in_the_way).expect("it is ours");
        run(&bench, Told::to(|_, _| Ok(())), &AtomicBool::new(false)).expect("the rest of the run");
    }
}

#[test]
fn what_a_killed_process_left_half_written_is_gone_when_the_run_goes_on() {
    let bench = Bench::new();
    let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    run(&bench, growing(Some((9, interrupt))), interrupt).expect_err("interrupted");
    let left = bench.folder().checkpoints().join("00000011.tmp/plugins");
    std::fs::create_dir_all(&left).expect("room");
    run(&bench, growing(None), &AtomicBool::new(false)).expect("the rest of the run");
    assert!(!left.exists(), "{:?}", bench.files());
}
