//! Every tensor of the model by name, and the order of its blocks: what edits and reads work on.
//!
//! Not here: any arithmetic on them.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, backend::Backend};
use engine::{
    Edit, EngineError, LayerId, ModelShape, TensorClass, TensorId, Trainable, check_order, check_resized,
};

use crate::param::Param;

/// Blocks have identities; a position is a place in `layers` and touches no tensor.
pub(crate) struct Stack<B: Backend> {
    pub(crate) shape: ModelShape,
    pub(crate) device: B::Device,
    pub(crate) layers: Vec<LayerId>,
    pub(crate) params: BTreeMap<TensorId, Param<B>>,
}

impl<B: Backend> Stack<B> {
    /// Shared tensors at zero, no block.
    pub(crate) fn new(shape: &ModelShape, device: B::Device) -> Stack<B> {
        let shared = shape.shared_tensors().into_iter();
        let params = shared.map(|spec| (TensorId::shared(spec.class), Param::zero(spec, &device))).collect();
        Stack { shape: shape.clone(), device, layers: Vec::new(), params }
    }

    pub(crate) fn get(&self, id: TensorId) -> Result<&Param<B>, EngineError> {
        self.params.get(&id).ok_or_else(|| EngineError::missing(id))
    }

    pub(crate) fn get_mut(&mut self, id: TensorId) -> Result<&mut Param<B>, EngineError> {
        self.params.get_mut(&id).ok_or_else(|| EngineError::missing(id))
    }

    /// The weights of a tensor that the stack is known to have.
    pub(crate) fn weights(&self, id: TensorId) -> Tensor<B, 2> {
        self.params[&id].weights.clone()
    }

    pub(crate) fn edit(&mut self, edit: Edit) -> Result<(), EngineError> {
        match edit {
            Edit::Insert { at, layer, weights } => self.insert(at.0, layer, weights),
            Edit::Remove { layer } => self.remove(layer),
            Edit::Resize { widths, weights } => {
                let to = self.shape.with_widths(widths);
                for (id, spec, weights) in check_resized(&self.layers, &self.shape, &to, weights)? {
                    let mut param = Param::zero(spec, &self.device);
                    param.set_weights(id, &weights)?;
                    self.params.insert(id, param);
                }
                self.shape = to;
                Ok(())
            }
            Edit::Reorder { layers } => {
                check_order(&self.layers, &layers)?;
                self.layers = layers;
                Ok(())
            }
        }
    }

    fn insert(
        &mut self,
        at: usize,
        layer: LayerId,
        weights: Vec<(TensorClass, Vec<f32>)>,
    ) -> Result<(), EngineError> {
        if self.layers.contains(&layer) {
            return Err(EngineError::NoSuchTensor(format!("layer {layer} is in the stack already")));
        }
        if at > self.layers.len() {
            return Err(EngineError::NoSuchTensor(format!(
                "layer {layer} cannot stand at {at}: the stack has {} layers",
                self.layers.len()
            )));
        }
        let block = self.new_block(layer, weights)?;
        self.layers.insert(at, layer);
        self.params.extend(block);
        Ok(())
    }

    /// Built whole before anything is put in place, so that a refused edit changes nothing.
    fn new_block(
        &self,
        layer: LayerId,
        weights: Vec<(TensorClass, Vec<f32>)>,
    ) -> Result<BTreeMap<TensorId, Param<B>>, EngineError> {
        let mut given: BTreeMap<TensorClass, Vec<f32>> = weights.into_iter().collect();
        let mut block = BTreeMap::new();
        for spec in self.shape.block_tensors() {
            let id = TensorId::block(layer, spec.class);
            let weights = given
                .remove(&spec.class)
                .ok_or_else(|| EngineError::NoSuchTensor(format!("the new block comes without {id}")))?;
            spec.check_len(id, weights.len())?;
            let mut param = Param::zero(spec, &self.device);
            param.set_weights(id, &weights)?;
            block.insert(id, param);
        }
        match given.into_keys().next() {
            Some(class) => Err(EngineError::NoSuchTensor(format!("a block has no {class}"))),
            None => Ok(block),
        }
    }

    fn remove(&mut self, layer: LayerId) -> Result<(), EngineError> {
        if !self.layers.contains(&layer) {
            return Err(EngineError::NoSuchTensor(format!("the stack has no layer {layer}")));
        }
        self.layers.retain(|&other| other != layer);
        self.params.retain(|id, _| id.layer != Some(layer));
        Ok(())
    }

    /// Refuses a scope with a tensor that the stack does not have.
    pub(crate) fn check_scope(&self, trainable: &Trainable) -> Result<(), EngineError> {
        trainable
            .iter()
            .find(|id| !self.params.contains_key(id))
            .map_or(Ok(()), |id| Err(EngineError::missing(id)))
    }
}
