//! What `sapwood plan` says of memory is what a run then takes; and the micro-batch that is found to fit below a
//! limit.

use serde_json::Value;

use crate::support::{self, Bench, Ran};

/// A model whose activations take most of some hundred MiB, trained for four steps.
const LARGER: [(&str, &str); 9] = [
    ("layers = 2\nwidth = 16\nheads = 2\ncontext = 16", "layers = 4\nwidth = 256\nheads = 4\ncontext = 256"),
    ("sequences_per_step = 4", "sequences_per_step = 16"),
    ("micro_batch_sequences = 4", "micro_batch_sequences = 16"),
    ("seeds = [1, 2]", "seeds = [1]"),
    ("compare = [\"tokens\", \"compute\"]", "compare = [\"tokens\"]"),
    ("threads_per_run = 1", "threads_per_run = 2"),
    ("every_steps = 10\nsequences = 16", "every_steps = 2\nsequences = 8"),
    ("rate = 1e-2", "rate = 1e-3"),
    ("steps = 40", "steps = 4"),
];

fn larger() -> Bench {
    let bench = Bench::with(&LARGER);
    bench.write("text.txt", support::text(200_000));
    bench
}

fn plan_of(bench: &Bench) -> Value {
    let plan = bench.sapwood(&["plan", "study.toml", "--json"]).good();
    serde_json::from_str(&plan).expect("`--json` prints JSON")
}

/// Refused as a mistake in the file, with these words.
fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    for word in words {
        assert!(ran.stderr.contains(word), "`{word}` is missing:\n{}", ran.stderr);
    }
}

/// Trains the arm and compares the most memory that was held with what was told before.
fn check(arm: &str, strategy: &str) {
    let bench = larger();
    bench.add_to_study(strategy);
    let plan: Value = plan_of(&bench);
    let arms = plan["arms"].as_array().expect("arms");
    let planned = arms.iter().find(|planned| planned["arm"] == arm).expect("the arm is planned");
    let phases = planned["memory"].as_array().expect("the native engine can tell").iter();
    let peak = phases.map(|phase| phase["peak_bytes"].as_u64().expect("bytes")).max().expect("a phase");
    let told = peak + plan["program_bytes"].as_u64().expect("this system tells");
    bench.sapwood(&["train", "study.toml", "--arm", arm, "--out", "out"]).good();
    let done = support::json(&bench.path(&format!("out/runs/{arm}/tokens/seed-1/DONE")));
    let used = done["peak_memory_bytes"].as_u64().expect("this system tells");
    let ratio = used as f64 / told as f64;
    assert!((ratio - 1.0).abs() <= 0.05, "{arm}: {used} bytes used, {told} told, ratio {ratio:.3}");
}

