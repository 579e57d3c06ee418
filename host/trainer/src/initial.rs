//! The initial model: a virtual model of the final depth that baseline and grown runs share. Its tensors
//! are drawn from (seed, birth ordinal, tensor class) and nothing else, or read from a folder.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use engine::{
    BlockTensors, Edit, LayerId, LayerIndex, Model, ModelShape, TensorId, TensorRole, TensorSpec, Widths,
};
use plugin_host::api::{Key, Random};

use crate::TrainError;
use crate::hugging_face::Imported;
use crate::storage::hash_of_file;
use crate::storage::tensor_file::read_tensors;

/// Some ten milliseconds of draws, in which a thread's own beginning is lost.
const LEAST_DRAWN_BY_A_THREAD: usize = 1 << 19;

/// See the module's text.
pub struct InitialModel {
    shape: ModelShape,
    source: Source,
}

enum Source {
    Seed(Key),
    Folder {
        file: PathBuf,
        sha256: String,
        tensors: HashMap<String, Vec<f32>>,
        imported: Option<Box<Imported>>,
    },
}

impl InitialModel {
    /// Drawn from that seed.
    pub fn of_seed(shape: &ModelShape, seed: u64) -> InitialModel {
        let key = Key::of_seed(seed).named("initial-model");
        InitialModel { shape: shape.clone(), source: Source::Seed(key) }
    }

    /// Read from `model.safetensors` in that folder, in Hugging Face's GPT-2 names.
    ///
    /// # Errors
    /// A file that is missing, damaged, or lacks a shared tensor.
    pub fn of_folder(shape: &ModelShape, folder: &Path) -> Result<InitialModel, TrainError> {
        let file = folder.join("model.safetensors");
        let tensors = read_tensors(&file)?;
        let (sha256, imported) = (hash_of_file(&file)?, Imported::beside(&file)?.map(Box::new));
        let source = Source::Folder { file, sha256, tensors, imported };
        let model = InitialModel { shape: shape.clone(), source };
        model.shared(shape.widths())?;
        Ok(model)
    }

    /// Hash of the file that it is read from; `None` where it is drawn.
    pub fn sha256(&self) -> Option<&str> {
        match &self.source {
            Source::Seed(_) => None,
            Source::Folder { sha256, .. } => Some(sha256),
        }
    }

    /// What is noted of the folder that it is read from, where that came by an import.
    pub(crate) fn imported(&self) -> Option<&Imported> {
        match &self.source {
            Source::Seed(_) => None,
            Source::Folder { imported, .. } => imported.as_deref(),
        }
    }

    /// Gives a model without blocks the shared tensors and the lowest `depth` blocks, all cut to that width.
    ///
    /// # Errors
    /// A folder with fewer blocks, or a failing engine.
    pub fn fill_in(&self, model: &mut dyn Model, depth: usize, widths: Widths) -> Result<(), TrainError> {
        let shared = self.shared(widths)?.into_iter();
        let weights = shared.map(|(class, values)| (TensorId::shared(class), values)).collect();
        model.edit(Edit::Resize { widths, weights })?;
        self.stack(model, 0..depth, widths)
    }

    /// Gives a model that has all blocks below these, these on top, cut to that width.
    ///
    /// # Errors
    /// As for [`fill_in`](InitialModel::fill_in).
    pub fn stack(
        &self,
        model: &mut dyn Model,
        blocks: Range<usize>,
        widths: Widths,
    ) -> Result<(), TrainError> {
        let depth = blocks.end;
        for position in blocks {
            let layer = LayerId(position as u64);
            let weights = self.block(layer, widths)?.ok_or_else(|| {
                crate::ConfigError::new(
                    "initial_model.from",
                    format!("the initial model has {position} blocks; the strategy starts with {depth}"),
                    "start from a deeper model, or leave `initial_model` out",
                )
            })?;
            model.edit(Edit::Insert { at: LayerIndex(position), layer, weights })?;
        }
        Ok(())
    }

