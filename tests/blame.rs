//! What no host can catch, in process: the culprit is named, by the same process where that is possible and else by
//! the next start and `doctor`, the exit code is its own, and what was saved last is intact.

use expect_test::{Expect, expect};

use crate::bad_plugins::{When, misbehaving_study_with};
use crate::cases;
use crate::faults::saw;
use crate::support::{Bench, Ran, files_below, json, misbehaving};

/// A study that saves after five steps, whose plugin does something before step 9. It waits for what it saves: four steps of so
/// small a model are over before a disk has written anything.
fn bench(strategies: &[&str], initializers: &[&str]) -> Bench {
    let bench = misbehaving_study_with("", strategies, initializers, When::Running);
    let study = std::fs::read_to_string(bench.path("study.toml")).expect("it was just written");
    // In the place of a line, so that errors name the same lines. Two are kept without being told.
    bench.write("study.toml", study.replace("keep = 2\n", "write = \"at-once\"\n"));
    bench
}

/// What is printed, without the places where a study's text would differ from machine to machine.
fn said(ran: &Ran) -> String {
    let code = ran.code.map_or_else(|| "a signal".into(), |code| format!("exit {code}"));
    format!("{}{code}\n", ran.stderr)
}

fn study(bench: &Bench) -> Ran {
    bench.sapwood(&[
        "study",
        "study.toml",
        "--out",
        "out",
        "--jobs",
        "1",
        "--set",
        "checkpoints.every_steps=5",
        // As a copy of another run it would have nothing of its own to lose yet.
        "--no-sharing",
    ])
}

/// The last checkpoint can be read, and with the plugin repaired the same command goes on from it.
fn goes_on(bench: &Bench, arm: &str) {
    let run = bench.path(&format!("out/runs/{arm}/tokens/seed-1"));
    assert_eq!(json(&run.join("checkpoints/00000005/state.json"))["step"], 5);
    bench.write("out/repaired", "");
    study(bench).good();
    assert!(run.join("DONE").exists());
}

