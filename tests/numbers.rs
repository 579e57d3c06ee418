//! Losses that are no number: which run ends, what is told of it, and what `on_non_finite` lets pass. Single steps in the middle of
//! a run are the trainer's tests' matter: no file makes a real model's loss leave the numbers and come back.

use crate::faults::saw_about;
use crate::support::{Bench, json, json_lines};

/// Weights that grow a hundredfold in each step, in the arm that is named `stack`.
fn exploding(more: &str) -> Bench {
    let bench = Bench::with(&[
        ("seeds = [1, 2]", "seeds = [1]"),
        ("compare = [\"tokens\", \"compute\"]", "compare = [\"tokens\"]"),
        ("weight_decay = 0.1", "weight_decay = 10.0"),
        ("micro_batch_sequences = 4", &format!("micro_batch_sequences = 4\n{more}")),
        ("rate = 1e-2", "rate = 1e-4"),
        ("every_steps = 10\nsequences = 16", "every_steps = 100\nsequences = 16"),
        ("[checkpoints]\nevery_steps = 10", "[checkpoints]\nevery_steps = 2"),
    ]);
    bench.add_to_study("\n[arms.stack.schedule]\nkind = \"constant\"\nrate = 10.0\nwarmup_steps = 4\n");
    bench
}

const RUN: &str = "out/runs/stack/tokens/seed-1";

#[test]
fn a_loss_that_is_no_number_ends_its_run_alone() {
    let bench = exploding("");
    let ran = bench.study();
    assert_eq!(ran.code, Some(7), "{}", ran.said());
    saw_about("a loss that is no number, which stops the run", &ran, "");
    let run = bench.path(RUN);
    assert_eq!(json(&run.join("FAILED"))["diverged"], true);
    assert!(bench.path("out/runs/whole/tokens/seed-1/DONE").exists(), "the other run goes on");
    let kept = bench.sapwood(&["checkpoint", "verify", RUN]).good();
    assert!(kept.lines().filter(|line| line.contains(" 000000")).count() == 2, "{kept}");
    assert!(
        json_lines(&run.join("metrics.jsonl")).iter().all(|step| step["loss_nats_per_token"].is_number())
    );
}

#[test]
fn more_than_may_be_skipped_ends_the_run_and_the_log_has_the_steps() {
    let bench = exploding("on_non_finite = { skip = { at_most = 2 } }");
    let ran = bench.study();
    assert_eq!(ran.code, Some(7), "{}", ran.said());
    assert!(ran.stderr.contains(", after 2 steps were skipped for that\n"), "{}", ran.stderr);
    saw_about("losses that are no number, more than may be skipped", &ran, "");
    let steps = json_lines(&bench.path(RUN).join("metrics.jsonl"));
    let (others, skipped) = steps.split_at(steps.len() - 2);
    let has_no_number = |step: &serde_json::Value| {
        step["skipped"].is_string()
            && (step["loss_nats_per_token"].is_null() || step["gradient_norm"].is_null())
    };
    assert!(skipped.iter().all(has_no_number), "{skipped:?}");
    assert!(others.iter().all(|step| step.get("skipped").is_none()));
    // The same command tries again from the newest checkpoint, and comes to the same.
    let again = bench.study();
    assert_eq!(again.code, Some(7), "{}", again.said());
    assert!(json_lines(&bench.path(RUN).join("metrics.jsonl")) == steps);
}

#[test]
fn a_policy_that_nobody_knows_is_refused_with_those_there_are() {
    let refused = |policy: &str, words: &str| {
        let bench = Bench::with(&[(
            "micro_batch_sequences = 4",
            &format!("micro_batch_sequences = 4\non_non_finite = {policy}"),
        )]);
        let ran = bench.sapwood(&["plan", "study.toml"]);
        assert_eq!(ran.code, Some(3), "{}", ran.said());
        assert!(ran.stderr.contains(words) && ran.stderr.contains("study.toml:"), "{}", ran.said());
    };
    refused("\"hope\"", "`hope`");
    refused("{ skip = { at_most = 0 } }", "`training.on_non_finite.skip.at_most` is 0, which skips nothing");
    refused("{ skip = {} }", "at_most");
}
