//! AdamW as tensor operations, one tensor at a time, each with its own step counter.
//!
//! Burn's own AdamW is not used: it forms `1 - beta` in f32, and its state cannot be set from outside.

use burn::tensor::backend::Backend;
use engine::{AdamW, EngineError};

use crate::param::{Param, to_host};

/// What all gradients are multiplied by, given their global norm.
pub(crate) fn clip_factor(update: &AdamW, gradient_norm: f64) -> f64 {
    update.clip_norm.map_or(1.0, |most| (most / (gradient_norm + 1e-6)).min(1.0))
}

/// Sum of squares of a tensor's gradient, in f64; 0 where it did not train.
pub(crate) fn squared_norm<B: Backend>(param: &Param<B>) -> Result<f64, EngineError> {
    let Some(gradient) = &param.gradient else { return Ok(0.0) };
    Ok(to_host(gradient)?.into_iter().map(|g| f64::from(g) * f64::from(g)).sum())
}

/// The tensor after one update with its gradient times `clip`; unchanged where it did not train.
///
/// Takes the tensor by value so that the backend may overwrite buffers that nobody else holds.
pub(crate) fn updated<B: Backend>(param: Param<B>, update: &AdamW, rate_factor: f64, clip: f64) -> Param<B> {
    let Some(gradient) = param.gradient.clone() else { return param };
    let &AdamW { rate, beta1, beta2, epsilon, weight_decay, .. } = update;
    let rate = rate * rate_factor;
    let updates = param.updates + 1;
    let bias1 = 1.0 - beta1.powf(updates as f64);
    let bias2 = 1.0 - beta2.powf(updates as f64);
    let decay = if param.spec.decays() { 1.0 - rate * weight_decay } else { 1.0 };

    let g = if clip < 1.0 { gradient.mul_scalar(clip) } else { gradient };
    let m = param.first_moment * beta1 + g.clone() * (1.0 - beta1);
    let v = param.second_moment * beta2 + g.clone() * g * (1.0 - beta2);
    let root = (v.clone() / bias2).sqrt() + epsilon;
    let weights = param.weights * decay - m.clone() / bias1 / root * rate;
    Param { weights, first_moment: m, second_moment: v, updates, ..param }
}
