//! The update of all tensors that train, and the norm of their gradients. Not here: who trains.

use engine::AdamW;
use rayon::prelude::*;

use super::{
    buffer::Buffer,
    level::{Available, vectorised},
    math::madd,
};
use crate::kernels::Update;

/// Elements that one task updates.
const CHUNK: usize = 1 << 14;
/// Elements whose squares are summed first: the shape of that sum.
const NORM_CHUNK: usize = 1 << 15;

pub(crate) fn update(available: Available, with: &AdamW, clip: f64, tensors: Vec<Update<'_, Buffer>>) {
    tensors.into_par_iter().for_each(|tensor| {
        let factors = Factors::new(with, clip, &tensor);
        let weights = tensor.weights.par_chunks_mut(CHUNK).zip(tensor.gradient.par_chunks(CHUNK));
        let moments = tensor.first.par_chunks_mut(CHUNK).zip(tensor.second.par_chunks_mut(CHUNK));
        weights.zip(moments).for_each(|((weights, gradient), (first, second))| {
            update_chunk(available, &factors, weights, gradient, first, second);
        });
    });
}

/// Sum of squares in f64, chunk by chunk.
pub(crate) fn squared_norm(available: Available, buffers: &[(&Buffer, usize)]) -> f64 {
    let chunks: Vec<&[f32]> =
        buffers.iter().flat_map(|(buffer, len)| buffer[..*len].chunks(NORM_CHUNK)).collect();
    let sums: Vec<f64> = chunks.par_iter().map(|chunk| squares(available, chunk)).collect();
    sums.iter().sum()
}

/// What every element of a tensor is updated with, formed in f64.
struct Factors {
    clip: f32,
    decay: f32,
    keep_first: f32,
    take_first: f32,
    keep_second: f32,
    take_second: f32,
    /// Learning rate over the first moment's bias.
    rate: f32,
    /// One over the second moment's bias.
    unbias_second: f32,
    epsilon: f32,
}

impl Factors {
    fn new(with: &AdamW, clip: f64, tensor: &Update<'_, Buffer>) -> Factors {
        let (updates, rate) = (tensor.updates, with.rate * tensor.rate_factor);
        let bias1 = 1.0 - with.beta1.powf(updates as f64);
        let bias2 = 1.0 - with.beta2.powf(updates as f64);
        Factors {
            clip: clip as f32,
            decay: if tensor.decays { 1.0 - rate * with.weight_decay } else { 1.0 } as f32,
            keep_first: with.beta1 as f32,
            take_first: (1.0 - with.beta1) as f32,
            keep_second: with.beta2 as f32,
            take_second: (1.0 - with.beta2) as f32,
            rate: (rate / bias1) as f32,
            unbias_second: (1.0 / bias2) as f32,
            epsilon: with.epsilon as f32,
        }
    }
}

vectorised! {
    fn update_chunk(factors: &Factors, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) = update_chunk_body
}
vectorised! {
    fn squares(values: &[f32]) -> f64 = squares_body
}

#[inline(always)]
fn update_chunk_body<const FMA: bool>(
    factors: &Factors,
    weights: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let elements = weights.iter_mut().zip(gradient).zip(first).zip(second);
    for (((weight, gradient), first), second) in elements {
        let g = gradient * factors.clip;
        let m = madd::<FMA>(factors.keep_first, *first, factors.take_first * g);
        let v = madd::<FMA>(factors.keep_second, *second, factors.take_second * g * g);
        let root = (v * factors.unbias_second).sqrt() + factors.epsilon;
        *weight = *weight * factors.decay - factors.rate * m / root;
        (*first, *second) = (m, v);
    }
}

#[inline(always)]
fn squares_body<const FMA: bool>(values: &[f32]) -> f64 {
    const LANES: usize = 32;
    let mut lanes = [0f64; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(x) * f64::from(x);
        }
    }
    lanes.iter().sum::<f64>() + rest
}
