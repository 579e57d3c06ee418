//! What a model had cost before a study began from it, as its importer says: told beside what the arms have cost, with it
//! and without. No comparison includes it, since every arm starts from the same model.

use std::path::Path;

use engine::Flops;
use trainer::TrainError;
use trainer::folder::RunFolder;

use crate::verdict::{ArmRuns, Judgement};

/// Sentences for the report; none where the study starts from no imported model.
///
/// # Errors
/// A run's file that cannot be read.
pub(crate) fn told(judgement: &Judgement, runs: &Path) -> Result<Vec<String>, TrainError> {
    let finished = judgement.runs.iter().find_map(|arm| Some((&arm.arm, arm.final_points.first()?)));
    let Some((arm, point)) = finished else { return Ok(Vec::new()) };
    let folder = RunFolder::at(runs.join(format!("{arm}/{}/seed-{}", point.budget, point.seed)));
    let Some(imported) = folder.bound_run()?.initial_model else { return Ok(Vec::new()) };
    let tokens = imported.sunk_cost.tokens.map(|tokens| format!(" and {tokens} tokens")).unwrap_or_default();
    let Some(sunk) = imported.sunk_cost.flops else {
        return Ok(vec![format!(
            "Every run starts from an imported model, whose own FLOPs{} nobody has told; no cost here includes them.",
            if tokens.is_empty() {
                String::new()
            } else {
                format!(" (after{})", tokens.trim_start_matches(" and"))
            }
        )]);
    };
    let first = format!(
        "Every run starts from an imported model that had cost {sunk} FLOPs{tokens}, as its importer says; no comparison \
         includes that."
    );
    Ok(std::iter::once(first)
        .chain(judgement.runs.iter().filter_map(|arm| with_and_without(arm, sunk)))
        .collect())
}

/// The mean of an arm's runs of the budget that goes furthest.
fn with_and_without(arm: &ArmRuns, sunk: Flops) -> Option<String> {
    let furthest = arm.final_points.iter().max_by_key(|point| point.flops)?;
    let of_budget = arm.final_points.iter().filter(|point| point.budget == furthest.budget);
    let flops: Vec<u128> = of_budget.map(|point| point.flops.0).collect();
    let own = Flops(flops.iter().sum::<u128>() / flops.len() as u128);
    Some(format!("{}: {own} FLOPs without that, {} with it.", arm.arm, own + sunk))
}
