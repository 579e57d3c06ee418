//! Libraries that are no plugins are refused before any of their code runs; plugins that misbehave are contained
//! and named, and lose neither their own run nor the others.

use std::fs;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use object::{Object, ObjectSection};

use crate::cases;
use crate::faults::saw;
use crate::support::{
    self, Bench, Panic, Random, files_below, json, json_lines, misbehaving, refused, results,
};

// ---------------------------------------------------------------- refused before loading

/// What is said to a strategy from the file `bad.so`, in a study that has such a file or has not.
fn check(case: &str, library: Option<&[u8]>, expected: Expect) {
    let bench = choosing("bad.so");
    if let Some(bytes) = library {
        bench.write("bad.so", bytes);
    }
    let ran = bench.study();
    refused(&bench, &ran, &expected);
    cases::enter("library", case, &bench, &ran);
    assert!(!bench.is_marked(), "code of a refused library has run");
}

/// A study whose second arm takes its strategy from that file.
fn choosing(library: &str) -> Bench {
    Bench::with(&[
        ("use = \"sapwood/stack\"", &format!("use = \"fixture/strategy\"\nlibrary = \"{library}\"")),
        STRATEGY_CONFIG,
    ])
}

const STRATEGY_CONFIG: (&str, &str) =
    ("factor = 2\ngrow_after_steps = 15\noptimizer = \"copy\"\n", "does = \"nothing\"\n");

/// The library of the fixtures with one passage of its facts changed to another of the same length.
fn patched(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "nothing in the file may move");
    let mut bytes = fs::read(misbehaving()).expect("it was built");
    let place = facts_place(&bytes);
    let facts = std::str::from_utf8(&bytes[place.clone()]).expect("facts are text");
    let at = place.start + facts.find(from).unwrap_or_else(|| panic!("`{from}` is not in {facts}"));
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

fn facts_place(library: &[u8]) -> std::ops::Range<usize> {
    let file = object::File::parse(library).expect("a library");
    let section = file.section_by_name(".sapwood").expect("a plugin");
    let (start, len) = section.file_range().expect("facts are in the file");
    start as usize..(start + len) as usize
}

#[test]
fn a_good_library_leaves_its_mark_and_trains() {
    // The control of all that follows: the same library, unharmed.
    let bench = choosing("bad.so");
    bench.write("bad.so", fs::read(misbehaving()).expect("it was built"));
    bench.sapwood(&["plan", "study.toml"]).good();
    assert!(bench.is_marked(), "loading leaves no mark, so that the other tests prove nothing");
    bench.study().good();
}

