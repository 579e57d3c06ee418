//! Whether two runs' checkpoints hold the same tensors, bit for bit.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use trainer::folder::RunFolder;
use trainer::storage::read_json;
use trainer::{TrainError, checkpoint};

/// The newest checkpoints that can be compared: those of the newest name that both runs have.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CheckpointsDiff {
    /// Their name, `STEP[-NAME]`; `None` where the runs share none.
    pub compared: Option<String>,
    /// Weights and AdamW moments, of both together.
    pub tensors: usize,
    /// Those that are not the same.
    pub others: Vec<OtherTensor>,
    /// Whether each tensor has had as many updates.
    pub same_update_counts: bool,
}

/// A tensor that is not the same in two checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtherTensor {
    /// Its name.
    pub name: String,
    /// The largest difference of an element; `None` where a run lacks the tensor, or has another size of it.
    pub largest_difference: Option<f32>,
}

impl CheckpointsDiff {
    /// Whether no difference is seen.
    pub fn is_same(&self) -> bool {
        self.compared.is_none() || (self.others.is_empty() && self.same_update_counts)
    }

    /// The tensor that differs most.
    pub fn most(&self) -> Option<&OtherTensor> {
        let by = |other: &OtherTensor| other.largest_difference.unwrap_or(f32::INFINITY);
        self.others.iter().max_by(|one, other| by(one).total_cmp(&by(other)))
    }
}

/// What of `state.json` is looked at. It is read as it stands: the trainer's own reader ([`checkpoint::load`]) takes all tensors into
/// memory at once, and its [`RunState`](checkpoint::RunState) has neither of these. Every version that is read writes both alike.
#[derive(Deserialize)]
struct Hashes {
    sha256: HashMap<String, String>,
    updates: Value,
}

pub(super) fn newest(runs: &[RunFolder; 2]) -> Result<CheckpointsDiff, TrainError> {
    let [old, new] = [&runs[0], &runs[1]].map(|run| checkpoint::list(&run.checkpoints()));
    let (old, new) = (old?, new?);
    let names: BTreeSet<_> = new.iter().filter_map(|path| path.file_name()).collect();
    let shared = old.iter().filter_map(|path| path.file_name()).find(|name| names.contains(name));
    let Some(name) = shared else { return Ok(CheckpointsDiff::default()) };
    let [old, new] = [&runs[0], &runs[1]].map(|run| run.checkpoints().join(name));
    let (old_hashes, new_hashes) = (hashes(&old)?, hashes(&new)?);
    let mut diff = CheckpointsDiff {
        compared: Some(name.to_string_lossy().into_owned()),
        same_update_counts: old_hashes.updates == new_hashes.updates,
        ..CheckpointsDiff::default()
    };
    // One after the other: a large model's weights and moments are not held at once.
    compare(checkpoint::weights(&old)?, checkpoint::weights(&new)?, &mut diff);
    let moments = "moments.safetensors";
    if old_hashes.sha256.get(moments) == new_hashes.sha256.get(moments) {
        diff.tensors += checkpoint::moments(&old)?.len();
    } else {
        compare(checkpoint::moments(&old)?, checkpoint::moments(&new)?, &mut diff);
    }
    Ok(diff)
}

fn hashes(checkpoint: &Path) -> Result<Hashes, TrainError> {
    let path: PathBuf = checkpoint.join("state.json");
    read_json(&path)
}

fn compare(old: HashMap<String, Vec<f32>>, new: HashMap<String, Vec<f32>>, diff: &mut CheckpointsDiff) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        diff.tensors += 1;
        let largest_difference = match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if old.len() == new.len() => match difference(old, new) {
                None => continue,
                largest => largest,
            },
            _ => None,
        };
        diff.others.push(OtherTensor { name: name.clone(), largest_difference });
    }
}

/// The largest difference of two elements; `None` where all have the same bits.
fn difference(old: &[f32], new: &[f32]) -> Option<f32> {
    let others = old.iter().zip(new).filter(|(old, new)| old.to_bits() != new.to_bits());
    others.map(|(old, new)| (old - new).abs()).max_by(f32::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_that_differ_are_named_with_their_largest_difference() {
        let tensors = |all: &[(&str, &[f32])]| -> HashMap<String, Vec<f32>> {
            all.iter().map(|(name, values)| ((*name).to_owned(), values.to_vec())).collect()
        };
        let old = tensors(&[("a", &[1.0, 2.0]), ("b", &[0.0]), ("c", &[1.0]), ("d", &[3.0])]);
        let new = tensors(&[("a", &[1.5, -2.0]), ("b", &[-0.0]), ("c", &[1.0, 1.0]), ("d", &[3.0])]);
        let mut diff = CheckpointsDiff::default();
        compare(old, new, &mut diff);
        let others: Vec<(&str, Option<f32>)> =
            diff.others.iter().map(|other| (other.name.as_str(), other.largest_difference)).collect();
        assert_eq!((diff.tensors, others), (4, vec![("a", Some(4.0)), ("b", Some(0.0)), ("c", None)]));
        assert_eq!(diff.most().map(|most| most.name.as_str()), Some("c"));
    }
}
