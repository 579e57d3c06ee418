//! A model's whole state in host memory: what a checkpoint stores and what a rejected edit goes back to.

use crate::{Edit, EngineError, LayerId, LayerIndex, Model, ModelShape, Moments, Part, TensorId, Widths};

/// One tensor's weights and AdamW state.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorState {
    /// The weights.
    pub weights: Vec<f32>,
    /// The AdamW state.
    pub moments: Moments,
}

/// Every tensor of a stack, in the order of [`ModelShape::tensors`].
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The stack, from the embeddings up.
    pub layers: Vec<LayerId>,
    /// How wide it is.
    pub widths: Widths,
    /// Every tensor of it.
    pub tensors: Vec<(TensorId, TensorState)>,
}

impl Snapshot {
    /// Reads everything out of the model, however wide it is now.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn take(model: &dyn Model, shape: &ModelShape) -> Result<Snapshot, EngineError> {
        let (layers, widths) = (model.layers(), model.widths());
        let tensors = shape
            .with_widths(widths)
            .tensors(&layers)
            .into_iter()
            .map(|(tensor, _)| {
                let weights = model.read(tensor, Part::Weights)?;
                Ok((tensor, TensorState { weights, moments: model.moments(tensor)? }))
            })
            .collect::<Result<_, EngineError>>()?;
        Ok(Snapshot { layers, widths, tensors })
    }

    /// Makes the model's stack and all its tensors equal to this snapshot.
    ///
    /// # Errors
    /// What the engine answers; it is then in no defined state.
    pub fn restore(&self, model: &mut dyn Model) -> Result<(), EngineError> {
        for layer in model.layers() {
            model.edit(Edit::Remove { layer })?;
        }
        let shared = self.tensors.iter().filter(|(tensor, _)| tensor.layer.is_none());
        let weights = shared.map(|(tensor, state)| (*tensor, state.weights.clone())).collect();
        model.edit(Edit::Resize { widths: self.widths, weights })?;
        for (position, &layer) in self.layers.iter().enumerate() {
            let weights = self
                .tensors
                .iter()
                .filter(|(tensor, _)| tensor.layer == Some(layer))
                .map(|(tensor, state)| (tensor.class, state.weights.clone()))
                .collect();
            model.edit(Edit::Insert { at: LayerIndex(position), layer, weights })?;
        }
        for (tensor, state) in &self.tensors {
            model.set_moments(*tensor, &state.moments)?;
        }
        Ok(())
    }
}
