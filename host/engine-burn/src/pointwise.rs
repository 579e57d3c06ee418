//! GELU, layer norm and cross-entropy: what works on each row, or each element, for itself.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use burn::tensor::{IndexingUpdateOp, Int, Tensor, activation::log_softmax, backend::Backend};

use crate::operation::Operation;

/// `0.5 x (1 + tanh(u))` with `u = sqrt(2/pi) (x + 0.044715 x^3)`, written as `x s` with `s = sigmoid(2u)`,
/// which is the same and costs one exponential.
#[derive(Clone, Debug)]
pub(crate) struct GeluTanh;

const CUBIC: f64 = 0.044715;
/// `2 sqrt(2/pi)`.
const SCALE: f64 = 2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;

impl<B: Backend> Operation<B, 1> for GeluTanh {
    /// x, s
    type Saved = [Tensor<B, 2>; 2];

    fn forward(&self, [x]: [Tensor<B, 2>; 1]) -> (Tensor<B, 2>, Self::Saved) {
        let minus_twice_u = (x.clone() * x.clone() * (-SCALE * CUBIC) - SCALE) * x.clone();
        let s = (minus_twice_u.exp() + 1.0).recip();
        (s.clone() * x.clone(), [x, s])
    }

    /// `s (1 + x (1 - s) (2u)')`.
    fn backward(&self, [x, s]: Self::Saved, gradient: Tensor<B, 2>) -> [Tensor<B, 2>; 1] {
        let slope = x.clone() * x.clone() * (3.0 * SCALE * CUBIC) + SCALE;
        [(slope * x * (s.clone().neg() + 1.0) + 1.0) * s * gradient]
    }
}

/// `n gain + shift` with `n = (x - mean) / sqrt(variance + epsilon)`, the variance biased.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    pub(crate) epsilon: f64,
}

impl<B: Backend> Operation<B, 3> for LayerNorm {
    /// n, 1 / root, gain
    type Saved = [Tensor<B, 2>; 3];

    fn forward(&self, [x, gain, shift]: [Tensor<B, 2>; 3]) -> (Tensor<B, 2>, Self::Saved) {
        let mean = x.clone().mean_dim(1);
        let centred = x - mean;
        let variance = (centred.clone() * centred.clone()).mean_dim(1);
        let inverse_root = (variance + self.epsilon).sqrt().recip();
        let n = centred * inverse_root.clone();
        (n.clone() * gain.clone() + shift, [n, inverse_root, gain])
    }

    fn backward(&self, [n, inverse_root, gain]: Self::Saved, gradient: Tensor<B, 2>) -> [Tensor<B, 2>; 3] {
        let of_shift = gradient.clone().sum_dim(0);
        let of_gain = (gradient.clone() * n.clone()).sum_dim(0);
        let of_n = gradient * gain;
        // Mean and variance depend on x too: the parts of the gradient along 1 and along n fall away.
        let along_one = of_n.clone().mean_dim(1);
        let along_n = (of_n.clone() * n.clone()).mean_dim(1);
        let of_x = (of_n - along_one - n * along_n) * inverse_root;
        [of_x, of_gain, of_shift]
    }
}

/// The loss of each row's target in nats, `[N, 1]`, from logits `[N, V]`.
#[derive(Clone, Debug)]
pub(crate) struct CrossEntropy<B: Backend> {
    /// `[N, 1]`
    pub(crate) targets: Tensor<B, 2, Int>,
}

impl<B: Backend> Operation<B, 1> for CrossEntropy<B> {
    /// The logarithms of the probabilities.
    type Saved = Tensor<B, 2>;

    fn forward(&self, [logits]: [Tensor<B, 2>; 1]) -> (Tensor<B, 2>, Self::Saved) {
        let log_p = log_softmax(logits, 1);
        (log_p.clone().gather(1, self.targets.clone()).neg(), log_p)
    }

    /// `p`, less 1 at the target.
    fn backward(&self, log_p: Self::Saved, gradient: Tensor<B, 2>) -> [Tensor<B, 2>; 1] {
        let less = Tensor::full(self.targets.dims(), -1.0, &log_p.device());
        [log_p.exp().scatter(1, self.targets.clone(), less, IndexingUpdateOp::Add) * gradient]
    }
}
