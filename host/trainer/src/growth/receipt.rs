//! The receipt of a growth: what it did to the model right away, and whether that is what was claimed.

use engine::{LayerId, Model, Part, Snapshot, Step, TensorId};
use plugin_host::PluginError;
use plugin_host::api::{self, Claim, GrowthReceipt};

use super::Grown;
use crate::TrainError;
use crate::course::told_widths;
use crate::growth::looking::Seen;

/// What is seen of the model, before and after.
pub(crate) struct Looks {
    /// Right before the requests.
    pub before: Seen,
    /// Right after.
    pub after: Seen,
    /// Tensors of blocks that are new or made anew, and train, but have no gradient.
    pub without_gradient: Vec<TensorId>,
}

/// Makes the receipt, and checks an exact claim against what is seen.
///
/// # Errors
/// A claim that this refutes, or a loss that is not a number.
pub(crate) fn receipt(
    step: Step,
    grown: &Grown,
    before: &Snapshot,
    model: &dyn Model,
    looks: &Looks,
) -> Result<GrowthReceipt, TrainError> {
    let Looks { before: seen_before, after: seen_after, without_gradient } = looks;
    let largest = largest_change(&seen_before.losses, &seen_after.losses);
    let largest_logit_change = largest_change(&seen_before.logits, &seen_after.logits);
    let (loss_before, loss_after) = (mean(&seen_before.losses), mean(&seen_after.losses));
    if !loss_after.is_finite() {
        return Err(TrainError::NotFinite {
            what: "loss after the edit",
            step,
            value: loss_after,
            skipped: 0,
        });
    }
    if let (Some((Claim::Exact, id)), Some(moved)) = (&grown.claim, moved(looks)) {
        let message = format!("it claims to leave the model's function as it is, but {moved}");
        let (kind, call) = (api::Kind::Initializer, "init".to_owned());
        return Err(PluginError::Fault { kind, id: id.clone(), call, message }.into());
    }
    let layers = |layers: &[LayerId]| layers.iter().map(|layer| api::LayerId(layer.0)).collect();
    Ok(GrowthReceipt {
        step: step.0,
        depth_before: before.layers.len(),
        depth_after: model.layers().len(),
        new_layers: layers(&grown.new_layers),
        removed_layers: layers(&grown.removed_layers),
        replaced_layers: layers(&grown.replaced_layers),
        loss_before,
        loss_after,
        largest_token_loss_change: largest,
        largest_logit_change: Some(largest_logit_change),
        claim: grown.claim.as_ref().map(|(claim, _)| *claim),
        widths: (before.widths != model.widths()).then(|| [before.widths, model.widths()].map(told_widths)),
        activation_rms_before: by_layer(&seen_before.activation_rms),
        activation_rms_after: by_layer(&seen_after.activation_rms),
        without_gradient: without_gradient.iter().map(TensorId::to_string).collect(),
        moments: grown.moments.clone(),
        others_bit_identical: others_bit_identical(before, model, &grown.replaced_layers)?,
    })
}

/// What has moved by more than the rounding of f32 losses of a few nats; what changes the function moves them by far more.
fn moved(looks: &Looks) -> Option<String> {
    let Looks { before, after, .. } = looks;
    let loss = largest_change(&before.losses, &after.losses);
    if loss > 1e-5 * (1.0 + mean(&before.losses).abs()) {
        return Some(format!("a token's loss moved by {loss:.3e} nats"));
    }
    let logit = largest_change(&before.logits, &after.logits);
    let largest_logit = before.logits.iter().fold(0.0, |most: f64, logit| most.max(f64::from(logit.abs())));
    (logit > 1e-5 * (1.0 + largest_logit)).then(|| format!("a logit moved by {logit:.3e}"))
}

fn by_layer(numbers: &[(LayerId, f64)]) -> Vec<(api::LayerId, f64)> {
    numbers.iter().map(|&(layer, number)| (api::LayerId(layer.0), number)).collect()
}

fn largest_change(before: &[f32], after: &[f32]) -> f64 {
    before.iter().zip(after).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

/// Mean of losses, summed in f64.
pub(crate) fn mean(losses: &[f32]) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64
}

fn others_bit_identical(
    before: &Snapshot,
    model: &dyn Model,
    replaced: &[LayerId],
) -> Result<bool, TrainError> {
    let layers = model.layers();
    for (tensor, state) in &before.tensors {
        if tensor.layer.is_some_and(|layer| !layers.contains(&layer) || replaced.contains(&layer)) {
            continue;
        }
        let now = model.read(*tensor, Part::Weights)?;
        if now.len() != state.weights.len() {
            continue; // It was resized.
        }
        let same = now.iter().zip(&state.weights).all(|(a, b)| a.to_bits() == b.to_bits());
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use engine::{ScriptedEngine, Weights};

    use super::*;

    /// A model that answers the same but for one logit: losses alone would not show it.
    #[test]
    fn a_logit_that_moved_refutes_an_exact_claim_though_no_loss_did() {
        let shape = engine::contract::tiny_shape();
        let engine = ScriptedEngine::new(&shape, Weights::Kept);
        let before = Snapshot::take(&engine, &shape).expect("a whole model");
        let grown = Grown { claim: Some((Claim::Exact, "test/exact".into())), ..Grown::default() };
        let seen = |logit| Seen { losses: vec![2.0, 3.0], logits: vec![1.0, logit], ..Seen::default() };
        let judged = |after| {
            let looks = Looks { before: seen(0.5), after: seen(after), without_gradient: Vec::new() };
            receipt(Step(4), &grown, &before, &engine, &looks).map_err(|error| error.to_string())
        };
        assert_eq!(judged(0.5).expect("nothing moved").largest_logit_change, Some(0.0));
        assert_eq!(judged(0.5 + 1e-6).map(|receipt| receipt.claim), Ok(Some(Claim::Exact)), "rounding");
        let refuted = judged(0.625).expect_err("a lie");
        assert!(refuted.ends_with("but a logit moved by 1.250e-1"), "{refuted}");
    }
}
