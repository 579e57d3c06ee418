//! What trains in a step.

use std::collections::BTreeSet;

use crate::{LayerId, ModelShape, TensorClass, TensorId};

/// The set of tensors that train; all others are frozen: no gradient, no decay, no moment update, no
/// step count, no part in the clipping norm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trainable(BTreeSet<TensorId>);

impl Trainable {
    /// Everything in a stack of these blocks.
    pub fn all(shape: &ModelShape, layers: &[LayerId]) -> Trainable {
        shape.tensors(layers).into_iter().map(|(tensor, _)| tensor).collect()
    }

    /// Whether that tensor trains.
    pub fn contains(&self, tensor: TensorId) -> bool {
        self.0.contains(&tensor)
    }

    /// Whether any tensor of that block trains.
    pub fn touches(&self, layer: LayerId) -> bool {
        // A block's tensors stand side by side, and no class comes before the one without a name.
        let first = TensorId { layer: Some(layer), class: TensorClass("") };
        self.0.range(first..).next().is_some_and(|tensor| tensor.layer == Some(layer))
    }

    /// Whether nothing trains.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of tensors that train.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = TensorId> + '_ {
        self.0.iter().copied()
    }

    /// Drops what belongs to a block that is no longer in the stack.
    pub fn forget(&mut self, layer: LayerId) {
        self.0.retain(|tensor| tensor.layer != Some(layer));
    }
}

impl FromIterator<TensorId> for Trainable {
    fn from_iter<I: IntoIterator<Item = TensorId>>(tensors: I) -> Trainable {
        Trainable(tensors.into_iter().collect())
    }
}

impl Extend<TensorId> for Trainable {
    fn extend<I: IntoIterator<Item = TensorId>>(&mut self, tensors: I) {
        self.0.extend(tensors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_touched_by_any_tensor_of_its_own_and_by_no_other() {
        let tensor =
            |layer: Option<u64>, class| TensorId { layer: layer.map(LayerId), class: TensorClass(class) };
        let trainable: Trainable = [
            tensor(None, "wte.weight"),
            tensor(Some(1), "mlp.c_fc.weight"),
            tensor(Some(3), "attn.c_attn.bias"),
        ]
        .into_iter()
        .collect();
        let touched: Vec<u64> = (0..5).filter(|&layer| trainable.touches(LayerId(layer))).collect();
        assert_eq!(touched, [1, 3]);
    }
}
