//! Receipts of a study's runs, summed up arm by arm: what each change of the stack did to the model right away.

use plugin_host::api::{Claim, GrowthReceipt, LayerId, Widths};
use serde::Serialize;
use trainer::TrainError;
use trainer::folder::RunFolder;
use trainer::folder::records::Decision;
use trainer::storage::read_json_lines;

/// A change of the stack, as the mean of what the receipts of an arm's finished runs say of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeanEdit {
    /// Runs that have had so many changes.
    pub runs: usize,
    /// The steps before which it came.
    pub step: f64,
    /// Blocks before.
    pub depth_before: f64,
    /// Blocks after.
    pub depth_after: f64,
    /// How wide the model was before and is after, where that has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<[Widths; 2]>,
    /// Mean loss on the probe batch right before, in nats per token.
    pub loss_before: f64,
    /// The same right after.
    pub loss_after: f64,
    /// Largest change of a logit; `None` where a run was made by a host that did not look.
    pub largest_logit_change: Option<f64>,
    /// The largest RMS of what a block leaves in the residual stream, after over before; `None` where it was not measured.
    pub activation_growth: Option<f64>,
    /// Tensors of new blocks that the first step leaves as they are, for want of a gradient.
    pub without_gradient: f64,
    /// What the initializers claimed, the weakest of all; `None` where nothing was inserted.
    pub claim: Option<Claim>,
}

/// Those of a run's changes of the stack that were kept, in order.
///
/// # Errors
/// A log that cannot be read.
pub(crate) fn receipts(folder: &RunFolder) -> Result<Vec<GrowthReceipt>, TrainError> {
    let mut receipts = Vec::new();
    for decision in read_json_lines(&folder.decisions_file())? {
        match decision {
            Decision::Edited(receipt) => receipts.push(receipt),
            Decision::Rejected { .. } => drop(receipts.pop()),
            _ => {}
        }
    }
    Ok(receipts)
}

/// The first changes of all runs together, then the second ones of those that had two, and so on.
pub(crate) fn means(runs: &[Vec<GrowthReceipt>]) -> Vec<MeanEdit> {
    let most = runs.iter().map(Vec::len).max().unwrap_or(0);
    let nth = |number: usize| runs.iter().filter_map(|run| run.get(number)).collect::<Vec<_>>();
    (0..most).map(|number| mean(&nth(number))).collect()
}

fn mean(receipts: &[&GrowthReceipt]) -> MeanEdit {
    let of = |number: &dyn Fn(&GrowthReceipt) -> f64| {
        receipts.iter().map(|receipt| number(receipt)).sum::<f64>() / receipts.len() as f64
    };
    let looked = receipts.iter().all(|receipt| receipt.largest_logit_change.is_some());
    MeanEdit {
        runs: receipts.len(),
        step: of(&|receipt| receipt.step as f64),
        depth_before: of(&|receipt| receipt.depth_before as f64),
        depth_after: of(&|receipt| receipt.depth_after as f64),
        // It is planned, and the same for all seeds.
        widths: receipts.first().and_then(|receipt| receipt.widths),
        loss_before: of(&|receipt| receipt.loss_before),
        loss_after: of(&|receipt| receipt.loss_after),
        largest_logit_change: looked.then(|| of(&|receipt| receipt.largest_logit_change.unwrap_or_default())),
        activation_growth: activation_growth(receipts),
        without_gradient: of(&|receipt| receipt.without_gradient.len() as f64),
        claim: receipts.iter().filter_map(|receipt| receipt.claim).min(),
    }
}

/// The largest of each, after over before, averaged.
fn activation_growth(receipts: &[&GrowthReceipt]) -> Option<f64> {
    let largest = |rms: &[(LayerId, f64)]| {
        rms.iter()
            .map(|(_, rms)| *rms)
            .fold(None, |most: Option<f64>, rms| Some(most.map_or(rms, |most| most.max(rms))))
    };
    let growth = |receipt: &&GrowthReceipt| {
        let before = largest(&receipt.activation_rms_before).filter(|before| *before > 0.0)?;
        Some(largest(&receipt.activation_rms_after)? / before)
    };
    let all = receipts.iter().map(growth).collect::<Option<Vec<f64>>>()?;
    Some(all.iter().sum::<f64>() / all.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(step: u64, loss_after: f64, claim: Claim) -> GrowthReceipt {
        GrowthReceipt {
            step,
            depth_before: 1,
            depth_after: 2,
            new_layers: vec![LayerId(1)],
            removed_layers: vec![],
            replaced_layers: vec![],
            loss_before: 2.0,
            loss_after,
            largest_token_loss_change: 1.0,
            largest_logit_change: Some(0.5),
            claim: Some(claim),
            widths: None,
            activation_rms_before: vec![(LayerId(0), 0.5), (LayerId(1), 2.0)],
            activation_rms_after: vec![(LayerId(0), 0.5), (LayerId(2), loss_after), (LayerId(1), 1.0)],
            without_gradient: vec!["layer 2: ln_1.bias".into()],
            moments: vec![],
            others_bit_identical: true,
        }
    }

    #[test]
    fn changes_are_compared_in_the_order_in_which_they_came() {
        let runs = [
            vec![receipt(10, 3.0, Claim::Exact), receipt(30, 2.0, Claim::None)],
            vec![receipt(20, 4.0, Claim::Approximate)],
        ];
        let means = means(&runs);
        let first = (means[0].runs, means[0].step, means[0].loss_after, means[0].claim);
        assert_eq!(first, (2, 15.0, 3.5, Some(Claim::Approximate)), "the weakest claim of all");
        assert_eq!((means.len(), means[1].runs, means[1].step), (2, 1, 30.0));
        assert_eq!(means[0].largest_logit_change, Some(0.5));
        assert_eq!((means[0].activation_growth, means[0].without_gradient), (Some(1.75), 1.0));
        let mut older = runs.clone();
        older[1][0].largest_logit_change = None;
        older[1][0].activation_rms_before = Vec::new();
        let older = &super::means(&older)[0];
        assert_eq!((older.largest_logit_change, older.activation_growth), (None, None));
    }

    #[test]
    fn a_study_that_never_grows_has_none() {
        assert_eq!(means(&[vec![], vec![]]), []);
    }
}
