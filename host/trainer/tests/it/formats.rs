//! Checkpoints of older and of later versions.
//!
//! `tests/golden/checkpoint_format_2` is what the test `an_interrupted_run_ends_like_an_uninterrupted_one` had in its folder
//! before step 10 when the format was 2 (commit efce88e, before it was raised to 3).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use expect_test::expect;
use plugin_host::api::RunEvent;
use serde_json::Value;
use trainer::storage::{read_json, write_json};
use trainer::{ErrorClass, TrainError, checkpoint};

use crate::bench::Bench;
use crate::resume::{growing, result, run};

/// A run that was interrupted before step 10; and its checkpoint.
fn interrupted() -> (Bench, PathBuf) {
    let bench = Bench::new();
    let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let stopped = run(&bench, growing(Some((10, interrupt))), interrupt);
    assert!(matches!(stopped, Err(TrainError::Interrupted { .. })), "{stopped:?}");
    let saved = bench.folder().checkpoints().join("00000010");
    (bench, saved)
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder of the repository") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&to).expect("room");
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("room");
        }
    }
}

#[test]
fn a_run_that_an_older_version_has_saved_goes_on_and_ends_the_same() {
    let whole = Bench::new();
    run(&whole, growing(None), &AtomicBool::new(false)).expect("a good run");
    let (bench, _) = interrupted();
    fs::remove_dir_all(bench.folder().checkpoints()).expect("it is there");
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/checkpoint_format_2"),
        bench.folder().path(),
    );
    run(&bench, growing(None), &AtomicBool::new(false)).expect("the rest of the run");
    let (_, weights, moments, evaluations) = result(&bench);
    let (_, wanted_weights, wanted_moments, wanted_evaluations) = result(&whole);
    assert!(weights == wanted_weights && moments == wanted_moments, "another end");
    assert_eq!(evaluations, wanted_evaluations);
    // Passed over, it would end in these bits as well.
    let events = bench.events.lock().expect("no test panics while holding it");
    let mut starts = events.iter().filter_map(|event| match event {
        RunEvent::RunStarted { first_step, .. } => Some(*first_step),
        _ => None,
    });
    assert_eq!(starts.next_back(), Some(10), "it goes on from there");
}

/// It is no damaged one: nothing is passed over, and nothing is changed.
#[test]
fn one_of_another_version_ends_the_run_before_anything_is_changed() {
    let (bench, saved) = interrupted();
    let state = saved.join("state.json");
    let good: Value = read_json(&state).expect("a good state");
    let told = |version: u32| {
        let mut other = good.clone();
        other["format_version"] = version.into();
        other["what_is_new"] = true.into();
        write_json(&state, &other).expect("room");
        let before = bench.files();
        let error = run(&bench, growing(None), &AtomicBool::new(false)).expect_err("another version");
        assert_eq!(bench.files(), before);
        assert_eq!(error.class(), ErrorClass::Config);
        let message = error.to_string().replace(&*state.to_string_lossy(), "STATE");
        format!("{message}\nhint: {}\n", error.hint())
    };
    expect![[r#"
        STATE has format version 4, which this sapwood does not read (it reads 2 to 3)
        hint: use the sapwood that saved it, or a later one; nothing was changed
        STATE has format version 1, which this sapwood does not read (it reads 2 to 3)
        hint: use the sapwood that saved it (`made_by` in the run's run.json), or delete the run's folder to start it over
    "#]].assert_eq(&[told(4), told(1)].concat());
    write_json(&state, &good).expect("room");
    run(&bench, growing(None), &AtomicBool::new(false)).expect("the rest of the run");
}

/// A field that comes, goes or changes raises the version: an older sapwood would take the file for a damaged one.
#[test]
fn what_is_written_belongs_to_its_version() {
    let (bench, saved) = interrupted();
    let mut state: Value = read_json(&saved.join("state.json")).expect("a good state");
    // Where a machine counts energy it has an entry.
    state["costs"].as_object_mut().expect("costs").remove("joules");
    let mut fields = String::new();
    outline(&state, 2, &mut fields);
    expect![[r#"
        batch
          length
          sequences
        batches_sha256
        blocks
          born_at
          layer
        costs
          alone
          flops
          flops_li2024
          probes
          tokens
          wall
        decided
        evaluation_untold
        evaluations
        execution
          attention_gate
          layer
          mlp_gate
          sequences
        format_version
        logs
          decisions
          evaluations
          metrics
        losses
        next_layer
        phase
        phase_start
          fingerprints
          first_step
          label
        plugin_state_versions
          initializer-new
          strategy
        schedule
          began
          config
          decay
          horizon
          rewarm
          scale
          shift
          warm_since
        sha256
          moments.safetensors
          plugins/initializer-new.bin
          plugins/strategy.bin
          weights.safetensors
        step
        stopped
        trail
        trainable
          class
          layer
        updates
        widths
          heads
          mlp_width
          width
    "#]]
    .assert_eq(&fields);
    assert!(checkpoint::load(&saved, &bench.config.model).is_ok());
}

/// The keys of an object, and of those in it, so many levels deep; of a list its first element's.
fn outline(value: &Value, levels: usize, into: &mut String) {
    match value {
        Value::Object(fields) if levels > 0 => {
            for (name, value) in fields {
                into.push_str(&format!("{}{name}\n", "  ".repeat(2 - levels)));
                outline(value, levels - 1, into);
            }
        }
        Value::Array(values) => values.first().into_iter().for_each(|first| outline(first, levels, into)),
        _ => {}
    }
}
