//! Strategies that ride along, real ones: no bit of a run is theirs, and one that crashes or hangs does not take it along.

use std::fs;

use serde_json::Value;

use crate::support::{Bench, json, json_lines, misbehaving, same_results};

const RUN: &str = "out/runs/stack/compute/seed-1";

/// The tiny study, its second arm with what rides along in it.
fn beside(shadows: &str) -> Bench {
    Bench::with(&[
        ("seeds = [1, 2]", "seeds = [1]"),
        (
            "[arms.stack]\ninitializers.new_blocks = { use = \"sapwood/copy\" }",
            &format!(
                "[arms.stack]\ninitializers.new_blocks = {{ use = \"sapwood/copy\" }}\nshadows = [{shadows}]"
            ),
        ),
    ])
}

const CROWD: &str = r#"{ use = "sapwood/slope-trigger", config = { depths = [1, 2], window_fraction = 0.2, threshold = -0.5 } }, { use = "sapwood/stack", config = { factor = 2, grow_after_steps = 15, optimizer = "copy" } }, { use = "sapwood/layer-drop", config = { drop = { rule = "anneal" }, granularity = "sequence", scale = "none" } }"#;

fn said<'a>(log: &'a [Value], shadow: &str) -> Vec<&'a Value> {
    log.iter().filter(|record| record["shadow"] == shadow).collect()
}

#[test]
fn with_and_without_shadows_a_study_comes_to_the_same_bits() {
    let (alone, crowded) = (beside(""), beside(CROWD));
    alone.study().good();
    crowded.study().good();
    same_results(&alone.path("out"), &crowded.path("out"));
    let log = json_lines(&crowded.path(RUN).join("shadows.jsonl"));
    let twin = said(&log, "sapwood/stack");
    let requested: Vec<Value> = json_lines(&crowded.path(RUN).join("decisions.jsonl"))
        .into_iter()
        .filter(|decision| decision["decision"] == "requested")
        .map(|decision| decision["requests"].clone())
        .collect();
    let asked: Vec<Value> =
        twin.iter().filter(|said| said["said"] == "asked").map(|said| said["requests"].clone()).collect();
    assert_eq!(asked, requested, "the run's own strategy as a shadow asks for what the run does");
    assert!(twin.iter().any(|said| said["said"] == "judged" && said["rejected"].is_null()), "{twin:?}");
    assert!(said(&log, "sapwood/slope-trigger").len() > 1 && said(&log, "sapwood/layer-drop").len() > 10);
    let plugins = json(&crowded.path(RUN).join("DONE"))["costs"]["wall"]["plugins"].clone();
    for id in ["sapwood/stack", "sapwood/stack (shadow)", "sapwood/layer-drop (shadow)"] {
        assert!(plugins[id]["calls"].as_u64() > Some(40), "{id} in {plugins:#}");
    }

    // The folder goes on with other ones, and with none.
    alone.write("study.toml", fs::read(crowded.path("study.toml")).expect("a study"));
    alone.study().good();
    let said = alone.sapwood(&["diff", RUN, &crowded.path(RUN).display().to_string()]).good();
    assert!(said.contains("shadows: nothing -> ["), "{said}");
}

#[test]
fn one_that_crashes_hangs_or_panics_is_dropped_and_the_run_goes_on() {
    let library = misbehaving().display().to_string();
    let deeds = ["crashes", "exits", "hangs", "panics", "panics-in-save"];
    let shadow = |deed: &&str| {
        format!("{{ use = \"fixture/strategy\", library = \"{library}\", config = {{ does = \"{deed}\" }} }}")
    };
    let mut bench = beside(&deeds.iter().map(shadow).collect::<Vec<_>>().join(", "));
    bench.set_variable("SAPWOOD_PLUGIN_TIMEOUT_SECONDS", "1");
    let ran = bench.study();
    let warning = "warning: stack/compute/seed-1: the shadow fixture/strategy#4: the strategy `fixture/strategy` failed in";
    assert!(ran.code == Some(0) && ran.stderr.contains(warning), "{}", ran.said());
    let alone = beside("");
    alone.study().good();
    same_results(&alone.path("out"), &bench.path("out"));
    let log = json_lines(&bench.path(RUN).join("shadows.jsonl"));
    let dropped: Vec<&Value> = log.iter().filter(|record| record["said"] == "dropped").collect();
    assert_eq!(dropped.len(), deeds.len(), "{dropped:?}");
    let reason = |shadow: &str| {
        let of = dropped.iter().find(|record| record["shadow"] == shadow).expect("it was dropped");
        of["reason"].as_str().expect("a reason").to_owned()
    };
    assert!(reason("fixture/strategy#3").contains("did not answer within 1 s"), "{dropped:?}");
    assert!(reason("fixture/strategy#4").contains("the moon is not right"), "{dropped:?}");
    let warned = fs::read_to_string(bench.path("out/sapwood.log")).expect("a log");
    assert!(
        warned.contains("the shadow fixture/strategy#4") && warned.contains("the run goes on"),
        "{warned}"
    );
}

#[test]
fn killed_and_run_again_its_log_is_the_same() {
    let edit = |bench: &Bench| {
        let study = fs::read_to_string(bench.path("study.toml")).expect("a study");
        bench.write("study.toml", study.replace("steps = 40", "steps = 400"));
    };
    let (whole, killed) = (beside(CROWD), beside(CROWD));
    edit(&whole);
    edit(&killed);
    whole.study().good();
    let log = killed.path(RUN).join("shadows.jsonl");
    let mut kills = 0;
    for lines in [20, 120, 220] {
        let mut child = killed.start(&["study", "study.toml", "--out", "out", "--jobs", "2"]);
        let written = || fs::read_to_string(&log).unwrap_or_default().lines().count();
        while written() < lines && child.try_wait().expect("it is ours").is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        kills += usize::from(child.kill().is_ok());
        child.wait().expect("it was killed");
    }
    assert!(kills > 0 && !log.with_file_name("DONE").exists(), "it was faster than its killer");
    killed.study().good();
    assert!(json_lines(&log) == json_lines(&whole.path(RUN).join("shadows.jsonl")), "another shadow log");
    same_results(&whole.path("out"), &killed.path("out"));
}

#[test]
fn one_that_cannot_ride_along_is_told_of_before_anything_is_trained() {
    let check = |shadow: &str, wanted: &str| {
        let bench = beside(shadow);
        let ran = bench.study();
        assert!(ran.stderr.contains(wanted) && ran.stderr.contains("study.toml:"), "{}", ran.said());
        assert!(!bench.path("out/runs").exists());
        ran.code
    };
    check(r#"{ use = "sapwood/plateau" }"#, "there is no strategy `sapwood/plateau`");
    let refused = r#"{ use = "sapwood/slope-trigger", config = { depths = [1, 4] } }"#;
    assert_eq!(check(refused, "the last depth is 4, but the model has 2 layers"), Some(3));
}
