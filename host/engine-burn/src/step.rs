//! Forward and backward of one step: the gradient of the mean loss over all its tokens.
//!
//! What lies below the lowest tensor that trains is computed on the plain backend, so that autodiff
//! records nothing for it; above, a frozen tensor is a leaf without a gradient.

use std::collections::BTreeMap;

use burn::{backend::Autodiff, tensor::Tensor};
use engine::{EngineError, StepPlan, TensorId, TokenBatch, Trainable};

use crate::{
    attention::{Attention, Form},
    model::{self, WPE, WTE},
    operation::Compute,
    param::to_host,
    stack::Stack,
};

/// Leaves the gradients in the stack's tensors and answers the mean loss in nats.
pub(crate) fn backward<B: Compute<Plain = B>>(
    stack: &mut Stack<B>,
    batch: &TokenBatch,
    plan: &StepPlan,
) -> Result<f64, EngineError> {
    for param in stack.params.values_mut() {
        param.gradient = None;
    }
    let tokens = batch.tokens().0 as f64;
    let mut loss_nats = 0.0;
    for first in (0..batch.sequences()).step_by(plan.micro_batch_sequences) {
        let count = plan.micro_batch_sequences.min(batch.sequences() - first);
        let micro = Micro { batch, first, count, tokens_of_step: tokens };
        let (losses, gradients) = micro.run(stack, &plan.trainable);
        for (id, gradient) in gradients {
            let held = &mut stack.get_mut(id)?.gradient;
            *held = Some(match held.take() {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        }
        loss_nats += to_host(&losses)?.into_iter().map(f64::from).sum::<f64>();
    }
    Ok(loss_nats / tokens)
}

/// Rows `first..first + count` of the step's batch.
struct Micro<'a> {
    batch: &'a TokenBatch,
    first: usize,
    count: usize,
    tokens_of_step: f64,
}

impl Micro<'_> {
    /// The loss of each target, and this micro-batch's share of each gradient.
    fn run<B: Compute<Plain = B>>(
        &self,
        stack: &Stack<B>,
        trainable: &Trainable,
    ) -> (Tensor<B, 2>, Vec<(TensorId, Tensor<B, 2>)>) {
        let form = Form::new(&stack.shape, self.count, self.batch.length());
        let mut leaves = Leaves { stack, trainable, taken: BTreeMap::new() };
        let h = self.hidden(&mut leaves, &form);

        let mut weights = |id| leaves.get(id);
        let x = model::final_norm(&mut weights, h, &form);
        let logits = model::logits(&mut weights, x);
        let targets = model::upload(self.batch.targets(self.first, self.count), &stack.device);
        let losses = model::losses(logits, targets);
        let gradients = leaves.gradients(losses.clone().sum() / self.tokens_of_step);
        (losses.inner(), gradients)
    }

    /// The residual stream above the last block.
    fn hidden<B: Compute<Plain = B>>(
        &self,
        leaves: &mut Leaves<'_, B>,
        form: &Form,
    ) -> Tensor<Autodiff<B>, 2> {
        let stack = leaves.stack;
        let attention = Attention::new(form, &stack.device);
        let ids = model::upload(self.batch.inputs(self.first, self.count), &stack.device);
        let (mut h, above) = match leaves.frozen_blocks() {
            None => {
                (model::embed(&mut |id| leaves.get(id), Tensor::from_inner(ids), form), &stack.layers[..])
            }
            Some(frozen) => {
                let plain = &mut |id| stack.weights(id);
                let (below, above) = stack.layers.split_at(frozen);
                let h = model::embed(plain, ids, form);
                let h = below.iter().fold(h, |h, &layer| model::block(plain, layer, h, form, &attention));
                (Tensor::from_inner(h), above)
            }
        };
        for &layer in above {
            h = model::block(&mut |id| leaves.get(id), layer, h, form, &attention);
        }
        h
    }
}

/// Autodiff's leaves of one micro-batch. A tensor that trains becomes one leaf however often it is used,
/// so that the tied head adds to the embedding's gradient.
struct Leaves<'a, B: Compute<Plain = B>> {
    stack: &'a Stack<B>,
    trainable: &'a Trainable,
    taken: BTreeMap<TensorId, Tensor<Autodiff<B>, 2>>,
}

impl<B: Compute<Plain = B>> Leaves<'_, B> {
    fn get(&mut self, id: TensorId) -> Tensor<Autodiff<B>, 2> {
        let plain = || Tensor::from_inner(self.stack.weights(id));
        if !self.trainable.contains(id) {
            return plain();
        }
        self.taken.entry(id).or_insert_with(|| plain().require_grad()).clone()
    }

    /// Blocks from the bottom that no gradient has to reach; `None` if not even the embeddings are frozen.
    fn frozen_blocks(&self) -> Option<usize> {
        if [WTE, WPE].into_iter().any(|class| self.trainable.contains(TensorId::shared(class))) {
            return None;
        }
        Some(self.stack.layers.iter().take_while(|&&layer| !self.trainable.touches(layer)).count())
    }

    fn gradients(self, loss: Tensor<Autodiff<B>, 1>) -> Vec<(TensorId, Tensor<B, 2>)> {
        if self.taken.is_empty() {
            return Vec::new();
        }
        let mut all = loss.backward();
        let pick = |(id, leaf): (TensorId, Tensor<Autodiff<B>, 2>)| Some((id, leaf.grad_remove(&mut all)?));
        self.taken.into_iter().filter_map(pick).collect()
    }
}
