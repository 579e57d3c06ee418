//! What each growth did to the model.

use plugin_host::api::Claim;

use super::{Content, Section};
use crate::evidence::edits::MeanEdit;
use crate::verdict::{Judgement, nats};

pub(super) fn growth(judgement: &Judgement) -> Section {
    let header = vec![
        "arm",
        "runs",
        "step",
        "blocks, or width",
        "loss before",
        "after",
        "largest logit change",
        "largest activation",
        "no gradient",
        "claim",
    ];
    let rows =
        judgement.beside.arms.iter().flat_map(|told| told.edits.iter().map(|edit| edit_row(&told.arm, edit)));
    let note = "Means of what the host saw of each change of the stack, right before and right after it, on the probe batch: \
         the largest activation (RMS of what a block leaves in the residual stream) as a factor, and how many tensors \
         of new blocks the first step leaves as they are.";
    Section::of("Growth", note, Content::Table { header, rows: rows.collect() })
}

fn edit_row(arm: &str, edit: &MeanEdit) -> Vec<String> {
    let claim = match edit.claim {
        Some(Claim::Exact) => "exact",
        Some(Claim::Approximate) => "approximate",
        Some(Claim::None) => "none",
        None => "-",
    };
    vec![
        arm.into(),
        edit.runs.to_string(),
        format!("{:.0}", edit.step),
        match edit.widths {
            Some([before, after]) => before.change_to(after),
            None => format!("{:.0} -> {:.0}", edit.depth_before, edit.depth_after),
        },
        nats(edit.loss_before),
        nats(edit.loss_after),
        edit.largest_logit_change.map_or("-".into(), |change| format!("{change:.3e}")),
        edit.activation_growth.map_or("-".into(), |growth| format!("x {growth:.3}")),
        format!("{:.0}", edit.without_gradient),
        claim.into(),
    ]
}
