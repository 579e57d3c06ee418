//! Causal self-attention over all heads at once, from the joint projection to the mixed heads.
//!
//! B = sequences, H = heads, T = tokens of a sequence, D = width of a head, C = H D, N = B T. Heads come
//! first in here: then a head's columns of `[N, C]` are one block of memory on either side.

use burn::tensor::{Tensor, TensorData, activation::softmax, backend::Backend};
use engine::ModelShape;

use crate::operation::Operation;

/// How the rows of a pass are to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) sequences: usize,
    pub(crate) length: usize,
    pub(crate) heads: usize,
    pub(crate) norm_epsilon: f64,
}

impl Form {
    pub(crate) fn new(shape: &ModelShape, sequences: usize, length: usize) -> Form {
        Form { sequences, length, heads: shape.heads, norm_epsilon: shape.norm_epsilon }
    }
}

/// `softmax(q k^T / sqrt(D)) v` from `q | k | v`, `[N, 3 C]` to `[N, C]`.
#[derive(Clone, Debug)]
pub(crate) struct Attention<B: Backend> {
    form: Form,
    /// 0 where a token may look, minus infinity above the diagonal; `[1, T T]`.
    mask: Tensor<B, 2>,
}

impl<B: Backend> Attention<B> {
    pub(crate) fn new(form: &Form, device: &B::Device) -> Attention<B> {
        let t = form.length;
        let cell = |i: usize| if i % t > i / t { f32::NEG_INFINITY } else { 0.0 };
        let mask = TensorData::new((0..t * t).map(cell).collect(), [1, t * t]);
        Attention { form: *form, mask: Tensor::from_data(mask, device) }
    }

    /// Columns as heads, without a copy: `[N, n D]` to `[n, B, T, D]`.
    fn split(&self, x: Tensor<B, 2>, head_width: usize) -> Tensor<B, 4> {
        let [_, columns] = x.dims();
        let Form { sequences, length, .. } = self.form;
        x.reshape([sequences, length, columns / head_width, head_width]).permute([2, 0, 1, 3])
    }

    /// The way back, several such tensors side by side: `[n, B, T, D]` each to `[N, n D]`.
    fn join<const PARTS: usize>(parts: [Tensor<B, 4>; PARTS]) -> Tensor<B, 2> {
        let columns = parts.into_iter().flat_map(|part| {
            let [heads, sequences, length, width] = part.dims();
            let rows = part.reshape([heads * sequences * length, width]);
            let count = sequences * length;
            (0..heads).map(move |head| rows.clone().narrow(0, head * count, count))
        });
        Tensor::cat(columns.collect(), 1)
    }

    fn scale(head_width: usize) -> f64 {
        1.0 / (head_width as f64).sqrt()
    }
}

impl<B: Backend> Operation<B, 1> for Attention<B> {
    /// q, k, v as `[H, B, T, D]`; probabilities as `[H, B, T, T]`.
    type Saved = [Tensor<B, 4>; 4];

    fn forward(&self, [qkv]: [Tensor<B, 2>; 1]) -> (Tensor<B, 2>, Self::Saved) {
        let Form { sequences, length, heads, .. } = self.form;
        let [_, columns] = qkv.dims();
        let head_width = columns / (3 * heads);
        let all = self.split(qkv, head_width);
        let [q, k, v] = [0, 1, 2].map(|part| all.clone().narrow(0, part * heads, heads));

        let scores = q.clone().matmul(k.clone().transpose()) * Self::scale(head_width);
        let scores = scores.reshape([heads * sequences, length * length]) + self.mask.clone();
        let p = softmax(scores.reshape([heads, sequences, length, length]), 3);
        let mixed = p.clone().matmul(v.clone());
        (Self::join([mixed]), [q, k, v, p])
    }

    fn backward(&self, [q, k, v, p]: Self::Saved, gradient: Tensor<B, 2>) -> [Tensor<B, 2>; 1] {
        let [_, _, _, head_width] = q.dims();
        let gradient = self.split(gradient, head_width);
        let of_v = p.clone().transpose().matmul(gradient.clone());
        let of_p = gradient.matmul(v.transpose());
        let along_p = (of_p.clone() * p.clone()).sum_dim(3);
        let of_scores = (of_p - along_p) * p * Self::scale(head_width);
        let of_q = of_scores.clone().matmul(k);
        let of_k = of_scores.transpose().matmul(q);
        [Self::join([of_q, of_k, of_v])]
    }
}