    /// The shared tensors, with the first coordinates of the stream.
    ///
    /// # Errors
    /// A folder that lacks one.
    pub(crate) fn shared(&self, widths: Widths) -> Result<BlockTensors, TrainError> {
        let pairs =
            self.shape.shared_tensors().into_iter().zip(self.shape.with_widths(widths).shared_tensors());
        pairs
            .map(|(spec, cut)| {
                let values = match &self.source {
                    Source::Seed(key) => self.draw(key.named("shared"), &spec),
                    Source::Folder { .. } => {
                        self.read(&TensorId::shared(spec.class).hugging_face_name(None), &spec)?
                    }
                };
                Ok((spec.class, first_of_each(values, &spec, &cut)))
            })
            .collect()
    }

    /// The block that is born as the k-th, counted from 0, with the first coordinates of the stream, the first heads, and the
    /// first neurons of its hidden layer; `None` where a folder has no such block.
    ///
    /// # Errors
    /// A folder that has only part of it.
    pub(crate) fn block(&self, ordinal: LayerId, widths: Widths) -> Result<Option<BlockTensors>, TrainError> {
        let specs = self.shape.block_tensors();
        if let Source::Folder { tensors, .. } = &self.source {
            let first = TensorId::block(ordinal, specs[0].class).hugging_face_name(position(ordinal));
            if !tensors.contains_key(&first) {
                return Ok(None);
            }
        }
        let cut = self.shape.with_widths(widths).block_tensors();
        let values = specs.into_iter().zip(cut).map(|(spec, cut)| {
            let values = match &self.source {
                Source::Seed(key) => self.draw(key.named("block").numbered(ordinal.0), &spec),
                Source::Folder { .. } => {
                    let tensor = TensorId::block(ordinal, spec.class);
                    self.read(&tensor.hugging_face_name(position(ordinal)), &spec)?
                }
            };
            Ok((spec.class, first_of_each(values, &spec, &cut)))
        });
        values.collect::<Result<_, TrainError>>().map(Some)
    }

    /// GPT-2's rule: N(0, std) for matrices, branch outputs divided by `sqrt(2 layers)` of the final depth,
    /// gains one, all else zero.
    fn draw(&self, key: Key, spec: &TensorSpec) -> Vec<f32> {
        let mut values = vec![0.0; spec.len()];
        let std = self.shape.init_std;
        match spec.role {
            TensorRole::NormGain => values.fill(1.0),
            TensorRole::NormShift | TensorRole::Bias | TensorRole::BranchOutputBias => {}
            TensorRole::BranchOutputWeight => {
                let scaled = std / (2.0 * self.shape.layers as f64).sqrt();
                fill_normal(key.named(spec.class.0), &mut values, scaled);
            }
            TensorRole::TokenEmbedding | TensorRole::PositionEmbedding | TensorRole::Weight => {
                fill_normal(key.named(spec.class.0), &mut values, std);
            }
        }
        values
    }

    fn read(&self, name: &str, spec: &TensorSpec) -> Result<Vec<f32>, TrainError> {
        let Source::Folder { file, tensors, .. } = &self.source else {
            return Err(TrainError::Internal("a drawn model was read".into()));
        };
        let damaged = |reason: String| TrainError::Damaged { path: file.clone(), reason };
        let values = tensors.get(name).ok_or_else(|| damaged(format!("has no tensor `{name}`")))?;
        if values.len() != spec.len() {
            return Err(other_size(file, name, values.len(), spec));
        }
        Ok(values.clone())
    }
}

/// Draws from N(0, `std`²), by as many threads as there are and to the same bits, whatever their number.
fn fill_normal(key: Key, values: &mut [f32], std: f64) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let len = values.len().div_ceil(threads).max(LEAST_DRAWN_BY_A_THREAD);
    std::thread::scope(|scope| {
        for (i, values) in values.chunks_mut(len).enumerate() {
            let mut random = Random::new(key);
            random.skip_normals((i * len) as u64);
            scope.spawn(move || random.fill_normal(values, std));
        }
    });
}