fn paper(freeze: &str) -> String {
    format!(
        "
[arms.grown]
initializers.new_blocks = {{ use = \"sapwood/original\" }}
[arms.grown.strategy]
use = \"sapwood/paper\"
[arms.grown.strategy.config]
stages = 2
phase_steps = [[1], [100, 1]]
freeze = \"{freeze}\"
"
    )
}

/// Half as wide for three steps of four.
#[test]
fn of_a_model_that_is_half_as_wide() {
    let strategy = r#"
[arms.narrow]
initializers.wider_layers = { use = "sapwood/staged" }
strategy = { use = "sapwood/widen", config = { parts = [0.5, 1.0], fractions = [0.75, 0.25], axes = ["stream", "heads", "hidden_layers"], optimizer = "copy" } }
"#;
    check("narrow", strategy);
    let bench = larger();
    bench.add_to_study(strategy);
    let plan = plan_of(&bench);
    let arm = plan["arms"]
        .as_array()
        .expect("arms")
        .iter()
        .find(|arm| arm["arm"] == "narrow")
        .expect("it is planned");
    let bytes =
        |phase: usize| arm["memory"][phase]["parts_bytes"]["step"]["weights"].as_u64().expect("bytes");
    assert!(
        3 * bytes(0) < bytes(1),
        "half as wide, a quarter of the weights in each block: {} {}",
        bytes(0),
        bytes(1)
    );
}

#[test]
fn of_the_baseline() {
    check("whole", "");
}

#[test]
fn of_phase_1() {
    check("grown", &paper("blocks_only"));
}

#[test]
fn of_frozen_embeddings() {
    check("grown", &paper("all_below"));
}

#[test]
fn a_micro_batch_that_fits_is_found_and_kept() {
    let bench = larger();
    let auto = "micro_batch_sequences = \"auto\"\nmemory_limit_mib = 150";
    let mut edits = LARGER;
    edits[2].1 = auto;
    bench.write_study(&edits);
    let plan: Value = plan_of(&bench);
    let peaks = plan["arms"]
        .as_array()
        .expect("arms")
        .iter()
        .flat_map(|arm| arm["memory"].as_array().expect("the native engine can tell").clone());
    let most = peaks.map(|phase| phase["peak_bytes"].as_u64().expect("bytes")).max().expect("a phase");
    assert!(most <= 150 << 20 && most > 120 << 20, "{most} bytes are no good use of 150 MiB");
    bench.sapwood(&["train", "study.toml", "--arm", "whole", "--out", "out"]).good();
    let run = support::json(&bench.path("out/runs/whole/tokens/seed-1/run.json"));
    let found = run["config"]["training"]["micro_batch_sequences"].as_u64().expect("a number, as resolved");
    assert!((2..16).contains(&found), "{found}");
}

#[test]
fn a_study_goes_on_with_the_micro_batch_that_was_found_first_or_says_why_it_cannot() {
    let bench = larger();
    let limit = |mib: u64| {
        let auto = format!("micro_batch_sequences = \"auto\"\nmemory_limit_mib = {mib}");
        let mut edits: Vec<(&str, &str)> = LARGER.to_vec();
        edits[2].1 = &auto;
        bench.write_study(&edits);
    };
    let train = ["train", "study.toml", "--arm", "whole", "--out", "out"];
    let found = || {
        let run = support::json(&bench.path("out/runs/whole/tokens/seed-1/run.json"));
        run["config"]["training"]["micro_batch_sequences"].as_u64().expect("a number, as resolved")
    };
    limit(150);
    bench.sapwood(&train).good();
    let (first, results) = (found(), support::results(&bench.path("out/runs/whole/tokens/seed-1")));
    // With more room than it was begun with, as if it had been killed before its end.
    limit(2000);
    std::fs::remove_file(bench.path("out/runs/whole/tokens/seed-1/DONE")).expect("it was finished");
    bench.sapwood(&train).good();
    assert_eq!(found(), first);
    assert!(support::results(&bench.path("out/runs/whole/tokens/seed-1")) == results, "another end");
    limit(120);
    let said = format!("the study was begun with {first} sequences at once, which take 1");
    refused(
        &bench.sapwood(&train),
        &[&said, "more than the limit of 120 MiB", "choose another `--out`", "study.toml:"],
    );
    // The whole study likewise, where it has begun; elsewhere it finds another one.
    refused(&bench.sapwood(&["study", "study.toml", "--out", "out"]), &[&said]);
    assert!(bench.sapwood(&["plan", "study.toml"]).code == Some(0), "nothing has begun there");
}

#[test]
fn a_limit_that_nothing_fits_below_is_refused_with_what_it_takes() {
    let bench = larger();
    let mut edits = LARGER;
    edits[2].1 = "micro_batch_sequences = \"auto\"\nmemory_limit_mib = 10";
    bench.write_study(&edits);
    let ran = bench.sapwood(&["plan", "study.toml"]);
    refused(&ran, &["one sequence at a time takes", "more than the limit of 10 MiB", "study.toml"]);
}

#[test]
fn half_of_a_limit_is_refused() {
    let check = |training: &str, words: &str| {
        let bench = Bench::with(&[("micro_batch_sequences = 4", training)]);
        refused(&bench.sapwood(&["plan", "study.toml"]), &[words, "study.toml:"]);
    };
    check("micro_batch_sequences = \"auto\"", "without a limit to stay below");
    check("micro_batch_sequences = 4\nmemory_limit_mib = 100", "limits nothing");
    check("micro_batch_sequences = \"automatic\"", "a number of sequences, or \"auto\"");
}

#[test]
fn blocks_that_are_computed_again_take_less_and_come_to_the_same() {
    let again = "micro_batch_sequences = 4\nrecompute = \"blocks\"";
    let [kept, again] = [Bench::new(), Bench::with(&[("micro_batch_sequences = 4", again)])];
    let peak =
        |bench: &Bench| plan_of(bench)["arms"][0]["memory"][0]["parts_bytes"]["step"]["activations"].as_u64();
    assert!(peak(&again) < peak(&kept), "{:?} and {:?}", peak(&again), peak(&kept));
    for bench in [&kept, &again] {
        bench.study().good();
    }
    support::same_results(&kept.path("out"), &again.path("out"));
}

#[test]
fn an_engine_that_cannot_compute_blocks_again_says_so() {
    let bench =
        Bench::with(&[("micro_batch_sequences = 4", "micro_batch_sequences = 4\nrecompute = \"blocks\"")]);
    let ran = bench.sapwood(&["study", "study.toml", "--out", "out", "--engine", "burn"]);
    refused(&ran, &["the engine `burn` does not implement blocks that are computed again"]);
}
