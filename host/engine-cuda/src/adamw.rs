//! Calls of the AdamW update. Not here: the arithmetic of an element (cu/adamw.cu), and who trains.

use engine::{AdamW, EngineError};
use engine_native::kernels::Update;

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::{Argument, Driver, Number};
use crate::launch::{Blocks, long};

impl<D: Driver> Cuda<D> {
    pub(crate) fn update(
        &self,
        with: &AdamW,
        clip: f64,
        tensor: Update<'_, Buffer<D::Memory>>,
    ) -> Result<(), EngineError> {
        let factors = factors(with, clip, &tensor).map(Argument::F32);
        let Update { len, weights, gradient, first, second, .. } = tensor;
        weights.check(Number::F32)?;
        let (weights, copy) = weights.with_copy()?;
        let copy = copy.map_or(Argument::Nothing, Argument::Write);
        let (weights, first, second) = (Argument::Write(weights), first.write()?, second.write()?);
        let buffers = [weights, copy, gradient.read()?, first, second, long(len)];
        let arguments: Vec<_> = buffers.into_iter().chain(factors).collect();
        self.launch("adamw", Blocks::of_elements(len), &arguments)
    }
}

/// What is the same for every element, formed in f64, in the order of the kernel's arguments.
fn factors<B>(with: &AdamW, clip: f64, tensor: &Update<'_, B>) -> [f32; 9] {
    let &AdamW { rate, beta1, beta2, epsilon, weight_decay, .. } = with;
    let &Update { updates, decays, rate_factor, .. } = tensor;
    let rate = rate * rate_factor;
    let [bias_1, bias_2] = [beta1, beta2].map(|beta| 1.0 - beta.powf(updates as f64));
    let decay = if decays { 1.0 - rate * weight_decay } else { 1.0 };
    let unbias_second = 1.0 / bias_2;
    [clip, decay, beta1, 1.0 - beta1, beta2, 1.0 - beta2, rate / bias_1, unbias_second, epsilon]
        .map(|factor| factor as f32)
}