fn other_size(file: &Path, name: &str, has: usize, spec: &TensorSpec) -> TrainError {
    let (needs, rows) = (spec.len(), spec.shape[0]);
    let reason = format!("has {has} elements in `{name}`, where the model needs {needs}");
    let hint = if spec.role == TensorRole::TokenEmbedding && has < needs {
        format!(
            "lower `model.vocabulary` to its {} rows, or add rows to it: `sapwood import --vocabulary {rows}`",
            has * rows / needs
        )
    } else {
        "make `model` in the study's file what the folder's config.json says".into()
    };
    TrainError::Unfit { path: file.to_path_buf(), reason, hint }
}

/// The part of a tensor that a smaller or larger one has in common with it: as many rows and columns as both have, of
/// queries, keys and values each, and zeros where the other has more.
pub(crate) fn first_of_each(values: Vec<f32>, from: &TensorSpec, to: &TensorSpec) -> Vec<f32> {
    if from.shape == to.shape {
        return values;
    }
    resized(from, to, |place, size| (place < size).then_some(place), &values)
}

/// A larger tensor whose rows and columns, of queries, keys and values each, repeat those that were there.
pub(crate) fn repeated(values: &[f32], from: &TensorSpec, to: &TensorSpec) -> Vec<f32> {
    resized(from, to, |place, size| Some(place % size), values)
}

/// `source` says which of so many rows, or columns of a part, is taken for one of the new tensor; zeros where it says none.
fn resized(
    from: &TensorSpec,
    to: &TensorSpec,
    source: impl Fn(usize, usize) -> Option<usize>,
    values: &[f32],
) -> Vec<f32> {
    let columns = |spec: &TensorSpec| spec.shape.last().copied().unwrap_or(1);
    let (old_width, new_width, parts) = (columns(from), columns(to), from.parts());
    let [old_part, new_part] = [old_width / parts, new_width / parts];
    let old_rows = from.len() / old_width;
    let mut new = vec![0.0; to.len()];
    for (row, values_of_row) in new.chunks_exact_mut(new_width).enumerate() {
        let Some(old_row) = source(row, old_rows) else { continue };
        for (column, value) in values_of_row.iter_mut().enumerate() {
            let Some(old_column) = source(column % new_part, old_part) else { continue };
            *value = values[old_row * old_width + column / new_part * old_part + old_column];
        }
    }
    new
}

/// In a folder, birth ordinal and position are the same.
fn position(ordinal: LayerId) -> Option<LayerIndex> {
    usize::try_from(ordinal.0).ok().map(LayerIndex)
}

#[cfg(test)]
mod tests {
    use engine::contract::tiny_shape;

    use super::*;

    #[test]
    fn a_narrower_block_has_the_first_neurons_of_the_whole_one() {
        let model = InitialModel::of_seed(&tiny_shape(), 1);
        let block = |mlp_width| {
            let widths = Widths { mlp_width, ..tiny_shape().widths() };
            model.block(LayerId(2), widths).expect("drawn").expect("any can be drawn")
        };
        let (whole, narrow) = (block(32), block(5));
        let tensor = |block: &BlockTensors, class: &str| -> Vec<f32> {
            block.iter().find(|(other, _)| other.0 == class).expect("a block's").1.clone()
        };
        let (wide, cut) = (tensor(&whole, "mlp.c_fc.weight"), tensor(&narrow, "mlp.c_fc.weight"));
        assert!(cut.chunks(5).zip(wide.chunks(32)).all(|(cut, wide)| cut == &wide[..5]) && cut.len() == 40);
        assert_eq!(tensor(&narrow, "mlp.c_proj.weight"), tensor(&whole, "mlp.c_proj.weight")[..40]);
        assert_eq!(tensor(&narrow, "attn.c_attn.weight"), tensor(&whole, "attn.c_attn.weight"));
    }

