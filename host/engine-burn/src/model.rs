//! GPT-2 forward, from token ids to the loss of each target, over any Burn backend.
//!
//! Everything runs on `[tokens, columns]`: only attention needs to know where a sequence ends. Each part
//! takes its weights from a function, so that the same code serves plain tensors and autodiff's leaves.
//!
//! N = tokens of the pass, B = sequences, T = tokens of a sequence, C = width, V = vocabulary.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use engine::{LayerId, TensorClass, TensorId};

use crate::{
    attention::{Attention, Form},
    operation::Compute,
    pointwise::{CrossEntropy, GeluTanh, LayerNorm},
};

pub(crate) const WTE: TensorClass = TensorClass("wte.weight");
pub(crate) const WPE: TensorClass = TensorClass("wpe.weight");
const LN_F_GAIN: TensorClass = TensorClass("ln_f.weight");
const LN_F_SHIFT: TensorClass = TensorClass("ln_f.bias");

/// Where a part of the model gets its weights.
pub(crate) type Weights<'a, B> = &'a mut dyn FnMut(TensorId) -> Tensor<B, 2>;

/// `h = wte[ids] + wpe[0..T)`, `[N, C]`.
pub(crate) fn embed<B: Backend>(
    weights: Weights<'_, B>,
    ids: Tensor<B, 1, Int>,
    form: &Form,
) -> Tensor<B, 2> {
    let [sequences, length] = [form.sequences, form.length];
    let tokens = weights(TensorId::shared(WTE)).select(0, ids);
    let [count, width] = tokens.dims();
    let positions = weights(TensorId::shared(WPE)).slice([0..length, 0..width]);
    // One row per sequence makes the sum a row broadcast, which the backends do fast.
    let sum = tokens.reshape([sequences, length * width]) + positions.reshape([1, length * width]);
    sum.reshape([count, width])
}

/// A block on the residual stream `h`, `[N, C]`.
pub(crate) fn block<B: Compute>(
    weights: Weights<'_, B>,
    layer: LayerId,
    h: Tensor<B, 2>,
    form: &Form,
    attention: &Attention<B::Plain>,
) -> Tensor<B, 2> {
    let mut get = |class| weights(TensorId::block(layer, TensorClass(class)));
    let norm = LayerNorm { epsilon: form.norm_epsilon };
    let x = B::apply(norm.clone(), [h.clone(), get("ln_1.weight"), get("ln_1.bias")]);
    let qkv = linear(x, get("attn.c_attn.weight"), get("attn.c_attn.bias"));
    let mixed = B::apply(attention.clone(), [qkv]);
    let h = h + linear(mixed, get("attn.c_proj.weight"), get("attn.c_proj.bias"));

    let x = B::apply(norm, [h.clone(), get("ln_2.weight"), get("ln_2.bias")]);
    let hidden = B::apply(GeluTanh, [linear(x, get("mlp.c_fc.weight"), get("mlp.c_fc.bias"))]);
    h + linear(hidden, get("mlp.c_proj.weight"), get("mlp.c_proj.bias"))
}

/// `ln_f(h)`.
pub(crate) fn final_norm<B: Compute>(weights: Weights<'_, B>, h: Tensor<B, 2>, form: &Form) -> Tensor<B, 2> {
    let (gain, shift) = (weights(TensorId::shared(LN_F_GAIN)), weights(TensorId::shared(LN_F_SHIFT)));
    B::apply(LayerNorm { epsilon: form.norm_epsilon }, [h, gain, shift])
}

/// `x @ wte^T`, `[N, V]`.
pub(crate) fn logits<B: Backend>(weights: Weights<'_, B>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    x.matmul(weights(TensorId::shared(WTE)).transpose())
}

/// The loss of each target in nats, `[N, 1]`.
pub(crate) fn losses<B: Compute>(logits: Tensor<B, 2>, targets: Tensor<B::Plain, 1, Int>) -> Tensor<B, 2> {
    let [count, _] = logits.dims();
    B::apply(CrossEntropy { targets: targets.reshape([count, 1]) }, [logits])
}

/// Token ids on the device.
pub(crate) fn upload<B: Backend>(ids: impl Iterator<Item = u32>, device: &B::Device) -> Tensor<B, 1, Int> {
    // Ids were checked against the vocabulary, which `ModelShape::check` keeps far below i32's end.
    let ids: Vec<i32> = ids.map(|id| id as i32).collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count]), device)
}

fn linear<B: Backend>(x: Tensor<B, 2>, weight: Tensor<B, 2>, bias: Tensor<B, 2>) -> Tensor<B, 2> {
    x.matmul(weight) + bias
}
