//! What a model had cost before a study began from it, as its importer says: told beside what the arms have cost, with it
//! and without. No comparison includes it, since every arm starts from the same model.

use std::path::Path;

use engine::Flops;
use trainer::TrainError;
use trainer::folder::RunFolder;

use crate::RunCurve;
use crate::evidence::curve::furthest_budget;

/// Sentences for the report, made of the runs that finished; none where the study starts from no imported model.
///
/// # Errors
/// A run's file that cannot be read.
pub(crate) fn told(curves: &[RunCurve], runs: &Path) -> Result<Vec<String>, TrainError> {
    let Some(first) = curves.iter().find(|curve| curve.last().is_some()) else { return Ok(Vec::new()) };
    let folder = RunFolder::at(runs.join(first.name()));
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
    let whole = format!(
        "Every run starts from an imported model that had cost {sunk} FLOPs{tokens}, as its importer says; no comparison \
         includes that."
    );
    let arms = curves.chunk_by(|one, other| one.arm == other.arm);
    Ok(std::iter::once(whole).chain(arms.filter_map(|curves| with_and_without(curves, sunk))).collect())
}

/// The mean of an arm's runs of the budget that goes furthest.
fn with_and_without(curves: &[RunCurve], sunk: Flops) -> Option<String> {
    let furthest = furthest_budget(curves.iter())?;
    let of_budget = curves.iter().filter(|curve| curve.budget == furthest);
    let flops: Vec<u128> = of_budget.filter_map(|curve| Some(curve.last()?.flops.0)).collect();
    let own = Flops(flops.iter().sum::<u128>().checked_div(flops.len() as u128)?);
    Some(format!("{}: {own} FLOPs without that, {} with it.", curves[0].arm, own + sunk))
}
