//! `sapwood verify-resume`: what it proves of good plugins, and that it finds one which forgets.

use std::fs;

use crate::support::{Bench, misbehaving};

#[test]
fn stopped_again_and_again_every_arm_ends_in_the_same_bytes() {
    let bench = Bench::new();
    for engine in ["native", "burn"] {
        let said = bench.sapwood(&["verify-resume", "study.toml", "--engine", engine, "--stops", "3"]).good();
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("whole/tokens/seed-1: stopped "), "{said}");
        // Around the growth before step 15, and right after the evaluation before step 10.
        let stops =
            lines[1].split("before steps ").nth(1).and_then(|rest| rest.split(')').next()).expect("stops");
        for stop in ["0", "10", "14", "15", "16"] {
            assert!(stops.split(' ').any(|step| step == stop), "no stop before {stop} in {said}");
        }
        assert!(lines[..2].iter().all(|line| line.ends_with(": every byte the same")), "{said}");
        assert_eq!(lines[2], "2 arms, every byte the same");
    }
}

/// Such as what an engine cannot do.
#[test]
fn an_arm_is_proved_whatever_is_wrong_with_others() {
    let bench = Bench::new();
    bench.add_to_study("\n[arms.frozen]\nstrategy = { use = \"sapwood/front-freezing\", config = { embeddings = \"freeze\" } }\n");
    bench.add_to_study("\n[arms.nobody]\nstrategy = { use = \"nobody/knows\" }\n");
    let verify = |arm: &str| bench.sapwood(&["verify-resume", "study.toml", "--arm", arm, "--stops", "1"]);
    assert!(verify("frozen").good().ends_with("1 arm, every byte the same\n"));
    let refused = verify("nobody");
    assert!(refused.code == Some(5) && refused.stderr.contains("nobody/knows"), "{}", refused.said());
}

#[test]
fn a_strategy_that_forgets_is_found_and_the_runs_are_kept() {
    let bench = Bench::with(&[
        ("use = \"sapwood/stack\"", "use = \"fixture/strategy\"\nlibrary = \"bad.so\""),
        ("factor = 2\ngrow_after_steps = 15\noptimizer = \"copy\"\n", "does = \"forgets\"\n"),
    ]);
    bench.write("bad.so", fs::read(misbehaving()).expect("it was built"));
    let args = ["verify-resume", "study.toml", "--arm", "stack", "--out", "kept"];
    let ran = bench.sapwood(&args);
    assert_eq!(ran.code, Some(10), "{}", ran.said());
    assert!(ran.stdout.contains(": metrics.jsonl differs\n"), "{}", ran.said());
    assert!(ran.stdout.ends_with("1 of 1 arms differ; their runs are in kept\n"), "{}", ran.said());
    assert!(bench.path("kept/stopped/runs/stack").is_dir());
    let again = bench.sapwood(&args);
    assert!(again.code == Some(3) && again.stderr.contains("kept is not empty"), "{}", again.said());
    let unknown = bench.sapwood(&["verify-resume", "study.toml", "--arm", "nobody"]);
    assert!(unknown.code == Some(3) && unknown.stderr.contains("no arm `nobody`"), "{}", unknown.said());
}
