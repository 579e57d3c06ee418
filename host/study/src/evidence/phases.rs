//! What a run was doing when: its phases, as its decisions tell them.

use std::collections::BTreeSet;

use engine::Step;
use trainer::TrainError;
use trainer::folder::RunFolder;
use trainer::folder::records::Decision;
use trainer::storage::read_json_lines;

/// A span in which what trains stayed the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PhaseSpan {
    /// Its label.
    pub(crate) label: String,
    /// Its first step.
    pub(crate) first_step: u64,
    /// The step after its last.
    pub(crate) end_step: u64,
    /// Blocks of the stack.
    pub(crate) depth: usize,
    /// Blocks of which a tensor trains.
    pub(crate) trainable_blocks: usize,
}

/// Of a run that ended before that step.
///
/// # Errors
/// A log that cannot be read.
pub(crate) fn of(folder: &RunFolder, end: Step) -> Result<Vec<PhaseSpan>, TrainError> {
    let mut spans: Vec<PhaseSpan> = Vec::new();
    for decision in read_json_lines(&folder.decisions_file())? {
        let Decision::PhaseStarted { step, label, layers, trainable, .. } = decision else { continue };
        if let Some(last) = spans.last_mut() {
            last.end_step = step.0;
        }
        // `layer 3: mlp.c_fc.weight`; what all blocks share has no such beginning.
        let blocks: BTreeSet<&str> =
            trainable.iter().filter_map(|tensor| Some(tensor.split_once(": ")?.0)).collect();
        let (depth, trainable_blocks) = (layers.len(), blocks.len());
        spans.push(PhaseSpan { label, first_step: step.0, end_step: end.0, depth, trainable_blocks });
    }
    spans.retain(|span| span.end_step > span.first_step);
    Ok(spans)
}