    #[test]
    fn a_narrower_model_has_the_first_coordinates_and_heads_of_the_whole_one() {
        let model = InitialModel::of_seed(&tiny_shape(), 1);
        let whole = tiny_shape().widths();
        let narrow = Widths { width: 3, heads: 1, ..whole };
        let block = |widths| model.block(LayerId(0), widths).expect("drawn").expect("any can be drawn");
        let (wide, cut) = (block(whole), block(narrow));
        let tensor = |block: &BlockTensors, class: &str| -> Vec<f32> {
            block.iter().find(|(other, _)| other.0 == class).expect("a block's").1.clone()
        };
        // Heads are 4 wide: of 3 x 8 columns in 8 rows, 3 x 4 in 3 rows.
        let (wide_qkv, cut_qkv) = (tensor(&wide, "attn.c_attn.weight"), tensor(&cut, "attn.c_attn.weight"));
        assert_eq!(cut_qkv.len(), 3 * 12);
        for (cut, wide) in cut_qkv.chunks(12).zip(wide_qkv.chunks(24)) {
            assert!((0..3).all(|part| cut[4 * part..4 * part + 4] == wide[8 * part..8 * part + 4]));
        }
        let (wide, cut) = (model.shared(whole).expect("drawn"), model.shared(narrow).expect("drawn"));
        let (wide, cut) = (tensor(&wide, "wte.weight"), tensor(&cut, "wte.weight"));
        assert!(cut.chunks(3).zip(wide.chunks(8)).all(|(cut, wide)| cut == &wide[..3]) && cut.len() == 33);
    }

    #[test]
    fn what_is_repeated_begins_with_what_was_there() {
        let spec = |class, shape: &[usize]| TensorSpec {
            class: engine::TensorClass(class),
            shape: shape.to_vec(),
            role: TensorRole::Weight,
        };
        let (from, to) = (spec("mlp.c_fc.weight", &[1, 2]), spec("mlp.c_fc.weight", &[2, 3]));
        assert_eq!(repeated(&[1.0, 2.0], &from, &to), [1.0, 2.0, 1.0, 1.0, 2.0, 1.0]);
        assert_eq!(first_of_each(vec![1.0, 2.0], &from, &to), [1.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        let (from, to) = (spec("attn.c_attn.bias", &[3]), spec("attn.c_attn.bias", &[6]));
        assert_eq!(repeated(&[1.0, 2.0, 3.0], &from, &to), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!(first_of_each(vec![1.0, 2.0, 3.0], &from, &to), [1.0, 0.0, 2.0, 0.0, 3.0, 0.0]);
    }

    #[test]
    fn a_block_depends_on_seed_and_ordinal_alone() {
        let block = |seed, ordinal| {
            let model = InitialModel::of_seed(&tiny_shape(), seed);
            model
                .block(LayerId(ordinal), tiny_shape().widths())
                .expect("drawn")
                .expect("any ordinal can be drawn")
        };
        assert_eq!(block(1, 2), block(1, 2));
        assert_ne!(block(1, 2), block(1, 1));
        assert_ne!(block(1, 2), block(2, 2));
    }

    #[test]
    fn branch_outputs_are_scaled_for_the_final_depth() {
        let shape = ModelShape { width: 128, layers: 8, init_std: 0.02, ..tiny_shape() };
        let block = InitialModel::of_seed(&shape, 1).block(LayerId(0), shape.widths());
        let block = block.expect("drawn").expect("drawn");
        let std = |name: &str| {
            let values = &block.iter().find(|(class, _)| class.0 == name).expect("a tensor of the block").1;
            (values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64).sqrt()
        };
        assert!((std("attn.c_attn.weight") / 0.02 - 1.0).abs() < 0.02);
        assert!((std("mlp.c_proj.weight") / 0.005 - 1.0).abs() < 0.02);
        assert_eq!(std("mlp.c_proj.bias"), 0.0);
        assert_eq!(std("ln_1.weight"), 1.0);
    }
}
