//! What freezes beside old blocks, told by the decision logs of whole runs: a tied head is the token embedding, so that a
//! method that trains one and freezes the other has to give something up.

use serde_json::Value;

use crate::support::{Bench, json_lines};

/// Runs one arm of four layers and 24 steps; answers its decisions.
fn decisions(strategy: &str, initializer: &str) -> Vec<Value> {
    let bench = Bench::with(&[
        ("seeds = [1, 2]", "seeds = [1]"),
        ("compare = [\"tokens\", \"compute\"]", "compare = [\"tokens\"]"),
        ("layers = 2", "layers = 4"),
        ("steps = 40", "steps = 24"),
    ]);
    bench.add_to_study(&format!("\n[arms.freezing]\nstrategy = {{ {strategy} }}\n{initializer}\n"));
    bench.study().good();
    json_lines(&bench.path("out/runs/freezing/tokens/seed-1/decisions.jsonl"))
}

/// Shared tensors that train in that phase, and the block below whose input no gradient goes.
fn phase(decisions: &[Value], label: &str) -> (Vec<String>, Option<u64>) {
    let is_it = |decision: &&Value| decision["decision"] == "phase-started" && decision["label"] == label;
    let phase = decisions.iter().find(is_it).unwrap_or_else(|| panic!("no phase `{label}`: {decisions:?}"));
    let trainable = phase["trainable"].as_array().expect("a list").iter();
    let names = trainable.map(|name| name.as_str().expect("a name").to_owned());
    let shared = names.filter(|name| !name.starts_with("layer "));
    (shared.collect(), phase["gradients_stop_below"].as_u64())
}

/// What was frozen in any phase is as it was, moments and counters included.
fn check_audits(decisions: &[Value]) {
    let ended: Vec<&Value> =
        decisions.iter().filter(|decision| decision["decision"] == "phase-ended").collect();
    assert!(ended.iter().any(|phase| phase["frozen"].as_u64() > Some(0)), "nothing was frozen: {ended:?}");
    assert!(ended.iter().all(|phase| phase["frozen_bit_identical"] == true), "{ended:?}");
}

fn check_alone(
    strategy: &str,
    initializer: &str,
    label: &str,
    shared: &[&str],
    gradients_stop_below: Option<u64>,
) {
    let decisions = decisions(strategy, initializer);
    check_audits(&decisions);
    let shared = shared.iter().map(ToString::to_string).collect();
    assert_eq!(phase(&decisions, label), (shared, gradients_stop_below), "{strategy}, {label}");
}

/// The same of a strategy that grows.
fn check(strategy: &str, label: &str, shared: &[&str], gradients_stop_below: Option<u64>) {
    let initializer = r#"initializers.new_blocks = { use = "sapwood/zero-out" }"#;
    check_alone(strategy, initializer, label, shared, gradients_stop_below);
}

const ALL: &[&str] = &["ln_f.bias", "ln_f.weight", "wpe.weight", "wte.weight"];
const NORM: &[&str] = &["ln_f.bias", "ln_f.weight"];

#[test]
fn mslt_with_a_head_that_stands_still_stops_below_the_new_blocks() {
    let strategy = r#"use = "sapwood/mslt", config = { stages = 2, head = "frozen", optimizer = "copy" }"#;
    check(strategy, "stage2", NORM, Some(2));
    check(strategy, "stage1", ALL, None);
    check(strategy, "joint", ALL, None);
}

#[test]
fn mslt_with_a_head_that_trains_goes_down_to_the_embedding_that_it_is() {
    let strategy = r#"use = "sapwood/mslt", config = { stages = 2, head = "trains", optimizer = "copy" }"#;
    check(strategy, "stage2", &["ln_f.bias", "ln_f.weight", "wte.weight"], None);
}

/// With one of two groups of one old block each: the lowest new block stands above the lowest old one.
#[test]
fn llama_pro_trains_neither_embeddings_nor_norm_nor_head() {
    let strategy =
        r#"use = "sapwood/gradual", config = { stages = 2, place = "each", freeze = "old_blocks" }"#;
    check(strategy, "stage2", &[], Some(2));
}

/// The paper's code and what its cost formula assumes.
#[test]
fn the_papers_head_trains_through_frozen_blocks_unless_all_below_freezes() {
    let strategy = |freeze: &str| {
        format!(r#"use = "sapwood/paper", config = {{ stages = 2, freeze = "{freeze}", staged_steps = 20 }}"#)
    };
    check(&strategy("blocks_only"), "stage2-phase1", ALL, None);
    check(&strategy("all_below"), "stage2-phase1", NORM, Some(2));
}

#[test]
fn freezing_alone_freezes_the_embeddings_where_it_says_so() {
    let front = |embeddings: &str| {
        format!(r#"use = "sapwood/front-freezing", config = {{ embeddings = "{embeddings}" }}"#)
    };
    check_alone(&front("freeze"), "", "frozen2", NORM, Some(2));
    check_alone(&front("train"), "", "frozen2", ALL, None);
    let adaptive = |shared: &str| {
        format!(
            r#"use = "sapwood/adaptive-freezing", config = {{ shared = "{shared}", interval = 0.1, alpha = 0.5 }}"#
        )
    };
    check_alone(&adaptive("freeze"), "", "3 frozen", &[], Some(3));
    check_alone(&adaptive("train"), "", "3 frozen", ALL, None);
    let turns = |shared: &str| {
        format!(
            r#"use = "sapwood/turns", config = {{ blocks = 1, every_steps = 6, order = "ascending", optimizer = "keep", shared = "{shared}" }}"#
        )
    };
    check_alone(&turns("freeze"), "", "blocks 1", &[], Some(1));
    check_alone(&turns("train"), "", "blocks 1", ALL, None);
}
