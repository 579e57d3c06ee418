//! What arms have in common is trained once: the results are the same bits, what was kept for copies is removed, and the
//! saving is printed.

use std::fs;
use std::path::Path;

use crate::support::{Bench, json, json_lines, root, run_folders, same_results};

/// The quickstart with a tenth of its steps, into that folder.
fn quickstart(bench: &Bench, out: &str, more: &[&str]) -> String {
    let file = root().join("configs/quickstart.toml").display().to_string();
    let mut args = vec!["study", &file, "--out", out];
    for set in ["budget.steps=60", "evaluation.every_steps=5", "evaluation.sequences=16", "study.seeds=[1,2]"]
    {
        args.extend(["--set", set]);
    }
    args.extend(more);
    bench.sapwood(&args).good()
}

fn forks(study: &Path) -> Vec<std::path::PathBuf> {
    run_folders(study).into_iter().map(|run| run.join("forks")).filter(|forks| forks.exists()).collect()
}

#[test]
fn the_quickstarts_arms_come_to_the_same_bits_with_and_without_sharing() {
    let bench = Bench::new();
    let (shared, alone) =
        (quickstart(&bench, "shared", &["--jobs", "2"]), quickstart(&bench, "alone", &["--no-sharing"]));
    same_results(&bench.path("shared"), &bench.path("alone"));
    let line = shared.lines().find(|line| line.starts_with("stack/compute")).expect("the saving is printed");
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[..4], ["stack/compute", "2", "paper-2/compute", "15"], "{shared}");
    assert!(!alone.contains("SHARED PREFIXES"), "{alone}");

    // What is saved is what the other run had spent by then, to the last FLOP.
    let report = json(&bench.path("shared/report/report.json"));
    let spent = |seed: u64| {
        let metrics = bench.path(&format!("alone/runs/stack/compute/seed-{seed}/metrics.jsonl"));
        json_lines(&metrics)[14]["flops"].as_u64().expect("a number")
    };
    assert_eq!(report["shared"]["saved_flops"], spent(1) + spent(2));
    let done = json(&bench.path("alone/runs/stack/compute/seed-1/DONE"));
    let shared_done = json(&bench.path("shared/runs/stack/compute/seed-1/DONE"));
    assert_eq!(done["costs"]["flops"], shared_done["costs"]["flops"], "an arm is charged with all of it");
    assert_eq!(shared_done["shared"]["run"], "paper-2/compute/seed-1");
    assert_eq!(forks(&bench.path("shared")), Vec::<std::path::PathBuf>::new(), "nothing is kept for nobody");
}

/// A run whose model is not there any more, or never was, is trained by itself.
#[test]
fn a_copy_that_comes_late_is_trained_by_itself() {
    let bench = Bench::new();
    quickstart(&bench, "late", &[]);
    fs::remove_dir_all(bench.path("late/runs/stack")).expect("it was run");
    quickstart(&bench, "late", &[]);
    quickstart(&bench, "alone", &["--no-sharing"]);
    same_results(&bench.path("late"), &bench.path("alone"));
    let done = json(&bench.path("late/runs/stack/compute/seed-1/DONE"));
    assert!(done.get("shared").is_none(), "{done}");
}

/// A baseline under another name has all of its steps in common with it, and one of its own.
#[test]
fn a_twin_takes_its_last_step_alone() {
    let bench = Bench::new();
    bench.add_to_study("\n[arms.twin]\nstrategy = { use = \"sapwood/baseline\" }\n");
    let planned = bench.sapwood(&["plan", "study.toml"]).good();
    let line =
        "  twin/compute/seed-1 begins as a copy of whole/tokens/seed-1, and takes its own steps from 39 on";
    assert!(planned.lines().any(|planned| planned == line), "{planned}");
    bench.study().good();
    bench.sapwood(&["study", "study.toml", "--out", "alone", "--no-sharing"]).good();
    same_results(&bench.path("out"), &bench.path("alone"));
    let report = json(&bench.path("out/report/report.json"));
    let twin = report["shared"]["arms"].as_array().expect("a list").iter().find(|arm| arm["arm"] == "twin");
    assert_eq!(twin.expect("it is a copy")["until"], 39);
}
