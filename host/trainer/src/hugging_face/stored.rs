//! A model from whatever folder holds one: a run's newest checkpoint, a named checkpoint, a folder of Hugging Face's.
//! Gates that are part of a model are multiplied into the weights of their branch, so that what is read is plain GPT-2.

use std::fs;
use std::path::{Path, PathBuf};

use engine::{Branch, ModelShape};

use super::import::Imported;
use super::tensors::{Tensors, names, read};
use super::{CONFIG_FILE, INDEX_FILE, MODEL_FILE, config, shards};
use crate::checkpoint::{self, RunState};
use crate::course::Course;
use crate::folder::RunFolder;
use crate::{RunFile, TrainError};

/// A model as it stands in a folder.
pub struct StoredModel {
    /// As deep and wide as it is there.
    pub shape: ModelShape,
    /// By names such as `transformer.h.3.mlp.c_fc.weight`, as long as the shape says.
    pub tensors: Tensors,
    /// The token that a text begins with, and the one that ends it, where it has them.
    pub special_tokens: [Option<u32>; 2],
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a model comes from.
pub enum Origin {
    /// A run.
    Run {
        /// Its folder.
        folder: RunFolder,
        /// The checkpoint in it.
        checkpoint: PathBuf,
        /// What it is made of.
        file: Box<RunFile>,
        /// How far it had come.
        state: Box<RunState>,
    },
    /// Somebody else, by a folder of Hugging Face's.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What `sapwood import` has noted; `None` where the folder did not come that way.
        imported: Option<Box<Imported>>,
    },
}

impl StoredModel {
    /// Reads it: `path` is a run's folder, a checkpoint's, or one that `import`, `export` or transformers wrote.
    ///
    /// # Errors
    /// A folder with no model, or one that cannot be read.
    pub fn open(path: &Path) -> Result<StoredModel, TrainError> {
        if path.join("state.json").is_file() {
            return of_checkpoint(path);
        }
        let run = RunFolder::at(path);
        if run.run_file().is_file() {
            let newest = checkpoint::list(&run.checkpoints())?.into_iter().next();
            return of_checkpoint(&newest.ok_or_else(|| no_model(path, "has no checkpoint yet"))?);
        }
        let has = |name| path.join(name).is_file();
        if has(CONFIG_FILE) || has(MODEL_FILE) || has(INDEX_FILE) {
            return of_folder(path);
        }
        let what = if path.is_dir() { "holds no model" } else { "is no folder" };
        Err(no_model(path, what))
    }
}

fn no_model(path: &Path, reason: &str) -> TrainError {
    let hint = "name a run's folder (STUDY/runs/ARM/BUDGET/seed-N), one of its checkpoints, or a folder with \
                config.json and model.safetensors";
    TrainError::Unfit { path: path.to_path_buf(), reason: reason.into(), hint: hint.into() }
}

fn of_checkpoint(path: &Path) -> Result<StoredModel, TrainError> {
    let whole = fs::canonicalize(path).map_err(crate::storage::failing("read", path))?;
    let folder = whole.parent().and_then(Path::parent);
    let folder = RunFolder::at(folder.ok_or_else(|| no_model(path, "lies in no run's folder"))?);
    let file = folder.bound_run()?;
    let (state, mut tensors) = checkpoint::load_model(path, &file.config.model)?;
    let shape = ModelShape { layers: state.course.depth(), ..state.course.shape(&file.config.model) };
    fold_gates(&shape, &mut tensors, &state.course);
    let origin =
        Origin::Run { folder, checkpoint: path.to_path_buf(), file: Box::new(file), state: Box::new(state) };
    Ok(StoredModel { shape, tensors, special_tokens: [None, None], origin })
}

/// Multiplies the gates that a course has into the tensors of its model.
pub(crate) fn fold_gates(shape: &ModelShape, tensors: &mut Tensors, course: &Course) {
    for (position, layer) in course.layers().into_iter().enumerate() {
        if let Some(gates) = course.gates.get(&layer) {
            fold(shape, tensors, position, *gates);
        }
    }
}

/// A gate multiplies all that its branch adds to the stream, which is linear in the branch's last map.
fn fold(shape: &ModelShape, tensors: &mut Tensors, position: usize, [attention, mlp]: [f32; 2]) {
    use engine::TensorRole::{BranchOutputBias, BranchOutputWeight};
    for spec in shape.block_tensors() {
        let gate = if Branch::of(spec.class) == Branch::Attention { attention } else { mlp };
        let is_last = matches!(spec.role, BranchOutputWeight | BranchOutputBias);
        if !is_last || gate == 1.0 {
            continue;
        }
        if let Some(values) = tensors.get_mut(&format!("transformer.h.{position}.{}", spec.class)) {
            values.iter_mut().for_each(|value| *value *= gate);
        }
    }
}

fn of_folder(path: &Path) -> Result<StoredModel, TrainError> {
    let config = config::read(path)?;
    let tensors = read(&shards::find(path)?, &config.shape)?;
    let imported = Imported::beside(&path.join(MODEL_FILE))?;
    let origin = Origin::Folder { folder: path.to_path_buf(), imported: imported.map(Box::new) };
    Ok(StoredModel { shape: config.shape, tensors, special_tokens: config.special_tokens, origin })
}

/// The tensors in the order of the model, each with its size.
pub(crate) fn in_order(shape: &ModelShape) -> Vec<(String, Vec<usize>)> {
    names(shape).into_iter().map(|(name, spec)| (name, spec.shape)).collect()
}

#[cfg(test)]
mod tests {
    use engine::contract::tiny_shape;

    use super::*;

    #[test]
    fn gates_multiply_the_last_map_of_their_branch_and_nothing_else() {
        let shape = tiny_shape();
        let ones = names(&shape).into_iter().map(|(name, spec)| (name, vec![1.0; spec.len()]));
        let mut tensors: Tensors = ones.collect();
        fold(&shape, &mut tensors, 1, [0.5, 0.0]);
        for (name, values) in &tensors {
            let expected = match name.strip_prefix("transformer.h.1.") {
                Some("attn.c_proj.weight" | "attn.c_proj.bias") => 0.5,
                Some("mlp.c_proj.weight" | "mlp.c_proj.bias") => 0.0,
                _ => 1.0,
            };
            assert!(values.iter().all(|value| *value == expected), "{name}");
        }
    }
}
