//! Losses and logits without gradients, cut so that memory stays bounded whatever the batch.

use engine::{FlopTerms, TokenBatch};

use crate::{
    arena::{Arena, Layout, rows_of_logits},
    forward::Pass,
    kernels::{Form, Kernels},
    plan::Plan,
    stack::Stack,
};

/// What is evaluated at once of so many sequences.
pub(crate) fn at_once<K: Kernels>(form: Form, kernels: &K) -> Form {
    let most = kernels.elements_at_once()
        / (form.hidden.max(4 * form.width.max(form.attention_width())) * form.length);
    Form { sequences: most.clamp(1, form.sequences), ..form }
}

/// The loss of each target in nats, row by row.
pub(crate) fn losses<K: Kernels>(
    kernels: &K,
    stack: &Stack<K::Buffer>,
    plan: &Plan,
    batch: &TokenBatch,
    form: Form,
) -> Vec<f32> {
    if batch.sequences() == 0 {
        return Vec::new();
    }
    let form = at_once(form, kernels);
    let at_once = form.sequences;
    let layout = &Layout::new(plan);
    let mut arena = Arena::new(layout, &form, kernels);
    let flops = &mut FlopTerms::default();
    let mut tokens = kernels.tokens(form.rows(), false);
    let mut losses = Vec::with_capacity(batch.sequences() * batch.length());
    for first in (0..batch.sequences()).step_by(at_once) {
        let form = Form { sequences: at_once.min(batch.sequences() - first), ..form };
        let inputs: Vec<u32> = batch.inputs(first, form.sequences).collect();
        let targets: Vec<u32> = batch.targets(first, form.sequences).collect();
        kernels.load(&inputs, &targets, &mut tokens);
        Pass { kernels, plan, layout, form, first, flops, watch: None }.forward(&tokens, stack, &mut arena);
        let table = &stack.shared.token_table.weights;
        let (scratch, out) = (&mut arena.logits, &mut arena.losses);
        kernels.classifier(&form, &arena.normed, table, &tokens, scratch, out, None);
        losses.extend(kernels.download(&arena.losses, form.rows()));
    }
    losses
}

/// The logits after each token of one row, `[tokens, vocabulary]`.
pub(crate) fn logits<K: Kernels>(
    kernels: &K,
    stack: &Stack<K::Buffer>,
    plan: &Plan,
    tokens: &[u32],
    form: Form,
) -> Vec<f32> {
    if tokens.is_empty() {
        return Vec::new();
    }
    let layout = &Layout::new(plan);
    let mut arena = Arena::new(layout, &form, kernels);
    let flops = &mut FlopTerms::default();
    let mut ids = kernels.tokens(form.rows(), false);
    kernels.load(tokens, &[], &mut ids);
    Pass { kernels, plan, layout, form, first: 0, flops, watch: None }.forward(&ids, stack, &mut arena);
    let at_once = rows_of_logits(&form, kernels);
    let mut logits = Vec::with_capacity(tokens.len() * form.vocabulary);
    for first in (0..tokens.len()).step_by(at_once) {
        let rows = at_once.min(tokens.len() - first);
        let table = &stack.shared.token_table.weights;
        kernels.logits(&form, &arena.normed, first, rows, table, &mut arena.logits);
        logits.extend(kernels.download(&arena.logits, rows * form.vocabulary));
    }
    logits
}
