//! Every tensor of the model, and the order of its blocks: what edits, reads and writes work on.
//!
//! Not here: any arithmetic on them.

use std::collections::BTreeMap;

use engine::{
    Edit, EngineError, LayerId, ModelShape, TensorClass, TensorId, Trainable, check_order, check_resized,
};

use crate::{kernels::Kernels, param::Param};

/// Tensors of a block; the plan and the passes take them apart in the order of `ModelShape::block_tensors`.
pub(crate) const BLOCK_TENSORS: usize = 12;

/// Blocks have identities; a position is a place in `blocks` and touches no tensor.
pub(crate) struct Stack<B> {
    pub(crate) shape: ModelShape,
    pub(crate) shared: Shared<B>,
    pub(crate) blocks: Vec<Block<B>>,
}

/// The tensors that all blocks share.
pub(crate) struct Shared<B> {
    pub(crate) token_table: Param<B>,
    pub(crate) position_table: Param<B>,
    pub(crate) gain: Param<B>,
    pub(crate) shift: Param<B>,
}

pub(crate) struct Block<B> {
    pub(crate) layer: LayerId,
    pub(crate) tensors: Box<[Param<B>; BLOCK_TENSORS]>,
}

impl<B> Shared<B> {
    fn all(&self) -> [&Param<B>; 4] {
        [&self.token_table, &self.position_table, &self.gain, &self.shift]
    }

    fn all_mut(&mut self) -> [&mut Param<B>; 4] {
        [&mut self.token_table, &mut self.position_table, &mut self.gain, &mut self.shift]
    }
}

impl<B> Stack<B> {
    /// Shared tensors at zero, no block.
    pub(crate) fn new<K: Kernels<Buffer = B>>(shape: &ModelShape, kernels: &K) -> Stack<B> {
        let mut specs = shape.shared_tensors().into_iter();
        let mut next = || Param::zero(specs.next().expect("GPT-2 shares four tensors"), kernels);
        let shared = Shared { token_table: next(), position_table: next(), gain: next(), shift: next() };
        Stack { shape: shape.clone(), shared, blocks: Vec::new() }
    }

    pub(crate) fn layers(&self) -> Vec<LayerId> {
        self.blocks.iter().map(|block| block.layer).collect()
    }

    pub(crate) fn get(&self, id: TensorId) -> Result<&Param<B>, EngineError> {
        let mut found = match id.layer {
            None => self.shared.all().into_iter().collect::<Vec<_>>(),
            Some(layer) => self.block(layer).map(|block| block.tensors.iter().collect()).unwrap_or_default(),
        }
        .into_iter();
        found.find(|param| param.spec.class == id.class).ok_or_else(|| EngineError::missing(id))
    }

    pub(crate) fn get_mut(&mut self, id: TensorId) -> Result<&mut Param<B>, EngineError> {
        let mut all = self.all_mut();
        all.find(|(other, _)| *other == id).map(|(_, param)| param).ok_or_else(|| EngineError::missing(id))
    }

    /// Every tensor with its name: the shared ones, then block by block.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = (TensorId, &mut Param<B>)> {
        let shared =
            self.shared.all_mut().into_iter().map(|param| (TensorId::shared(param.spec.class), param));
        let blocks = self.blocks.iter_mut().flat_map(|Block { layer, tensors }| {
            tensors.iter_mut().map(|param| (TensorId::block(*layer, param.spec.class), param))
        });
        shared.chain(blocks)
    }

    /// The same to read.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Param<B>> {
        self.shared.all().into_iter().chain(self.blocks.iter().flat_map(|block| block.tensors.iter()))
    }

    pub(crate) fn edit<K: Kernels<Buffer = B>>(
        &mut self,
        edit: Edit,
        kernels: &K,
    ) -> Result<(), EngineError> {
        match edit {
            Edit::Insert { at, layer, weights } => {
                self.check_place(at.0, layer)?;
                let tensors = self.new_block(layer, weights, kernels)?;
                self.blocks.insert(at.0, Block { layer, tensors });
                Ok(())
            }
            Edit::Remove { layer } => {
                self.block(layer)?;
                self.blocks.retain(|block| block.layer != layer);
                Ok(())
            }
            Edit::Resize { widths, weights } => {
                let to = self.shape.with_widths(widths);
                for (id, spec, weights) in check_resized(&self.layers(), &self.shape, &to, weights)? {
                    let mut param = Param::zero(spec, kernels);
                    param.set_weights(id, &weights, kernels)?;
                    *self.get_mut(id)? = param;
                }
                self.shape = to;
                Ok(())
            }
            Edit::Reorder { layers } => {
                check_order(&self.layers(), &layers)?;
                self.blocks.sort_by_key(|block| layers.iter().position(|&layer| layer == block.layer));
                Ok(())
            }
        }
    }

    /// Inserts a copy of a block with its AdamW state.
    pub(crate) fn duplicate<K: Kernels<Buffer = B>>(
        &mut self,
        from: LayerId,
        to: LayerId,
        at: usize,
        kernels: &K,
    ) -> Result<(), EngineError> {
        self.check_place(at, to)?;
        let from = &self.block(from)?.tensors;
        let tensors = Box::new(std::array::from_fn(|i| from[i].duplicate(kernels)));
        self.blocks.insert(at, Block { layer: to, tensors });
        Ok(())
    }

    fn block(&self, layer: LayerId) -> Result<&Block<B>, EngineError> {
        let found = self.blocks.iter().find(|block| block.layer == layer);
        found.ok_or_else(|| EngineError::NoSuchTensor(format!("the stack has no layer {layer}")))
    }

    fn check_place(&self, at: usize, layer: LayerId) -> Result<(), EngineError> {
        if self.block(layer).is_ok() {
            return Err(EngineError::NoSuchTensor(format!("layer {layer} is in the stack already")));
        }
        if at > self.blocks.len() {
            return Err(EngineError::NoSuchTensor(format!(
                "layer {layer} cannot stand at {at}: the stack has {} layers",
                self.blocks.len()
            )));
        }
        Ok(())
    }

    /// Built whole before anything is put in place, so that a refused edit changes nothing.
    fn new_block<K: Kernels<Buffer = B>>(
        &self,
        layer: LayerId,
        weights: Vec<(TensorClass, Vec<f32>)>,
        kernels: &K,
    ) -> Result<Box<[Param<B>; BLOCK_TENSORS]>, EngineError> {
        let mut given: BTreeMap<TensorClass, Vec<f32>> = weights.into_iter().collect();
        let mut tensors = Vec::with_capacity(BLOCK_TENSORS);
        for spec in self.shape.block_tensors() {
            let id = TensorId::block(layer, spec.class);
            let weights = given
                .remove(&spec.class)
                .ok_or_else(|| EngineError::NoSuchTensor(format!("the new block comes without {id}")))?;
            spec.check_len(id, weights.len())?;
            let mut param = Param::zero(spec, kernels);
            param.set_weights(id, &weights, kernels)?;
            tensors.push(param);
        }
        if let Some(class) = given.into_keys().next() {
            return Err(EngineError::NoSuchTensor(format!("a block has no {class}")));
        }
        let tensors: Box<[Param<B>]> = tensors.into();
        Ok(tensors.try_into().ok().expect("GPT-2's block has twelve tensors"))
    }

    /// Refuses a scope with a tensor that the stack does not have.
    pub(crate) fn check_scope(&self, trainable: &Trainable) -> Result<(), EngineError> {
        trainable.iter().try_for_each(|id| self.get(id).map(drop))
    }
}
