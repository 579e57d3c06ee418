//! The tensors of a checkpoint: where they are read from, what they are called, and back.

use std::path::Path;

use engine::{
    EngineError, LayerId, LayerIndex, Model, ModelShape, Moments, Part, Snapshot, TensorId, TensorState,
};

use super::{MOMENTS_FILE, WEIGHTS_FILE};
use crate::TrainError;
use crate::storage::tensor_file::read_tensors;

/// What the tensors of a checkpoint are read from.
#[derive(Clone, Copy)]
pub enum Tensors<'a> {
    /// The model, one tensor after the other: no second one is held in memory.
    Model(&'a dyn Model),
    /// A copy of what it held.
    Copied(&'a Snapshot),
}

/// What is read of a tensor.
#[derive(Clone, Copy)]
pub(super) enum Values {
    Weights,
    FirstMoment,
    SecondMoment,
}

impl Tensors<'_> {
    pub(super) fn layers(&self) -> Vec<LayerId> {
        match self {
            Tensors::Model(model) => model.layers(),
            Tensors::Copied(copy) => copy.layers.clone(),
        }
    }

    pub(super) fn read(&self, tensor: TensorId, values: Values) -> Result<Vec<f32>, EngineError> {
        match (self, values) {
            (Tensors::Model(model), Values::Weights) => model.read(tensor, Part::Weights),
            (Tensors::Model(model), Values::FirstMoment) => Ok(model.moments(tensor)?.first),
            (Tensors::Model(model), Values::SecondMoment) => Ok(model.moments(tensor)?.second),
            (Tensors::Copied(copy), Values::Weights) => Ok(of(copy, tensor)?.weights.clone()),
            (Tensors::Copied(copy), Values::FirstMoment) => Ok(of(copy, tensor)?.moments.first.clone()),
            (Tensors::Copied(copy), Values::SecondMoment) => Ok(of(copy, tensor)?.moments.second.clone()),
        }
    }

    pub(super) fn updates(&self, tensor: TensorId) -> Result<u64, EngineError> {
        match self {
            Tensors::Model(model) => Ok(model.moments(tensor)?.updates),
            Tensors::Copied(copy) => Ok(of(copy, tensor)?.moments.updates),
        }
    }
}

fn of(copy: &Snapshot, tensor: TensorId) -> Result<&TensorState, EngineError> {
    let held = copy.tensors.iter().find(|(id, _)| *id == tensor).map(|(_, state)| state);
    held.ok_or_else(|| EngineError::NoSuchTensor(format!("the copy has no {tensor}")))
}

/// Names and shapes of the tensors of a stack, in the order of [`ModelShape::tensors`].
pub(super) fn names(shape: &ModelShape, layers: &[LayerId]) -> Vec<(String, Vec<usize>)> {
    let position = |tensor: TensorId| {
        tensor.layer.and_then(|layer| layers.iter().position(|&other| other == layer)).map(LayerIndex)
    };
    let tensors = shape.tensors(layers).into_iter();
    tensors.map(|(tensor, spec)| (tensor.hugging_face_name(position(tensor)), spec.shape)).collect()
}

pub(super) fn load_tensors(
    folder: &Path,
    shape: &ModelShape,
    layers: &[LayerId],
    updates: &[u64],
) -> Result<Snapshot, TrainError> {
    let mut weights = read_tensors(&folder.join(WEIGHTS_FILE))?;
    let mut moments = read_tensors(&folder.join(MOMENTS_FILE))?;
    let damaged = |file: &str, name: &str| TrainError::Damaged {
        path: folder.join(file),
        reason: format!("lacks `{name}`, or has another size of it"),
    };
    let mut tensors = Vec::new();
    for (index, ((tensor, spec), (name, _))) in
        shape.tensors(layers).iter().zip(names(shape, layers)).enumerate()
    {
        let mut take = |moment: &str| {
            let name = format!("{name}.{moment}");
            let values = moments.remove(&name).filter(|values| values.len() == spec.len());
            values.ok_or_else(|| damaged(MOMENTS_FILE, &name))
        };
        let (first, second) = (take("first_moment")?, take("second_moment")?);
        let held = weights.remove(&name).filter(|values| values.len() == spec.len());
        let weights = held.ok_or_else(|| damaged(WEIGHTS_FILE, &name))?;
        let updates = *updates.get(index).ok_or_else(|| damaged("state.json", &name))?;
        tensors.push((*tensor, TensorState { weights, moments: Moments { first, second, updates } }));
    }
    Ok(Snapshot { layers: layers.to_vec(), widths: shape.widths(), tensors })
}
