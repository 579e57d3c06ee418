//! `isolation = "process"`: the same bits as in process, and a crash, an exit, a hang or a plugin that eats all
//! memory ends its own process and nothing else.

use expect_test::{Expect, expect};

use crate::bad_plugins::{When, misbehaving_study_with};
use crate::cases;
use crate::support::{Bench, json, json_lines, misbehaving, refused, results, same_results};

const ISOLATED: &str = ", isolation = \"process\"";

#[test]
fn isolated_and_in_process_come_to_the_same_bits() {
    let reporter = "\n[[reporters]]\nuse = \"sapwood/csv\"\n";
    let here = Bench::new();
    here.add_to_study(reporter);
    here.study().good();
    let apart = Bench::with(&[
        ("{ use = \"sapwood/baseline\" }", "{ use = \"sapwood/baseline\", isolation = \"process\" }"),
        ("{ use = \"sapwood/copy\" }", "{ use = \"sapwood/copy\", isolation = \"process\" }"),
        ("use = \"sapwood/stack\"\n", "use = \"sapwood/stack\"\nisolation = \"process\"\n"),
    ]);
    apart.add_to_study(&format!("{reporter}isolation = \"process\"\n"));
    apart.study().good();
    same_results(&here.path("out"), &apart.path("out"));
    let table = "out/runs/stack/compute/seed-1/evaluations.csv";
    let read = |bench: &Bench| std::fs::read(bench.path(table)).expect("the reporter wrote it");
    assert!(read(&here) == read(&apart), "the reporters saw different runs");
}

/// What revision 2 asks for goes the same way: a model that becomes wider, embeddings included, and ways that are tried out.
#[test]
fn widened_and_probing_runs_come_to_the_same_bits_isolated() {
    let arms = |isolation: &str| {
        format!(
            r#"
[arms.wider]
initializers.wider_layers = {{ use = "sapwood/lemon"{isolation} }}
[arms.wider.strategy]
use = "sapwood/widen"{own_line}
config = {{ parts = [0.5, 1.0], fractions = [0.5, 0.5], axes = ["stream", "heads", "hidden_layers"], optimizer = "staged" }}

[arms.probing]
initializers.new_blocks = {{ use = "sapwood/copy"{isolation} }}
[arms.probing.strategy]
use = "sapwood/probe"{own_line}
config = {{ fractions = [0.5, 0.5], probe_steps = 3, candidates = [{{ order = "interleave", slot = "new_blocks", optimizer = "copy" }}, {{ order = "stack", slot = "new_blocks", optimizer = "reset" }}] }}
"#,
            own_line = isolation.replacen(", ", "\n", 1),
        )
    };
    let [here, apart] = ["", ISOLATED].map(|isolation| {
        let bench = Bench::with(&[("seeds = [1, 2]", "seeds = [1]")]);
        bench.add_to_study(&arms(isolation));
        bench.study().good();
        bench
    });
    same_results(&here.path("out"), &apart.path("out"));
}

