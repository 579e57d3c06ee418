//! A strategy that is asked about a run which is on record: the same one decides as it did, another one otherwise, and
//! nothing is trained for it.

use std::fs;

use serde_json::Value;

use crate::support::{Bench, files_below, json_lines};

const RUN: &str = "out/runs/stack/compute/seed-1";

/// The tiny study with an arm that watches its loss, one that probes, and the paper's.
fn bench() -> Bench {
    let bench = Bench::with(&[("seeds = [1, 2]", "seeds = [1]")]);
    bench.add_to_study(
        r#"
[arms.slope]
strategy = { use = "sapwood/slope-trigger", config = { depths = [1, 2], window_fraction = 0.2, threshold = -0.5 } }
initializers.new_blocks = { use = "sapwood/copy" }

[arms.probe]
strategy = { use = "sapwood/probe", config = { fractions = [0.4, 0.6], probe_steps = 3, candidates = [{ order = "interleave", slot = "new_blocks", optimizer = "copy" }, { order = "stack", slot = "new_blocks", optimizer = "reset" }] } }
initializers.new_blocks = { use = "sapwood/copy" }

[arms.paper]
strategy = { use = "sapwood/paper", config = { stages = 2, freeze = "all_below", staged_steps = 20 } }
initializers.new_blocks = { use = "sapwood/original" }
"#,
    );
    bench.study().good();
    bench
}

#[test]
fn the_same_strategy_decides_as_it_did() {
    let bench = bench();
    for arm in ["stack", "slope", "probe", "paper"] {
        let run = format!("out/runs/{arm}/compute/seed-1");
        let steps = json_lines(&bench.path(&run).join("metrics.jsonl")).len();
        let before = files_below(&bench.path("out"));
        let said = bench.sapwood(&["replay", &run]).good();
        assert!(said.contains(&format!("makes the same decisions at all {steps} steps")), "{arm}: {said}");
        assert_eq!(files_below(&bench.path("out")), before, "a replay leaves nothing behind");
    }
    // It has grown by what it saw, so its losses were told as they had been.
    let grown = json_lines(&bench.path("out/runs/slope/compute/seed-1/metrics.jsonl"));
    assert!(grown.first().map(|step| &step["depth"]) != grown.last().map(|step| &step["depth"]));
}

#[test]
fn another_strategy_decides_otherwise_and_where_is_told() {
    let bench = bench();
    let config = r#"{ "factor": 2, "grow_after_steps": 20, "optimizer": "copy" }"#;
    let later = bench.sapwood(&["replay", RUN, "--strategy", "sapwood/stack", "--config", config]);
    assert_eq!(later.code, Some(10), "{}", later.said());
    let said = &later.stdout;
    assert!(said.contains("the first step before which it decides otherwise: 15\n"), "{said}");
    assert!(said.contains("  sapwood/stack asks for nothing\n"), "{said}");
    // There is no room for the growth that it wants then: the run has grown already.
    assert!(said.contains("20 *: nothing (1 refused: 2 more blocks on 2 exceed the 2"), "{said}");

    let slope = r#"{ "depths": [1, 2], "window_fraction": 0.2, "threshold": -0.5 }"#;
    let json =
        bench.sapwood(&["replay", RUN, "--strategy", "sapwood/slope-trigger", "--config", slope, "--json"]);
    assert_eq!(json.code, Some(10), "{}", json.said());
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((&json["is_same"], &json["strategy"]["id"]), (&false.into(), &"sapwood/slope-trigger".into()));
    let decisions = json["decisions"].as_array().expect("a list");
    let asked = decisions.iter().find(|decision| decision["step"] == 15).expect("the run grows there");
    assert!(asked["run"].to_string().contains("insert"), "{asked:#}");
}

/// What follows from a log is held against it.
#[test]
fn what_is_no_run_or_was_changed_is_told() {
    let bench = bench();
    let nothing = bench.sapwood(&["replay", "out"]);
    assert_eq!(nothing.code, Some(3), "{}", nothing.said());
    assert!(
        nothing.stderr.starts_with("error: out holds no run: there is no run.json in it\nhint: name a run's")
    );
    let refused =
        bench.sapwood(&["replay", RUN, "--strategy", "sapwood/paper", "--config", r#"{"stages": 5}"#]);
    assert!(refused.code == Some(3) && refused.stderr.contains("sapwood/paper"), "{}", refused.said());
    let path = bench.path(RUN).join("metrics.jsonl");
    let whole = fs::read_to_string(&path).expect("a log");
    fs::write(&path, whole.replace("\"learning_rate\":0.01,", "\"learning_rate\":0.02,")).expect("room");
    let changed = bench.sapwood(&["replay", RUN]);
    assert_eq!(changed.code, Some(8), "{}", changed.said());
    let wanted = "metrics.jsonl has at step 3 another rate, cost, depth or phase than the decisions come to";
    assert!(changed.stderr.contains(wanted), "{}", changed.stderr);
}

/// Of a run that is under way there is what has been written by now.
#[test]
fn a_run_that_has_only_begun_is_replayed_as_far_as_it_goes() {
    let bench = bench();
    let run = bench.path(RUN);
    fs::remove_file(run.join("DONE")).expect("it is done");
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).expect("a log");
    let cut: String = metrics.split_inclusive('\n').take(22).collect();
    fs::write(run.join("metrics.jsonl"), cut + "{\"step\":22,").expect("room");
    let said = bench.sapwood(&["replay", RUN]).good();
    assert!(said.contains("makes the same decisions at all 22 steps"), "{said}");
}