#[test]
fn a_run_is_bound_to_the_build_of_its_plugins() {
    let bench = choosing("bad.so");
    let mut library = fs::read(misbehaving()).expect("it was built");
    bench.write("bad.so", &library);
    bench.study().good();
    let run = bench.path("out/runs/stack/compute/seed-1");
    let before = modified(&run);
    // What follows the last section is read by nobody, and yet these are other bits.
    library.push(0);
    bench.write("bad.so", &library);
    let ran = bench.study();
    let place = "error: out/runs/stack/compute/seed-1 was made with another build of the plugin `fixture/strategy`: sha256 ";
    assert!(ran.stderr.starts_with(place), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: bring that build back"), "{}", ran.stderr);
    saw("a plugin is rebuilt between two sittings", &ran, &format!("{place}…"));
    assert_eq!(ran.code, Some(3));
    assert!(modified(&run) == before, "it was touched");
}

#[test]
fn what_is_no_library() {
    check(
        "missing",
        None,
        expect![[r#"
        error: the library ./bad.so cannot be read: No such file or directory (os error 2)
          --> study.toml:71
        hint: check the path and its permissions
        exit 5
    "#]],
    );
    check(
        "empty",
        Some(b""),
        expect![[r#"
        error: the library ./bad.so is empty
          --> study.toml:71
        hint: build or copy the plugin again
        exit 5
    "#]],
    );
    check(
        "a shell script",
        Some(b"#!/bin/sh\necho I am a plugin\n"),
        expect![[r#"
        error: the library ./bad.so is not a shared library, or is cut short: Unknown file magic
          --> study.toml:71
        hint: a plugin is a shared library built from a crate that calls `sapwood_plugin::export!`
        exit 5
    "#]],
    );
    let mut random = Random(7);
    let noise: Vec<u8> = (0..100_000).map(|_| random.bits() as u8).collect();
    check(
        "random bytes",
        Some(&noise),
        expect![[r#"
        error: the library ./bad.so is not a shared library, or is cut short: Unknown file magic
          --> study.toml:71
        hint: a plugin is a shared library built from a crate that calls `sapwood_plugin::export!`
        exit 5
    "#]],
    );
    let bench = choosing(".");
    let ran = bench.study();
    cases::enter("library", "in a folder that all may write", &bench, &ran);
    refused(
        &bench,
        &ran,
        &expect![[r#"
            error: the library ./. lies in /tmp, which is writable by everybody
              --> study.toml:71
            hint: chmod o-w '/tmp', if you trust what is there
            exit 5
        "#]],
    );
}

#[test]
fn a_library_that_is_cut_short() {
    let whole = fs::read(misbehaving()).expect("it was built");
    check(
        "cut in half",
        Some(&whole[..whole.len() / 2]),
        expect![[r#"
        error: the library ./bad.so is not a shared library, or is cut short: Invalid ELF section header offset/size/alignment
          --> study.toml:71
        hint: a plugin is a shared library built from a crate that calls `sapwood_plugin::export!`
        exit 5
    "#]],
    );
    check(
        "its header alone",
        Some(&whole[..64]),
        expect![[r#"
        error: the library ./bad.so is not a shared library, or is cut short: Invalid ELF program header size or alignment
          --> study.toml:71
        hint: a plugin is a shared library built from a crate that calls `sapwood_plugin::export!`
        exit 5
    "#]],
    );
    check(
        "its last byte missing",
        Some(&whole[..whole.len() - 1]),
        expect![[r#"
        error: the library ./bad.so is not a shared library, or is cut short: Invalid ELF section header offset/size/alignment
          --> study.toml:71
        hint: a plugin is a shared library built from a crate that calls `sapwood_plugin::export!`
        exit 5
    "#]],
    );
}

#[test]
fn a_shared_library_that_is_no_plugin() {
    let Some(libc) = library_of_the_system() else {
        return support::left_out("libc", "no shared C library is mapped into this process");
    };
    check(
        "an ordinary library: libc",
        Some(&fs::read(libc).expect("it is in use")),
        expect![[r#"
        error: the library ./bad.so is a shared library, but not a sapwood plugin
          --> study.toml:71
        hint: a plugin is a shared library built from a crate that calls `sapwood_plugin::export!`
        exit 5
    "#]],
    );
}

/// The C library that this process runs on.
fn library_of_the_system() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.map(PathBuf::from).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libc.") || name.starts_with("libc-") || name.starts_with("libSystem")
    })
}

#[test]
fn a_library_of_another_layout_epoch_target_or_panic() {
    let facts = fs::read(misbehaving()).expect("it was built");
    let facts = std::str::from_utf8(&facts[facts_place(&facts)]).expect("facts are text").to_owned();
    let between = |before: &str, after: &str| {
        let start = facts.find(before).expect("a fact of every library") + before.len();
        facts[start..start + facts[start..].find(after).expect("facts end")].to_owned()
    };
    let layout = between("\"kind\":\"strategy\",\"revision\":2,\"layout\":\"", "\"");
    let (target, rustc) = (between("\"target\":\"", "\""), between("\"rustc\":\"", "\""));
    let check = |case: &str, library: &[u8], expected: Expect| {
        let bench = choosing("bad.so");
        bench.write("bad.so", library);
        let mut ran = bench.study();
        for (text, word) in [(&layout, "LAYOUT"), (&rustc, "RUSTC"), (&target, "TARGET")] {
            ran.stderr = ran.stderr.replace(text.as_str(), word);
        }
        refused(&bench, &ran, &expected);
        cases::enter("library", case, &bench, &ran);
        assert!(!bench.is_marked(), "code of a refused library has run");
    };
    let other_target = format!("\"target\":\"{}\"", "x".repeat(target.len()));
    check(
        "another layout",
        &patched(&layout, "0123456789abcdef"),
        expect![[r#"
        error: the library ./bad.so has another layout of the strategy interface, revision 2: 0123456789abcdef, where this host has LAYOUT; it was built against sapwood-plugin 1.0.0 by RUSTC
          --> study.toml:71
        hint: rebuild the plugin against the `sapwood-plugin` of this host
        exit 5
    "#]],
    );
    check(
        "another ABI epoch",
        &patched("\"abi_epoch\":1", "\"abi_epoch\":2"),
        expect![[r#"
        error: the library ./bad.so has ABI epoch 2, this host knows 1
          --> study.toml:71
        hint: rebuild the plugin against the `sapwood-plugin` of this host
        exit 5
    "#]],
    );
    check(
        "for another machine",
        &patched(&format!("\"target\":\"{target}\""), &other_target),
        expect![[r#"
        error: the library ./bad.so is built for xxxxxxxxxxxxxxxxxxxxxxxx, this host for TARGET
          --> study.toml:71
        hint: build the plugin for this machine
        exit 5
    "#]],
    );
    check(
        "unreadable facts",
        &patched("\"plugins\"", "\"plugged\""),
        expect![[r#"
        error: the library ./bad.so has facts that cannot be read: missing field `plugins`
          --> study.toml:71
        hint: rebuild the plugin against the `sapwood-plugin` of this host
        exit 5
    "#]],
    );
    let aborting = support::build_outside(&support::root().join("tests/fixtures/aborting"), Panic::Aborts);
    check(
        "panic = abort",
        &fs::read(aborting).expect("it was built"),
        expect![[r#"
        error: the library ./bad.so is built with panic = "abort", so that a panic could not be caught
          --> study.toml:71
        hint: build the plugin with panic = "unwind"
        exit 5
    "#]],
    );
}

#[test]
fn listing_runs_nothing_and_says_what_it_passes_over() {
    let bench = Bench::new();
    fs::create_dir(bench.path("folder")).expect("room");
    fs::copy(misbehaving(), bench.path("folder/good.so")).expect("room");
    bench.write("folder/bad.so", "not a library");
    let listed = bench.sapwood(&["plugin", "list", "--plugin-path", "folder"]).good();
    assert!(!bench.is_marked(), "listing has loaded a library");
    for line in [
        "  fixture/strategy           1.0.0    ABI 2   misbehaves as it is told",
        "passed over: folder/bad.so is not a shared library",
    ] {
        assert!(listed.contains(line), "{line} is missing in:\n{listed}");
    }
}

// ---------------------------------------------------------------- contained while running

/// When fixtures misbehave.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum When {
    /// From the start, so that the rehearsal before the first step shows it.
    Always,
    /// Once the study has runs, and until `out/repaired` is there.
    Running,
}

/// A study of the baseline and one arm for each deed of the fixtures' strategy and initializer, one seed.
fn misbehaving_study(strategies: &[&str], initializers: &[&str], when: When) -> Bench {
    misbehaving_study_with("", strategies, initializers, when)
}

/// The same, with further keys of each fixture: `, isolation = "process"`.
pub(crate) fn misbehaving_study_with(
    keys: &str,
    strategies: &[&str],
    initializers: &[&str],
    when: When,
) -> Bench {
    let bench = Bench::with(&[
        ("seeds = [1, 2]", "seeds = [1]"),
        ("[\"tokens\", \"compute\"]", "[\"tokens\"]"),
        STACK_ARM,
    ]);
    let library = misbehaving().display();
    let fixture = |kind: &str, deed: &str| {
        let study = match when {
            When::Always => String::new(),
            When::Running => format!(", study = \"{}\"", bench.path("out").display()),
        };
        format!(
            "{{ use = \"fixture/{kind}\", library = \"{library}\"{keys}, config = {{ does = \"{deed}\"{study} }} }}"
        )
    };
    let shipped = "{ use = \"sapwood/original\" }";
    let growing =
        "{ use = \"sapwood/stack\", config = { factor = 2, grow_after_steps = 9, optimizer = \"reset\" } }";
    for deed in strategies {
        add_arm(&bench, &format!("strategy-{deed}"), &fixture("strategy", deed), shipped);
    }
    for deed in initializers {
        add_arm(&bench, &format!("initializer-{deed}"), growing, &fixture("initializer", deed));
    }
    bench
}

const STACK_ARM: (&str, &str) = (
    "[arms.stack]
initializers.new_blocks = { use = \"sapwood/copy\" }

[arms.stack.strategy]
use = \"sapwood/stack\"

[arms.stack.strategy.config]
factor = 2
grow_after_steps = 15
optimizer = \"copy\"
",
    "",
);

fn add_arm(bench: &Bench, name: &str, strategy: &str, initializer: &str) {
    bench.add_to_study(&format!(
        "\n[arms.{name}]\nstrategy = {strategy}\ninitializers.new_blocks = {initializer}\n"
    ));
}

#[test]
fn what_goes_wrong_in_the_rehearsal_is_refused_before_the_first_step() {
    let check = |deed: &str, expected: Expect| {
        let bench = misbehaving_study(&[deed], &[], When::Always);
        let ran = bench.study();
        refused(&bench, &ran, &expected);
        cases::enter("strategy, from the start", deed, &bench, &ran);
    };
    check(
        "errs-in-new",
        expect![[r#"
        error: the strategy `fixture/strategy` refuses its configuration: no moon tonight
          --> study.toml:68
        hint: `sapwood plugin inspect fixture/strategy` prints what it takes
        exit 3
    "#]],
    );
    check(
        "panics-in-new",
        expect![[r#"
            error: the strategy `fixture/strategy` failed in `new`: panicked at src/lib.rs:108:42: no moon tonight
              --> study.toml:68
            hint: report this to the author of `fixture/strategy`, or use another plugin; what was trained so far is saved
            exit 6
        "#]],
    );
    check(
        "errs-in-plan",
        expect![[r#"
            error: the strategy `fixture/strategy` failed in `plan`: no moon tonight
              --> study.toml:68
            hint: report this to the author of `fixture/strategy`, or use another plugin; what was trained so far is saved
            exit 6
        "#]],
    );
    check(
        "panics-in-plan",
        expect![[r#"
            error: the strategy `fixture/strategy` failed in `plan`: panicked at src/lib.rs:119:43: no moon tonight
              --> study.toml:68
            hint: report this to the author of `fixture/strategy`, or use another plugin; what was trained so far is saved
            exit 6
        "#]],
    );
    check(
        "plans-too-deep",
        expect![[r#"
            error: the strategy `fixture/strategy` failed in `plan`: the plan grows to 1000000000 blocks; the host allows 16
              --> study.toml:68
            hint: report this to the author of `fixture/strategy`, or use another plugin; what was trained so far is saved
            exit 6
        "#]],
    );
    check(
        "plans-upside-down",
        expect![[r#"
            error: the strategy `fixture/strategy` failed in `plan`: the plan starts with 2 blocks but is at most 1 deep
              --> study.toml:68
            hint: report this to the author of `fixture/strategy`, or use another plugin; what was trained so far is saved
            exit 6
        "#]],
    );
    check(
        "errs",
        expect![[r#"
            error: the strategy `fixture/strategy` failed in `before_step`: the moon is not right
              --> study.toml:68
            hint: report this to the author of `fixture/strategy`, or use another plugin; what was trained so far is saved
            exit 6
        "#]],
    );
    check(
        "grows-by-a-billion",
        expect![[r#"
            error: the strategy `fixture/strategy` failed in `before_step`: 1000000000 more blocks on 2 exceed the 3 that the plan announced
              --> study.toml:68
            hint: report this to the author of `fixture/strategy`, or use another plugin; what was trained so far is saved
            exit 6
        "#]],
    );
}

/// Every strategy's deed before step 9, and every initializer's when it is asked for a block before that step.
const STRATEGY_DEEDS: [&str; 10] = [
    "errs",
    "panics",
    "grows-by-a-billion",
    "names-an-unknown-slot",
    "names-an-unknown-layer",
    "shrinks-the-schedule",
    "shifts-by-nan",
    "freezes-everything",
    "measures-nan",
    "asks-too-much",
];
const INITIALIZER_DEEDS: [&str; 5] = ["errs", "panics", "writes-nan", "leaves-a-tensor", "claims-exactness"];

#[test]
fn what_goes_wrong_in_a_run_is_named_and_saved_and_spares_the_others() {
    let bench = misbehaving_study(&STRATEGY_DEEDS, &INITIALIZER_DEEDS, When::Running);
    let ran = bench.study();
    assert_eq!(ran.code, Some(6), "{}", ran.stderr);
    let errors: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    // How far a false claim is off is a matter of rounding, which differs between processors.
    let moved = |error: &str| error.split(" moved by ").next().unwrap_or_default().to_owned();
    let known: Vec<String> = errors.iter().map(|error| moved(error)).collect();
    expect![[r#"
        error: strategy-errs/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: the moon is not right
        error: strategy-panics/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: panicked at src/lib.rs:147:37: the moon is not right
        error: strategy-grows-by-a-billion/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: 1000000000 more blocks on 2 exceed the 3 that the plan announced
        error: strategy-names-an-unknown-slot/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: the plan announced no initializer slot `old_blocks`
        error: strategy-names-an-unknown-layer/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: there is no block 77
        error: strategy-shrinks-the-schedule/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: the schedule cannot be changed by Extend(-1.0)
        error: strategy-shifts-by-nan/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: the schedule cannot be changed by Shift(NaN)
        error: strategy-freezes-everything/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: nothing would train
        error: strategy-measures-nan/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: the metric `moon` is NaN
        error: strategy-asks-too-much/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: more than 4096 requests before one step
        error: initializer-errs/tokens/seed-1: the initializer `fixture/initializer` failed in `init`: the moon is not right
        error: initializer-panics/tokens/seed-1: the initializer `fixture/initializer` failed in `init`: panicked at src/lib.rs:233:40: the moon is not right
        error: initializer-writes-nan/tokens/seed-1: the initializer `fixture/initializer` failed in `init`: mlp.c_proj.bias of block 1 is not finite or not written at element 3
        error: initializer-leaves-a-tensor/tokens/seed-1: the initializer `fixture/initializer` failed in `init`: mlp.c_proj.bias of block 1 is not finite or not written at element 0
        error: initializer-claims-exactness/tokens/seed-1: the initializer `fixture/initializer` failed in `init`: it claims to leave the model's function as it is, but a token's loss
    "#]].assert_eq(&(known.join("\n") + "\n"));

    let run = |arm: &str| bench.path(&format!("out/runs/{arm}/tokens/seed-1"));
    let good = results(&run("whole"));
    let arms: Vec<String> = STRATEGY_DEEDS
        .iter()
        .map(|deed| format!("strategy-{deed}"))
        .chain(INITIALIZER_DEEDS.iter().map(|deed| format!("initializer-{deed}")))
        .collect();
    for arm in &arms {
        let reason = json(&run(arm).join("FAILED"))["reason"].as_str().unwrap_or_default().to_owned();
        assert!(errors.iter().any(|error| error.ends_with(&reason)), "{arm}: {reason}");
        assert_eq!(json(&run(arm).join("checkpoints/00000009/state.json"))["step"], 9, "{arm}");
        assert_eq!(json_lines(&run(arm).join("metrics.jsonl")).len(), 9, "{arm}");
        assert!(!run(arm).join("DONE").exists(), "{arm}");
        let (kind, deed) = arm.split_once('-').expect("kind and deed");
        cases::enter_arm(&format!("{kind}, before step 9"), deed, &bench, arm, &ran);
    }

    // With the plugins repaired, the same command goes on from what was saved, and repeats nothing else.
    let done = modified(&run("whole"));
    bench.write("out/repaired", "");
    bench.study().good();
    assert!(modified(&run("whole")) == done, "the good run was touched");
    for arm in &arms {
        assert!(run(arm).join("DONE").exists() && !run(arm).join("FAILED").exists(), "{arm}");
        if arm.starts_with("strategy-") {
            // All of these decide what the baseline decides, so they end as it does: nothing was lost.
            let (name, steps) = &results(&run(arm))[0];
            assert!(*steps == good[0].1, "{arm}: another {name} than the baseline's");
        }
    }
    bench.sapwood(&["report", "out"]).good();
}

/// Every file of a run with the time of its last change.
fn modified(run: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let time =
        |path: &PathBuf| fs::metadata(path).and_then(|facts| facts.modified()).expect("a file has a time");
    files_below(run).into_iter().map(|path| (path.clone(), time(&path))).collect()
}

#[test]
fn a_strategy_that_cannot_be_saved_is_named() {
    let bench = misbehaving_study(&["panics-in-save"], &[], When::Running);
    let ran = bench.study();
    expect![[r#"
        error: strategy-panics-in-save/tokens/seed-1: the strategy `fixture/strategy` failed in `save`: panicked at src/lib.rs:173:13: the moon is not right
        hint: report this to the author of `fixture/strategy`, or use another plugin; the last checkpoint is intact
        report: out/report/report.html
    "#]].assert_eq(&ran.stderr);
    assert_eq!(ran.code, Some(6));
    cases::enter_arm("strategy, before step 9", "panics-in-save", &bench, "strategy-panics-in-save", &ran);
}

#[test]
fn failures_of_two_classes_have_an_exit_code_of_their_own() {
    let bench = misbehaving_study(&["errs"], &["overflows"], When::Running);
    let ran = bench.study();
    expect![[r#"
        error: strategy-errs/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: the moon is not right
        hint: report this to the author of `fixture/strategy`, or use another plugin; what was trained so far is saved
        error: initializer-overflows/tokens/seed-1: the loss after the edit at step 9 is NaN
        hint: lower `schedule.rate`, lengthen the warm-up, or clip the gradient; the checkpoint before it is intact
        report: out/report/report.html
    "#]].assert_eq(&ran.stderr);
    assert_eq!(ran.code, Some(9));
    cases::enter_arm("initializer, before step 9", "overflows", &bench, "initializer-overflows", &ran);
}

#[test]
fn a_reporter_that_fails_leaves_and_the_study_goes_on() {
    let check = |deed: &str, expected: Expect| {
        let bench = Bench::new();
        let library = misbehaving().display();
        bench.add_to_study(&format!(
            "\n[[reporters]]\nuse = \"fixture/reporter\"\nlibrary = \"{library}\"\nconfig = {{ does = \"{deed}\" }}\n"
        ));
        let ran = bench.study();
        expected.assert_eq(&ran.stderr);
        cases::enter("reporter", deed, &bench, &ran);
        ran.good();
    };
    check(
        "panics-in-start",
        expect![[r#"
            warning: the reporter `fixture/reporter` failed in `start`: panicked at src/lib.rs:282:9: no paper left; the study went on without it
            report: out/report/report.html
        "#]],
    );
    check(
        "panics-in-event",
        expect![[r#"
            warning: the reporter `fixture/reporter` failed in `event`: panicked at src/lib.rs:289:61: no paper left; the study went on without it
            report: out/report/report.html
        "#]],
    );
    check(
        "errs-in-finish",
        expect![[r#"
        warning: the reporter `fixture/reporter` failed in `finish`: no paper left; the study went on without it
        report: out/report/report.html
    "#]],
    );
}
