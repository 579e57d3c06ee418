//! What a dry run foresees beside steps and memory: what an arm's staged part costs against as many steps of the baseline, what
//! equal cost leaves after it, and what runs take on disk.

use engine::ModelShape;
use serde::Serialize;
use trainer::{Checkpoints, Costs, Rehearsal, RehearsedPhase};

/// All of a run but its last phase, against as many steps of the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StagedPart {
    /// Its steps.
    pub steps: u64,
    /// By the paper's formula (arXiv 2411.18700 §3).
    pub li2024: StagedCost,
    /// By matrix products with weights alone.
    pub weight_matmul: StagedCost,
    /// By all that runs.
    pub exact: StagedCost,
}

/// A staged part by one ledger.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StagedCost {
    /// What it costs, as a share of what as many steps of the baseline do.
    pub share_of_baseline: f64,
    /// Steps of the baseline that the rest pays for: the paper's `T_cont`.
    pub baseline_steps_left: f64,
}

impl StagedPart {
    /// `None` where a run has one phase alone, or the baseline costs nothing.
    pub fn of(arm: &Rehearsal, baseline: &Rehearsal) -> Option<StagedPart> {
        let (_, staged) = arm.phases.split_last().filter(|(_, staged)| !staged.is_empty())?;
        let steps: u64 = staged.iter().map(|phase| phase.steps).sum();
        let by = |ledger: fn(&Costs) -> f64| {
            let own: f64 = staged.iter().map(|phase| phase.steps as f64 * ledger(&phase.step)).sum();
            let whole = ledger(&baseline.costs) / baseline.steps.0 as f64 * steps as f64;
            let share = own / whole;
            let left = steps as f64 * (1.0 - share);
            share.is_finite().then_some(StagedCost { share_of_baseline: share, baseline_steps_left: left })
        };
        Some(StagedPart {
            steps,
            li2024: by(|costs| costs.flops_li2024.as_f64())?,
            weight_matmul: by(|costs| costs.flops.weight_matmul().as_f64())?,
            exact: by(|costs| costs.flops.total().as_f64())?,
        })
    }
}

/// What a run takes on disk, in bytes; its logs are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RunDisk {
    /// The largest of its checkpoints.
    pub largest_checkpoint: u64,
    /// The most that it holds at once: those that are kept, one that is being written, and those of a name.
    pub most: u64,
}

impl RunDisk {
    /// Of a run of such a model that is saved by these rules.
    pub fn of(arm: &Rehearsal, whole: &ModelShape, rules: &Checkpoints) -> RunDisk {
        let bytes = |phase: &RehearsedPhase| {
            // Three f32 of each element: weights and both moments.
            12 * whole.with_widths(phase.widths).parameters(phase.depth)
        };
        let largest = arm.phases.iter().map(bytes).max().unwrap_or(0);
        let at_phase_ends: u64 = if rules.at_phase_end { arm.phases.iter().map(bytes).sum() } else { 0 };
        let rolling = (rules.keep as u64 + 1 + arm.named_checkpoints) * largest;
        RunDisk { largest_checkpoint: largest, most: rolling + at_phase_ends }
    }
}