#[test]
fn a_configuration_is_refused_in_the_same_words() {
    let check = |deed: &str, expected: Expect| {
        let bench = misbehaving_study_with(ISOLATED, &[deed], &[], When::Always);
        let ran = bench.study();
        refused(&bench, &ran, &expected);
        cases::enter("isolated strategy, from the start", deed, &bench, &ran);
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
        "panics",
        expect![[r#"
            error: the strategy `fixture/strategy` failed in `before_step`: panicked at src/lib.rs:147:37: the moon is not right
              --> study.toml:68
            hint: report this to the author of `fixture/strategy`, or use another plugin; what was trained so far is saved
            exit 6
        "#]],
    );
}

const DEEDS: [&str; 5] = ["crashes", "aborts", "exits", "hangs", "eats-memory"];

#[test]
fn what_no_host_can_catch_is_named_and_saved_and_spares_the_others() {
    let mut bench = misbehaving_study_with(ISOLATED, &DEEDS, &DEEDS, When::Running);
    bench.set_variable("SAPWOOD_PLUGIN_TIMEOUT_SECONDS", "2");
    bench.set_variable("SAPWOOD_PLUGIN_MEMORY_MIB", "256");
    let ran = bench.study();
    assert_eq!(ran.code, Some(6), "{}", ran.said());
    let errors: String =
        ran.stderr.lines().filter(|l| l.starts_with("error: ")).map(|l| format!("{l}\n")).collect();
    expect![[r#"
        error: strategy-crashes/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: its process has ended: signal: 11 (SIGSEGV)
        error: strategy-aborts/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: its process has ended: signal: 6 (SIGABRT)
        error: strategy-exits/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: its process has ended: exit status: 0
        error: strategy-hangs/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: its process did not answer within 2 s and was ended
        error: strategy-eats-memory/tokens/seed-1: the strategy `fixture/strategy` failed in `before_step`: its process has ended: signal: 6 (SIGABRT)
        error: initializer-crashes/tokens/seed-1: the initializer `fixture/initializer` failed in `init`: its process has ended: signal: 11 (SIGSEGV)
        error: initializer-aborts/tokens/seed-1: the initializer `fixture/initializer` failed in `init`: its process has ended: signal: 6 (SIGABRT)
        error: initializer-exits/tokens/seed-1: the initializer `fixture/initializer` failed in `init`: its process has ended: exit status: 0
        error: initializer-hangs/tokens/seed-1: the initializer `fixture/initializer` failed in `init`: its process did not answer within 2 s and was ended
        error: initializer-eats-memory/tokens/seed-1: the initializer `fixture/initializer` failed in `init`: its process has ended: signal: 6 (SIGABRT)
    "#]].assert_eq(&errors);
    let run = |arm: &str| bench.path(&format!("out/runs/{arm}/tokens/seed-1"));
    let arms: Vec<String> = ["strategy", "initializer"]
        .iter()
        .flat_map(|kind| DEEDS.map(|deed| format!("{kind}-{deed}")))
        .collect();
    let good = results(&run("whole"));
    for arm in &arms {
        assert_eq!(json(&run(arm).join("checkpoints/00000009/state.json"))["step"], 9, "{arm}");
        assert_eq!(json_lines(&run(arm).join("metrics.jsonl")).len(), 9, "{arm}");
        assert!(run(arm).join("FAILED").exists() && !run(arm).join("DONE").exists(), "{arm}");
        let (kind, deed) = arm.split_once('-').expect("kind and deed");
        cases::enter_arm(&format!("isolated {kind}, before step 9"), deed, &bench, arm, &ran);
    }
    // With the plugins repaired, the same command goes on from what was saved.
    bench.write("out/repaired", "");
    bench.study().good();
    for arm in &arms {
        assert!(run(arm).join("DONE").exists(), "{arm}");
        if arm.starts_with("strategy-") {
            assert!(results(&run(arm))[0].1 == good[0].1, "{arm}: other losses than the baseline's");
        }
    }
}

#[test]
fn after_a_crash_in_process_the_same_run_goes_on_isolated() {
    let bench = misbehaving_study_with("", &["crashes"], &[], When::Running);
    let crashed = bench.study();
    assert_eq!(crashed.code, None, "a segmentation fault ends the process: {}", crashed.said());
    let isolated = ["--set", "arms.strategy-crashes.strategy.isolation=\"process\""];
    let study = [&["study", "study.toml", "--out", "out", "--jobs", "1"], &isolated[..]].concat();
    // The rehearsal shows it now, and names it.
    let named = bench.sapwood(&study);
    let wanted = "the strategy `fixture/strategy` failed in `before_step`: its process has ended: signal: 11 (SIGSEGV)";
    assert!(named.code == Some(6) && named.stderr.contains(wanted), "{}", named.said());
    bench.write("out/repaired", "");
    bench.sapwood(&study).good();
    assert!(bench.path("out/runs/strategy-crashes/tokens/seed-1/DONE").exists());
}

#[test]
fn an_isolated_reporter_that_is_gone_costs_the_study_nothing() {
    let check = |deed: &str, expected: Expect| {
        let mut bench = Bench::new();
        bench.set_variable("SAPWOOD_PLUGIN_TIMEOUT_SECONDS", "2");
        bench.set_variable("SAPWOOD_PLUGIN_MEMORY_MIB", "256");
        let library = misbehaving().display();
        bench.add_to_study(&format!(
            "\n[[reporters]]\nuse = \"fixture/reporter\"\nlibrary = \"{library}\"{}\nconfig = {{ does = \"{deed}\" }}\n",
            ISOLATED.replace(", ", "\n")
        ));
        let ran = bench.study();
        // What the child's allocator says before it aborts is the compiler's business.
        let warnings: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
        expected.assert_eq(&(warnings.join("\n") + "\n"));
        cases::enter("isolated reporter", deed, &bench, &ran);
        ran.good();
    };
    check(
        "crashes-in-event",
        expect![[r#"
            warning: the reporter `fixture/reporter` failed in `event`: its process has ended: signal: 11 (SIGSEGV); the study went on without it
        "#]],
    );
    check(
        "exits-in-event",
        expect![[r#"
            warning: the reporter `fixture/reporter` failed in `event`: its process has ended: exit status: 0; the study went on without it
        "#]],
    );
    check(
        "hangs-in-event",
        expect![[r#"
            warning: the reporter `fixture/reporter` failed in `event`: its process did not answer within 2 s and was ended; the study went on without it
        "#]],
    );
    check(
        "eats-memory-in-event",
        expect![[r#"
            warning: the reporter `fixture/reporter` failed in `event`: its process has ended: signal: 6 (SIGABRT); the study went on without it
        "#]],
    );
}
