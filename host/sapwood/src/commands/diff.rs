//! `sapwood diff`: two runs side by side.

use std::process::ExitCode;

use serde_json::Value;
use study::{Changed, CheckpointsDiff, DecisionsDiff, LogDiff, RunDiff};
use trainer::RunSummary;

use crate::Outcome;
use crate::args::DiffArgs;
use crate::failure::NOT_THE_SAME;
use crate::output::{json_of, result_line, shortened};
use crate::requests::decision_in_words;

/// Longest text of a value or decision on a line, in characters.
const MOST_CHARACTERS: usize = 100;
/// Most names of tensors that are listed.
const MOST_NAMES: usize = 8;

pub(crate) fn diff(args: &DiffArgs) -> Outcome {
    let diff = study::diff(&args.old, &args.new)?;
    if args.json {
        result_line!("{}", json_of(&diff)?);
    } else {
        print(&diff);
    }
    Ok(if diff.same_results { ExitCode::SUCCESS } else { ExitCode::from(NOT_THE_SAME) })
}

fn print(diff: &RunDiff) {
    let [old, new] = &diff.runs;
    result_line!("{old} -> {new}: {}", if diff.same_results { "the same results" } else { "other results" });
    print_changes("configuration", &diff.config);
    print_changes("bound to", &diff.bound_to);
    print_changes("made by", &diff.made_by);
    print_log("steps", &diff.steps);
    print_log("evaluations", &diff.evaluations);
    diff.suites.iter().for_each(|log| print_log("suites", log));
    print_decisions(&diff.decisions);
    print_ends(&diff.ends);
    print_checkpoints(&diff.checkpoints);
}

fn print_changes(what: &str, changes: &[Changed]) {
    if changes.is_empty() {
        result_line!("{what}: the same");
        return;
    }
    result_line!("{what}");
    let value = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".into(), told);
    for Changed { key, old, new } in changes {
        result_line!("  {key}: {} -> {}", value(old), value(new));
    }
}

fn told(value: &Value) -> String {
    shortened(&value.to_string(), MOST_CHARACTERS)
}

fn print_log(what: &str, log: &LogDiff) {
    let [old, new] = log.counts;
    let counts = if old == new { old.to_string() } else { format!("{old} -> {new}") };
    if log.first_differences.is_empty() {
        let shared = if old == new { "the same" } else { "the same as far as both go" };
        result_line!("{what}: {counts}, {shared}");
        return;
    }
    result_line!("{what}: {counts}; they differ for the first time in");
    for first in &log.first_differences {
        result_line!("  {} at step {}: {} -> {}", first.what, first.step, told(&first.old), told(&first.new));
    }
}

fn print_decisions(decisions: &DecisionsDiff) {
    let DecisionsDiff { counts: [old, new], same, then } = decisions;
    if decisions.is_same() {
        result_line!("decisions: {old}, the same");
        return;
    }
    result_line!("decisions: {old} -> {new}, the same up to entry {same}; from there");
    for (mark, log) in ["-", "+"].into_iter().zip(then) {
        if log.is_empty() {
            result_line!("  {mark} nothing more");
        }
        for decision in log {
            result_line!("  {mark} {}", shortened(&decision_in_words(decision), MOST_CHARACTERS));
        }
    }
}

fn print_ends(ends: &[Option<RunSummary>; 2]) {
    for (mark, end) in ["-", "+"].into_iter().zip(ends) {
        let Some(end) = end else {
            result_line!("end {mark} it is not finished");
            continue;
        };
        let (costs, wall) = (&end.costs, &end.costs.wall);
        result_line!(
            "end {mark} loss {:.6} after {} steps, {} tokens, {:.6e} FLOPs; {:.1} s of training, {:.1} s in all{}",
            end.loss_nats_per_token,
            end.steps,
            costs.tokens,
            costs.flops.total().as_f64(),
            wall.training_seconds,
            wall.total_seconds(),
            end.stopped.as_ref().map_or_else(String::new, |reason| format!("; stopped: {reason}")),
        );
    }
    if let [Some(old), Some(new)] = ends {
        let flops = |end: &RunSummary| end.costs.flops.total().as_f64();
        result_line!(
            "end: {:+.6} nats per token at {:.4} of the FLOPs",
            new.loss_nats_per_token - old.loss_nats_per_token,
            flops(new) / flops(old).max(1.0)
        );
    }
}

fn print_checkpoints(checkpoints: &CheckpointsDiff) {
    let Some(name) = &checkpoints.compared else {
        result_line!("checkpoints: there is none of a step that both have saved");
        return;
    };
    let (tensors, others) = (checkpoints.tensors, checkpoints.others.len());
    if checkpoints.is_same() {
        result_line!("checkpoints {name}: all {tensors} tensors are bit-identical");
        return;
    }
    let updates = if checkpoints.same_update_counts { "" } else { ", and AdamW's step counters" };
    result_line!("checkpoints {name}: {others} of {tensors} tensors differ{updates}");
    let difference = |largest: Option<f32>| match largest {
        Some(largest) => format!("by up to {largest:e}"),
        None => "in being there, or in size".into(),
    };
    if let Some(most) = checkpoints.most() {
        result_line!("  most: {} {}", most.name, difference(most.largest_difference));
    }
    for other in checkpoints.others.iter().take(MOST_NAMES) {
        result_line!("  {} {}", other.name, difference(other.largest_difference));
    }
    if others > MOST_NAMES {
        result_line!("  and {} more; --json names all", others - MOST_NAMES);
    }
}
