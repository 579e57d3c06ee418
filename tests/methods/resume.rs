//! Every strategy, gone on from checkpoints around its changes: it ends in the bits of a run that nothing interrupted,
//! initializers' draws included.

use std::fs;
use std::path::{Path, PathBuf};

use super::pairs::run_of;
use super::shipped::study_of_every_strategy;
use crate::support::{json_lines, results};

/// Steps before which a strategy asked for something, but for the first.
fn changes(run: &Path) -> Vec<u64> {
    let decisions = json_lines(&run.join("decisions.jsonl")).into_iter();
    let requested = decisions.filter(|decision| decision["decision"] == "requested");
    requested.filter_map(|decision| decision["step"].as_u64()).filter(|step| *step > 0).collect()
}

/// Leaves a run as it was when that step was saved.
fn go_back(run: &Path, step: u64) {
    fs::remove_file(run.join("DONE")).expect("a finished run");
    for entry in fs::read_dir(run.join("checkpoints")).expect("it was saved").flatten() {
        let path: PathBuf = entry.path();
        let of: u64 = entry.file_name().to_string_lossy()[..8].parse().expect("a step's number");
        if of > step {
            fs::remove_dir_all(path).expect("a checkpoint of ours");
        }
    }
    assert!(run.join(format!("checkpoints/{step:08}")).is_dir(), "step {step} was not saved");
}

#[test]
fn gone_on_from_before_and_after_its_changes_every_strategy_ends_in_the_same_bits() {
    let (bench, arms) = study_of_every_strategy();
    let study = fs::read_to_string(bench.path("study.toml")).expect("it was written");
    let saved_often = study.replace("every_steps = 100\nkeep = 1", "every_steps = 1\nkeep = 100");
    assert_ne!(saved_often, study, "each step is to be saved");
    bench.write("study.toml", saved_often);
    // A copy of another run saves nothing before it goes on by itself.
    bench.sapwood(&["study", "study.toml", "--out", "out", "--jobs", "1", "--no-sharing"]).good();
    let runs: Vec<PathBuf> = arms.iter().map(|arm| run_of(&bench, arm)).collect();
    let whole: Vec<_> = runs.iter().map(|run| (changes(run), results(run))).collect();
    // Right before the first change, right after it, right after the last.
    for point in 0..3 {
        for (run, (changes, _)) in runs.iter().zip(&whole) {
            let (first, last) = (changes.first().expect("it changes"), changes.last().expect("so it does"));
            go_back(run, [*first, first + 1, last + 1][point]);
        }
        bench.study().good();
        for ((arm, run), (_, whole)) in arms.iter().zip(&runs).zip(&whole) {
            for ((name, bytes), (_, resumed)) in whole.iter().zip(results(run)) {
                assert!(*bytes == resumed, "{arm}: {name} differs, gone on from point {point}");
            }
        }
    }
}
