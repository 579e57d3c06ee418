//! Strategies that choose what runs in a step, or have steps measured, through revision 2 of their interface: real
//! libraries, from the study's file to the ledgers, wherever they run; and an engine that cannot follow says so before the
//! first step.

use expect_test::expect;

use crate::support::{Bench, json, json_lines, refused, same_results};

const STACK: (&str, &str) = ("use = \"sapwood/stack\"", "use = \"sapwood/layer-drop\"");
const CONFIG: (&str, &str) = (
    "factor = 2\ngrow_after_steps = 15\noptimizer = \"copy\"\n",
    "drop = { rule = \"linear\", keep = 0.5 }\ngranularity = \"sequence\"\nscale = \"inverse\"\n",
);
const NO_INITIALIZER: (&str, &str) = ("initializers.new_blocks = { use = \"sapwood/copy\" }\n", "");

#[test]
fn blocks_that_are_left_out_cost_nothing_and_the_choice_is_logged() {
    let bench = Bench::with(&[STACK, CONFIG, NO_INITIALIZER]);
    bench.study().good();
    let run = |arm: &str, budget: &str| bench.path(&format!("out/runs/{arm}/{budget}/seed-1"));
    let flops = |line: &serde_json::Value| line["flops"].as_f64().expect("a ledger");
    let metrics = |arm: &str, budget: &str| json_lines(&run(arm, budget).join("metrics.jsonl"));
    let (whole, dropping) = (metrics("whole", "tokens"), metrics("stack", "compute"));
    assert!(dropping.len() > whole.len(), "what is saved is spent on more steps at equal compute");
    assert!(flops(&dropping[39]) < flops(&whole[39]));
    assert!(dropping.iter().all(|step| step["loss_nats_per_token"].is_f64()), "a loss is no number");
    let decisions = json_lines(&run("stack", "compute").join("decisions.jsonl"));
    let executed = |line: &&serde_json::Value| line["requests"].to_string().contains("\"execute");
    let steps: Vec<u64> =
        decisions.iter().filter(executed).filter_map(|line| line["step"].as_u64()).collect();
    assert_eq!(steps, (0..dropping.len() as u64).collect::<Vec<_>>(), "one choice a step");
    let mut passes = decisions.iter().flat_map(|line| line["requests"][0]["execute"].as_array()).flatten();
    assert!(passes.any(|pass| pass["sequences"].is_array()), "some sequences alone pass through a block");
    assert_eq!(json(&run("stack", "compute").join("DONE"))["steps"], dropping.len() as u64);
}

#[test]
fn isolated_it_draws_and_trains_the_same() {
    let here = Bench::with(&[STACK, CONFIG, NO_INITIALIZER]);
    here.study().good();
    let isolated = ("use = \"sapwood/stack\"", "use = \"sapwood/layer-drop\"\nisolation = \"process\"");
    let apart = Bench::with(&[isolated, CONFIG, NO_INITIALIZER]);
    apart.study().good();
    same_results(&here.path("out"), &apart.path("out"));
}

#[test]
fn an_engine_that_runs_the_whole_stack_alone_is_named_before_the_first_step() {
    let bench = Bench::with(&[STACK, CONFIG, NO_INITIALIZER]);
    let ran = bench.sapwood(&["study", "study.toml", "--out", "out", "--jobs", "1", "--engine", "burn"]);
    refused(
        &bench,
        &ran,
        &expect![[r#"
            error: arm `stack`: the strategy `sapwood/layer-drop` chooses what runs in a step, but the engine `burn` always runs the whole stack
              --> study.toml:69
            hint: leave out `--engine`: the default one can
            exit 3
        "#]],
    );
}

const FREEZING: [(&str, &str); 3] = [
    ("use = \"sapwood/stack\"", "use = \"sapwood/adaptive-freezing\""),
    (
        "factor = 2\ngrow_after_steps = 15\noptimizer = \"copy\"\n",
        "interval = 0.1\nshared = \"freeze\"\nalpha = 0.5\n",
    ),
    NO_INITIALIZER,
];

#[test]
fn what_is_measured_in_steps_steers_what_freezes_wherever_the_plugin_runs() {
    let here = Bench::with(&FREEZING);
    here.study().good();
    let decisions = json_lines(&here.path("out/runs/stack/compute/seed-1/decisions.jsonl"));
    let frozen: Vec<&serde_json::Value> = decisions
        .iter()
        .filter(|line| line["label"] == "1 frozen" && line["decision"] == "phase-started")
        .collect();
    // Steps are measured every fourth of forty, and told two steps later.
    assert!(
        frozen.len() == 1 && frozen[0]["step"].as_u64().is_some_and(|step| step % 4 == 2),
        "{decisions:#?}"
    );
    assert_eq!(frozen[0]["gradients_stop_below"], 1);
    let isolated =
        ("use = \"sapwood/stack\"", "use = \"sapwood/adaptive-freezing\"\nisolation = \"process\"");
    let apart = Bench::with(&[isolated, FREEZING[1], FREEZING[2]]);
    apart.study().good();
    same_results(&here.path("out"), &apart.path("out"));
}

#[test]
fn an_engine_that_measures_losses_alone_is_named_before_the_first_step() {
    let bench = Bench::with(&FREEZING);
    let ran = bench.sapwood(&["study", "study.toml", "--out", "out", "--jobs", "1", "--engine", "burn"]);
    refused(
        &bench,
        &ran,
        &expect![[r#"
        error: arm `stack`: the strategy `sapwood/adaptive-freezing` wants steps to be measured, but the engine `burn` measures losses alone
          --> study.toml:69
        hint: leave out `--engine`: the default one can
        exit 3
    "#]],
    );
}
