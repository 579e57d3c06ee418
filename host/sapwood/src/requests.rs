//! What strategies ask for, on one line.

use plugin_host::api::Action;
use trainer::folder::records::Decision;

/// Requests as their log has them; silence in a word.
pub(crate) fn in_words(requests: &[Action]) -> String {
    let one = |request: &Action| serde_json::to_string(request).unwrap_or_else(|_| format!("{request:?}"));
    let all: Vec<String> = requests.iter().map(one).collect();
    if all.is_empty() { "nothing".into() } else { all.join(" ") }
}

/// An entry of a decision log.
pub(crate) fn decision_in_words(decision: &Decision) -> String {
    match decision {
        Decision::Planned { plan } => {
            format!("plans {} to {} blocks", plan.initial_depth, plan.deepest)
        }
        Decision::Requested { step, requests, .. } => format!("step {step}: asks for {}", in_words(requests)),
        Decision::Probed { step, losses, .. } => format!("step {step}: tried out {} ways", losses.len()),
        Decision::Refused { step, request, reason } => {
            format!("step {step}: is refused, since {reason}: {request}")
        }
        Decision::Edited(receipt) => format!(
            "step {}: {} to {} blocks, loss {:.6} to {:.6}",
            receipt.step, receipt.depth_before, receipt.depth_after, receipt.loss_before, receipt.loss_after
        ),
        Decision::Rejected { step, reason } => format!("step {step}: takes it back: {reason}"),
        Decision::PhaseStarted { step, label, layers, trainable, .. } => format!(
            "step {step}: phase `{label}` begins, {} blocks, {} tensors train",
            layers.len(),
            trainable.len()
        ),
        Decision::PhaseEnded(audit) => format!(
            "step {}: phase `{}` ends, {} tensors have moved",
            audit.end_step, audit.label, audit.moved
        ),
        Decision::Stopped { step, reason } => format!("step {step}: stops: {reason}"),
    }
}
