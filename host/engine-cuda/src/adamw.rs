//! Calls of the AdamW update. Not here: the arithmetic of an element (cu/adamw.cu), and who trains.

use engine::{AdamW, EngineError};
use engine_native::kernels::Update;

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::driver::{Argument, Driver, MANY};
use crate::launch::{Blocks, Row};
use crate::tally::Tally;

/// The kernel's `ELEMENTS_OF_A_BLOCK`.
const ELEMENTS_OF_A_BLOCK: usize = 1 << 12;

impl<D: Driver> Cuda<D> {
    pub(crate) fn update(
        &self,
        with: &AdamW,
        tally: &Tally<D::Memory>,
        tensors: Vec<Update<'_, Buffer<D::Memory>>>,
    ) -> Result<(), EngineError> {
        let mut rest = tensors.into_iter();
        loop {
            let tensors: Vec<_> = rest.by_ref().take(MANY).collect();
            if tensors.is_empty() {
                return Ok(());
            }
            self.update_row(with, tally, tensors)?;
        }
    }

    /// Of as many tensors as a launch takes.
    fn update_row(
        &self,
        with: &AdamW,
        tally: &Tally<D::Memory>,
        tensors: Vec<Update<'_, Buffer<D::Memory>>>,
    ) -> Result<(), EngineError> {
        let row = Row::of(tensors.iter().map(|tensor| tensor.len), ELEMENTS_OF_A_BLOCK);
        let factors: Vec<Factors> = tensors.iter().map(|tensor| Factors::of(with, tensor)).collect();
        let (mut weights, mut copies, mut gradients) = (Vec::new(), Vec::new(), Vec::new());
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for tensor in tensors {
            let (weight, copy) = tensor.weights.with_copy()?;
            weights.push(Some(weight));
            copies.push(copy);
            gradients.push(tensor.gradient.at(0)?);
            first.push(Some(tensor.first.memory_mut()?));
            second.push(Some(tensor.second.memory_mut()?));
        }
        let each = |of: fn(&Factors) -> f32| Argument::F32Each(factors.iter().map(of).collect());
        let AdamW { beta1, beta2, epsilon, clip_norm, .. } = *with;
        let [keep_first, take_first, keep_second, take_second, epsilon] =
            [beta1, 1.0 - beta1, beta2, 1.0 - beta2, epsilon].map(|factor| Argument::F32(factor as f32));
        let arguments = [
            Argument::WriteEach(weights),
            Argument::WriteEach(copies),
            Argument::ReadEach(gradients),
            Argument::WriteEach(first),
            Argument::WriteEach(second),
            row.lens(),
            row.ends(),
            each(|factors| factors.decay),
            each(|factors| factors.rate),
            each(|factors| factors.unbias_second),
            tally.read()?,
            Argument::F64(clip_norm.unwrap_or(-1.0)),
            keep_first,
            take_first,
            keep_second,
            take_second,
            epsilon,
        ];
        self.launch("adamw", Blocks::of(row.blocks()), &arguments)
    }
}

/// What is the same for every element of a tensor, formed in f64.
struct Factors {
    decay: f32,
    /// Learning rate over the first moment's bias.
    rate: f32,
    /// One over the second moment's bias.
    unbias_second: f32,
}

impl Factors {
    fn of<B>(with: &AdamW, tensor: &Update<'_, B>) -> Factors {
        let rate = with.rate * tensor.rate_factor;
        let [bias_1, bias_2] = [with.beta1, with.beta2].map(|beta| 1.0 - beta.powf(tensor.updates as f64));
        let decay = if tensor.decays { 1.0 - rate * with.weight_decay } else { 1.0 };
        Factors { decay: decay as f32, rate: (rate / bias_1) as f32, unbias_second: (1.0 / bias_2) as f32 }
    }
}