#[test]
fn a_crash_is_told_of_by_doctor_and_once_by_the_next_start() {
    let check = |bench: &Bench, arm: &str, expected: Expect| {
        let crashed = study(bench);
        assert_eq!(crashed.code, None, "a crash is a signal: {}", crashed.said());
        let doctor = bench.sapwood(&["doctor"]).good();
        let told = doctor.lines().skip_while(|line| *line != "plugins that ended a process").nth(1);
        let told = told.expect("doctor tells").trim().to_owned() + "\n";
        expected.assert_eq(&told);
        let (kind, deed) = arm.split_once('-').expect("kind and deed");
        cases::enter_told(
            &format!("{kind}, before step 9"),
            deed,
            bench,
            &format!("doctor: {}", told.trim()),
            &crashed,
        );
        if deed == "crashes" && kind == "strategy" {
            saw("a plugin crashes", &crashed, &format!("doctor and the next start: {}", told.trim()));
        }
        bench.write("out/repaired", "");
        let next = bench.sapwood(&["plan", "study.toml"]);
        assert!(next.stderr.starts_with(&format!("warning: {told}")), "{}", next.said());
        assert_eq!(bench.sapwood(&["plan", "study.toml"]).stderr, "", "it is told of once");
        goes_on(bench, arm);
        assert_eq!(
            files_below(&bench.path("state")),
            [""; 0].map(std::path::PathBuf::from),
            "nothing is left"
        );
    };
    check(
        &bench(&["crashes"], &[]),
        "strategy-crashes",
        expect![[r#"
            `sapwood study study.toml --out out --jobs 1 --set checkpoints.every_steps=5 --no-sharing` in TMP ended while the strategy `fixture/strategy` was in `before_step`, step 9
        "#]],
    );
    check(
        &bench(&["aborts"], &[]),
        "strategy-aborts",
        expect![[r#"
            `sapwood study study.toml --out out --jobs 1 --set checkpoints.every_steps=5 --no-sharing` in TMP ended while the strategy `fixture/strategy` was in `before_step`, step 9
        "#]],
    );
    check(
        &bench(&[], &["crashes"]),
        "initializer-crashes",
        expect![[r#"
            `sapwood study study.toml --out out --jobs 1 --set checkpoints.every_steps=5 --no-sharing` in TMP ended while the initializer `fixture/initializer` was in `init`, block 1
        "#]],
    );
}

#[test]
fn an_exit_is_caught_on_its_way_out() {
    let check = |bench: &Bench, arm: &str, expected: Expect| {
        let exited = study(bench);
        expected.assert_eq(&said(&exited));
        let (kind, deed) = arm.split_once('-').expect("kind and deed");
        cases::enter(&format!("{kind}, before step 9"), deed, bench, &exited);
        if kind == "strategy" {
            saw("a plugin calls exit()", &exited, "");
        }
        goes_on(bench, arm);
    };
    check(
        &bench(&["exits"], &[]),
        "strategy-exits",
        expect![[r#"
        error: the strategy `fixture/strategy` was in `before_step`, step 9 when `exit()` was called, which no plugin may
        hint: what was saved last is intact; write `isolation = "process"` beside its `use` and run the same command again: then the plugin ends its own process alone
        exit 11
    "#]],
    );
    check(
        &bench(&[], &["exits"]),
        "initializer-exits",
        expect![[r#"
        error: the initializer `fixture/initializer` was in `init`, block 1 when `exit()` was called, which no plugin may
        hint: what was saved last is intact; write `isolation = "process"` beside its `use` and run the same command again: then the plugin ends its own process alone
        exit 11
    "#]],
    );
}

#[test]
fn what_hangs_is_warned_of_and_ended() {
    let mut bench = bench(&["hangs"], &[]);
    bench.set_variable("SAPWOOD_PLUGIN_TIMEOUT_SECONDS", "2");
    let hung = study(&bench);
    expect![[r#"
        warning: the strategy `fixture/strategy` was in `before_step`, step 9 for a second by now
        error: the strategy `fixture/strategy` was in `before_step`, step 9 for more than 2 s; the process is ended
        hint: raise SAPWOOD_PLUGIN_TIMEOUT_SECONDS if it needs that long; else what was saved last is intact; write `isolation = "process"` beside its `use` and run the same command again: then the plugin ends its own process alone
        exit 12
    "#]].assert_eq(&said(&hung));
    let told = hung.stderr.lines().find(|line| line.starts_with("error: ")).expect("it was ended");
    cases::enter_told("strategy, before step 9", "hangs", &bench, told, &hung);
    goes_on(&bench, "strategy-hangs");
}

#[test]
fn a_reporter_that_exits_or_crashes_is_named_and_one_that_hangs_is_left_behind() {
    let with = |deed: &str| {
        let mut bench = Bench::new();
        bench.set_variable("SAPWOOD_PLUGIN_TIMEOUT_SECONDS", "1");
        let library = misbehaving().display();
        bench.add_to_study(&format!(
            "\n[[reporters]]\nuse = \"fixture/reporter\"\nlibrary = \"{library}\"\nconfig = {{ does = \"{deed}\" }}\n"
        ));
        bench
    };
    let exiting = with("exits-in-event");
    let exited = study(&exiting);
    expect![[r#"
        error: the reporter `fixture/reporter` was in `event`, event 2 when `exit()` was called, which no plugin may
        hint: what was saved last is intact; write `isolation = "process"` beside its `use` and run the same command again: then the plugin ends its own process alone
        exit 11
    "#]].assert_eq(&said(&exited));
    cases::enter("reporter", "exits-in-event", &exiting, &exited);
    let crashing = with("crashes-in-event");
    let crashed = study(&crashing);
    assert_eq!(crashed.code, None);
    let told = crashing.sapwood(&["doctor"]).good();
    let told =
        told.lines().find(|line| line.contains("the reporter `fixture/reporter` was in `event`, event "));
    let told = format!("doctor: {}", told.expect("doctor tells").trim());
    cases::enter_told("reporter", "crashes-in-event", &crashing, &told, &crashed);
    let hangs = with("hangs-in-event");
    let hanging = study(&hangs);
    cases::enter("reporter", "hangs-in-event", &hangs, &hanging);
    expect![[r#"
        warning: the reporter `fixture/reporter` was in `event`, event 2 for a second by now
        warning: the reporter `fixture/reporter` did not finish within 10 s; the study went on without it
        report: out/report/report.html
        exit 0
    "#]]
    .assert_eq(&said(&hanging));
}
