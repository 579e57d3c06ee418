//! The activations of a step: buffers made once for a plan and used by every step of a phase.
//!
//! A block that keeps an activation has a buffer of its own for it; all others take turns with one. Not
//! here: the decision what is kept.

use crate::{
    kernels::{Form, Kernels},
    plan::{BlockPlan, Plan},
};

/// Most logits held at once, unless fewer than [`LEAST_ROWS`] rows would fit: 16 MiB of f32.
const MOST_LOGITS: usize = 1 << 22;
/// Fewer rows would read and write the classifier's weight and its gradient too often.
const LEAST_ROWS: usize = 256;

pub(crate) struct Arena<B> {
    pub(crate) slots: Vec<Slots>,
    /// Residual stream before each block, and after the last.
    pub(crate) inputs: Vec<B>,
    pub(crate) middles: Vec<B>,
    pub(crate) qkv: Vec<B>,
    pub(crate) mixed: Vec<B>,
    pub(crate) normalizers: Vec<B>,
    pub(crate) hidden: Vec<B>,
    pub(crate) moments: Vec<B>,
    pub(crate) top: usize,
    pub(crate) top_moments: usize,
    pub(crate) normed: B,
    pub(crate) activated: B,
    pub(crate) losses: B,
    pub(crate) logits: B,
    pub(crate) gradients: Option<Gradients<B>>,
}

/// Gradients of activations on their way down.
pub(crate) struct Gradients<B> {
    /// Of the residual stream, `[N, C]`.
    pub(crate) stream: B,
    /// Of a branch, `[N, C]`.
    pub(crate) branch: B,
    /// Of the hidden layer, `[N, 4 C]`, or of queries, keys and values, `[N, 3 C]`.
    pub(crate) wide: B,
}

/// Which buffer each activation of a block lives in.
#[derive(Clone, Copy)]
pub(crate) struct Slots {
    pub(crate) input: usize,
    pub(crate) moments_1: usize,
    pub(crate) qkv: usize,
    pub(crate) mixed: usize,
    pub(crate) normalizers: usize,
    pub(crate) middle: usize,
    pub(crate) moments_2: usize,
    /// `None` where the GELU's input is not kept.
    pub(crate) hidden: Option<usize>,
}

impl<B> Arena<B> {
    /// Buffers for micro-batches of up to `form`'s rows.
    pub(crate) fn new<K: Kernels<Buffer = B>>(plan: &Plan, form: &Form, kernels: &K) -> Arena<B> {
        let (rows, width) = (form.rows(), form.width);
        let mut counts = Counts::default();
        let slots: Vec<Slots> = plan.blocks.iter().map(|block| counts.block(block)).collect();
        let (top, top_moments) = (counts.inputs.take(plan.head_input), counts.moments.take(plan.head_input));
        let some = |count: &Count, columns: usize| -> Vec<B> {
            (0..count.made).map(|_| kernels.zeros(rows * columns)).collect()
        };
        let gradients = plan.head_input.then(|| Gradients {
            stream: kernels.zeros(rows * width),
            branch: kernels.zeros(rows * width),
            wide: kernels.zeros(rows * 4 * width),
        });
        Arena {
            inputs: some(&counts.inputs, width),
            middles: some(&counts.middles, width),
            qkv: some(&counts.qkv, 3 * width),
            mixed: some(&counts.mixed, width),
            normalizers: some(&counts.normalizers, 2 * form.heads),
            hidden: some(&counts.hidden, 4 * width),
            moments: some(&counts.moments, 2),
            slots,
            top,
            top_moments,
            normed: kernels.zeros(rows * width),
            activated: kernels.zeros(rows * 4 * width),
            losses: kernels.zeros(rows),
            logits: kernels.zeros(rows_of_logits(form) * form.vocabulary),
            gradients,
        }
    }
}

/// Rows whose logits exist at once.
pub(crate) fn rows_of_logits(form: &Form) -> usize {
    (MOST_LOGITS / form.vocabulary).max(LEAST_ROWS).min(form.rows())
}

#[derive(Default)]
struct Counts {
    inputs: Count,
    middles: Count,
    qkv: Count,
    mixed: Count,
    normalizers: Count,
    hidden: Count,
    moments: Count,
}

impl Counts {
    fn block(&mut self, plan: &BlockPlan) -> Slots {
        Slots {
            input: self.inputs.take(plan.keeps_input()),
            moments_1: self.moments.take(plan.keeps_input()),
            qkv: self.qkv.take(plan.qkv),
            mixed: self.mixed.take(plan.keeps_mixed()),
            normalizers: self.normalizers.take(plan.qkv),
            middle: self.middles.take(plan.keeps_middle()),
            moments_2: self.moments.take(plan.keeps_middle()),
            hidden: plan.keeps_hidden().then(|| self.hidden.take(true)),
        }
    }
}

/// Buffers of one kind: how many, and which of them is the one for what is not kept.
#[derive(Default)]
struct Count {
    made: usize,
    shared: Option<usize>,
}

impl Count {
    fn take(&mut self, kept: bool) -> usize {
        if !kept && let Some(shared) = self.shared {
            return shared;
        }
        self.made += 1;
        if !kept {
            self.shared = Some(self.made - 1);
        }
        self.made - 1
    }
}
