//! What an initializer is shown of the model when it is asked for values, and whether what it gives is fit.

use engine::{BlockTensors, LayerId, ModelShape, Snapshot, TensorId, TensorRole, TensorSpec, Widths};
use plugin_host::api::{self, BlockView, Claim, InitContext, Role, TensorMut, TensorView};

use super::{Gardener, SHARED};
use crate::TrainError;

/// What values are asked for: a block that is new or made anew, or what all blocks share.
#[derive(Clone, Copy)]
pub(super) struct Birth {
    pub(super) layer: LayerId,
    pub(super) position: usize,
    pub(super) source: Option<LayerId>,
    pub(super) depth_after: usize,
}

impl Gardener<'_> {
    /// Asks the initializer for the values of one block, or of what all share, that wide, and checks them.
    pub(super) fn values(
        &mut self,
        slot: &str,
        birth: Birth,
        widths: Widths,
        before: &Snapshot,
    ) -> Result<(BlockTensors, Claim), TrainError> {
        let old_specs = specs_of(&self.whole.with_widths(before.widths), birth.layer);
        let specs = specs_of(&self.whole.with_widths(widths), birth.layer);
        let [old_shapes, shapes] = [&old_specs, &specs].map(|specs| {
            let shape = |spec: &TensorSpec| spec.shape.iter().map(|&size| size as u64).collect();
            specs.iter().map(shape).collect::<Vec<Vec<u64>>>()
        });
        let shown = if birth.layer == SHARED { &[SHARED] } else { before.layers.as_slice() };
        let blocks: Vec<Vec<TensorView<'_>>> = shown
            .iter()
            .map(|&layer| {
                let states = before.tensors.iter().filter(|(tensor, _)| owner(*tensor) == layer);
                let values = states.map(|(_, state)| state.weights.as_slice());
                views(&old_specs, &old_shapes, values)
            })
            .collect();
        let existing: Vec<BlockView<'_>> = (shown.iter().zip(&blocks))
            .map(|(layer, tensors)| BlockView { id: api::LayerId(layer.0), tensors })
            .collect();
        let original = match birth.layer {
            SHARED => self.initial.shared(widths)?,
            layer => self.initial.block(layer, widths)?.unwrap_or_default(),
        };
        let original = views(&specs, &shapes, original.iter().map(|(_, values)| values.as_slice()));
        let context = InitContext {
            layer: api::LayerId(birth.layer.0),
            position: birth.position,
            depth_before: before.layers.len(),
            depth_after: birth.depth_after,
            final_depth: self.whole.layers,
            init_std: self.whole.init_std,
            key: self.key.named(slot).numbered(birth.layer.0),
            source: birth.source.map(|source| api::LayerId(source.0)),
            existing: &existing,
            original: &original,
        };
        let mut values: Vec<Vec<f32>> = specs.iter().map(|spec| vec![f32::NAN; spec.len()]).collect();
        let mut target = to_fill(&specs, &shapes, &mut values);
        let initializer = self.initializer(slot)?;
        let claim = initializer.ask("init", |initializer| initializer.init(&context, &mut target))?;
        if let Some(wrong) = unfit(&specs, &values, birth.layer) {
            return Err(initializer.fault("init", &api::Error::new(wrong)).into());
        }
        Ok((specs.iter().map(|spec| spec.class).zip(values).collect(), claim))
    }
}

/// What is wrong with what an initializer has written.
fn unfit(specs: &[TensorSpec], values: &[Vec<f32>], layer: LayerId) -> Option<String> {
    let whose = || if layer == SHARED { "all blocks".into() } else { format!("block {layer}") };
    specs.iter().zip(values).find_map(|(spec, values)| {
        let at = values.iter().position(|value| !value.is_finite())?;
        Some(format!("{} of {} is not finite or not written at element {at}", spec.class, whose()))
    })
}

fn to_fill<'a>(
    specs: &[TensorSpec],
    shapes: &'a [Vec<u64>],
    values: &'a mut [Vec<f32>],
) -> Vec<TensorMut<'a>> {
    (specs.iter().zip(shapes).zip(values))
        .map(|((spec, shape), values)| TensorMut {
            class: spec.class.0,
            role: role(spec.role),
            shape,
            values,
        })
        .collect()
}

fn views<'a>(
    specs: &[TensorSpec],
    shapes: &'a [Vec<u64>],
    values: impl Iterator<Item = &'a [f32]>,
) -> Vec<TensorView<'a>> {
    (specs.iter().zip(shapes).zip(values))
        .map(|((spec, shape), values)| TensorView {
            class: spec.class.0,
            role: role(spec.role),
            shape,
            values,
        })
        .collect()
}

fn role(role: TensorRole) -> Role {
    match role {
        TensorRole::NormGain => Role::NORM_GAIN,
        TensorRole::NormShift => Role::NORM_SHIFT,
        TensorRole::Bias => Role::BIAS,
        TensorRole::BranchOutputWeight => Role::BRANCH_OUTPUT_WEIGHT,
        TensorRole::BranchOutputBias => Role::BRANCH_OUTPUT_BIAS,
        TensorRole::Weight => Role::WEIGHT,
        TensorRole::TokenEmbedding => Role::TOKEN_EMBEDDING,
        TensorRole::PositionEmbedding => Role::POSITION_EMBEDDING,
    }
}

/// Whose a tensor is: a block's, or of all.
fn owner(tensor: TensorId) -> LayerId {
    tensor.layer.unwrap_or(SHARED)
}

fn specs_of(shape: &ModelShape, layer: LayerId) -> Vec<TensorSpec> {
    if layer == SHARED { shape.shared_tensors() } else { shape.block_tensors() }
}
