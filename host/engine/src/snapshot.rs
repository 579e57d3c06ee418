//! A model's whole state in host memory: what a checkpoint stores and what a rejected edit goes back to.

use crate::{Edit, Engine, EngineError, LayerId, LayerIndex, ModelShape, Moments, Part, TensorId};

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
    /// Hidden width of its MLPs.
    pub mlp_width: usize,
    /// Every tensor of it.
    pub tensors: Vec<(TensorId, TensorState)>,
}

impl Snapshot {
    /// Reads everything out of the engine, whatever the width of its MLPs.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn take(engine: &dyn Engine, shape: &ModelShape) -> Result<Snapshot, EngineError> {
        let (layers, mlp_width) = (engine.layers(), engine.mlp_width());
        let tensors = shape
            .with_hidden(mlp_width)
            .tensors(&layers)
            .into_iter()
            .map(|(tensor, _)| {
                let weights = engine.read(tensor, Part::Weights)?;
                Ok((tensor, TensorState { weights, moments: engine.moments(tensor)? }))
            })
            .collect::<Result<_, EngineError>>()?;
        Ok(Snapshot { layers, mlp_width, tensors })
    }

    /// Makes the engine's stack and all its tensors equal to this snapshot.
    ///
    /// # Errors
    /// What the engine answers; it is then in no defined state.
    pub fn restore(&self, engine: &mut dyn Engine) -> Result<(), EngineError> {
        for layer in engine.layers() {
            engine.edit(Edit::Remove { layer })?;
        }
        engine.edit(Edit::ResizeMlp { mlp_width: self.mlp_width, blocks: Vec::new() })?;
        for (position, &layer) in self.layers.iter().enumerate() {
            let weights = self
                .tensors
                .iter()
                .filter(|(tensor, _)| tensor.layer == Some(layer))
                .map(|(tensor, state)| (tensor.class, state.weights.clone()))
                .collect();
            engine.edit(Edit::Insert { at: LayerIndex(position), layer, weights })?;
        }
        for (tensor, state) in &self.tensors {
            if tensor.layer.is_none() {
                engine.write(*tensor, &state.weights)?;
            }
            engine.set_moments(*tensor, &state.moments)?;
        }
        Ok(())
    }
}
