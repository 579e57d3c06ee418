//! Losses and logits without a tape, cut so that memory stays bounded whatever the batch.

use burn::tensor::Tensor;
use engine::{EngineError, TokenBatch};

use crate::{
    attention::{Attention, Form},
    model,
    operation::Compute,
    param::to_host,
    stack::Stack,
};

/// Most elements of one intermediate tensor: 16 MiB of f32.
const MOST_ELEMENTS: usize = 1 << 22;

/// The loss of each target in nats, row by row.
pub(crate) fn losses<B: Compute<Plain = B>>(
    stack: &Stack<B>,
    batch: &TokenBatch,
) -> Result<Vec<f32>, EngineError> {
    let length = batch.length();
    let at_once = sequences_at_once(stack, length);
    let rows_at_once = rows_of_logits(stack);
    let mut losses = Vec::with_capacity(batch.sequences() * length);
    for first in (0..batch.sequences()).step_by(at_once) {
        let count = at_once.min(batch.sequences() - first);
        let form = Form::new(&stack.shape, count, length);
        let x = hidden(stack, batch.inputs(first, count), &form);
        let targets: Vec<u32> = batch.targets(first, count).collect();
        for (piece, targets) in targets.chunks(rows_at_once).enumerate() {
            let x = rows(&x, piece * rows_at_once, targets.len());
            let targets = model::upload(targets.iter().copied(), &stack.device);
            losses.extend(to_host(&model::losses(logits_of(stack, x), targets))?);
        }
    }
    Ok(losses)
}

/// The logits after each token of one row, `[tokens, vocabulary]`.
pub(crate) fn logits<B: Compute<Plain = B>>(
    stack: &Stack<B>,
    tokens: &[u32],
) -> Result<Vec<f32>, EngineError> {
    if tokens.is_empty() {
        return Ok(Vec::new());
    }
    let form = Form::new(&stack.shape, 1, tokens.len());
    let x = hidden(stack, tokens.iter().copied(), &form);
    let at_once = rows_of_logits(stack);
    let mut logits = Vec::with_capacity(tokens.len() * stack.shape.vocabulary);
    for first in (0..tokens.len()).step_by(at_once) {
        let x = rows(&x, first, at_once.min(tokens.len() - first));
        logits.extend(to_host(&logits_of(stack, x))?);
    }
    Ok(logits)
}

/// What the head reads, `[N, C]`.
fn hidden<B: Compute<Plain = B>>(
    stack: &Stack<B>,
    ids: impl Iterator<Item = u32>,
    form: &Form,
) -> Tensor<B, 2> {
    let weights = &mut |id| stack.weights(id);
    let attention = Attention::new(form, &stack.device);
    let h = model::embed(weights, model::upload(ids, &stack.device), form);
    let h = stack.layers.iter().fold(h, |h, &layer| model::block(weights, layer, h, form, &attention));
    model::final_norm(weights, h, form)
}

fn logits_of<B: Compute<Plain = B>>(stack: &Stack<B>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    model::logits(&mut |id| stack.weights(id), x)
}

fn rows<B: Compute<Plain = B>>(x: &Tensor<B, 2>, first: usize, count: usize) -> Tensor<B, 2> {
    x.clone().narrow(0, first, count)
}

/// The largest tensors of a block are the hidden layer, 4 C a token, and the scores, H T a token.
fn sequences_at_once<B: Compute<Plain = B>>(stack: &Stack<B>, length: usize) -> usize {
    let per_token = (4 * stack.shape.width).max(stack.shape.heads * length);
    (MOST_ELEMENTS / (length * per_token)).max(1)
}

fn rows_of_logits<B: Compute<Plain = B>>(stack: &Stack<B>) -> usize {
    (MOST_ELEMENTS / stack.shape.vocabulary).max(1)
}
