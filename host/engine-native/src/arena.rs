//! The activations of a step: buffers made once for a phase and used by every step of it.
//!
//! A run of a block that keeps an activation has a buffer of its own for it; all others take turns with one.
//! Not here: the decision what is kept.

use engine::Recompute;

use crate::{
    kernels::{Form, Kernels},
    plan::{EntryPlan, Plan},
};

/// Rows of logits that are held at once, however many elements that takes: fewer rows would read and write the
/// classifier's weight and its gradient too often.
const LEAST_ROWS: usize = 256;

pub(crate) struct Arena<B> {
    /// Residual stream below each run of a block, and above the last; the compacted streams among them.
    pub(crate) inputs: Vec<B>,
    pub(crate) middles: Vec<B>,
    pub(crate) qkv: Vec<B>,
    pub(crate) mixed: Vec<B>,
    pub(crate) normalizers: Vec<B>,
    pub(crate) hidden: Vec<B>,
    pub(crate) activated: Vec<B>,
    pub(crate) moments: Vec<B>,
    pub(crate) normed: B,
    pub(crate) losses: B,
    pub(crate) logits: B,
    pub(crate) gradients: Option<Gradients<B>>,
}

/// Gradients of activations on their way down.
pub(crate) struct Gradients<B> {
    /// Of the residual stream, `[N, C]`.
    pub(crate) stream: B,
    /// Of a branch, `[N, C]`, or of what attention gave out, `[N, A]`.
    pub(crate) branch: B,
    /// Of the hidden layer, `[N, 4 C]`, or of queries, keys and values, `[N, 3 A]`.
    pub(crate) wide: B,
    /// Of the stream times a gate, `[N, C]`.
    pub(crate) gated: Option<B>,
    /// Of the stream where only some sequences pass, `[N, C]`.
    pub(crate) compact: Option<B>,
}

/// Which buffer each activation of a run of a block lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub(crate) activated: usize,
}

/// Where everything lives, and how many buffers of each kind that takes.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) slots: Vec<Slots>,
    pub(crate) top: usize,
    pub(crate) top_moments: usize,
    /// The stream below and above a block that only some sequences pass through.
    pub(crate) compact: Option<[usize; 2]>,
    counts: Counts,
    gradients: bool,
    gated: bool,
}

impl Layout {
    pub(crate) fn new(plan: &Plan) -> Layout {
        let mut counts = Counts::default();
        let slots: Vec<Slots> = plan.entries.iter().map(|entry| counts.entry(entry, plan)).collect();
        let (top, top_moments) = (counts.inputs.take(plan.head_input), counts.moments.take(plan.head_input));
        let masked = plan.entries.iter().any(|entry| entry.entry.sequences.is_some());
        let compact = masked.then(|| [counts.inputs.take(true), counts.inputs.take(true)]);
        let gated = plan.entries.iter().any(|entry| entry.needs.output && entry.is_gated());
        Layout { slots, top, top_moments, compact, counts, gradients: plan.head_input, gated }
    }

    /// Elements of all buffers for micro-batches of up to `form`'s rows.
    pub(crate) fn elements<K: Kernels>(&self, form: &Form, kernels: &K) -> Elements {
        let (rows, width) = (form.rows(), form.width);
        let of = |kind: Kind| -> usize {
            let pools = self.pools(form).into_iter().filter(|pool| pool.kind == kind);
            pools.map(|pool| pool.made * pool.columns * rows).sum()
        };
        let streams = if self.gradients { 1 + usize::from(self.compact.is_some()) } else { 0 };
        let inside = if self.gradients { branch(form) + wide(form) } else { 0 };
        let (normed, gated) = (width, usize::from(self.gradients && self.gated) * width);
        let (losses, logits) = (rows, rows_of_logits(form, kernels) * form.vocabulary);
        Elements {
            whole: of(Kind::Whole) + streams * rows * width + losses,
            activations: of(Kind::Activation) + rows * (normed + gated + inside) + logits,
        }
    }

    /// Buffers of each kind, in the order in which the arena has them.
    fn pools(&self, form: &Form) -> [Pool; 8] {
        let (counts, width, attention) = (&self.counts, form.width, form.attention_width());
        [
            Pool { made: counts.inputs.made, columns: width, kind: Kind::Whole },
            Pool { made: counts.middles.made, columns: width, kind: Kind::Whole },
            Pool { made: counts.qkv.made, columns: 3 * attention, kind: Kind::Activation },
            Pool { made: counts.mixed.made, columns: attention, kind: Kind::Activation },
            Pool { made: counts.normalizers.made, columns: 2 * form.heads, kind: Kind::Whole },
            Pool { made: counts.hidden.made, columns: form.hidden, kind: Kind::Activation },
            Pool { made: counts.activated.made, columns: form.hidden, kind: Kind::Activation },
            Pool { made: counts.moments.made, columns: 2, kind: Kind::Whole },
        ]
    }
}

/// Elements of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elements {
    /// In buffers that every device keeps whole.
    pub(crate) whole: usize,
    /// In buffers of activations.
    pub(crate) activations: usize,
}

/// Buffers of one kind: how many, and how many elements of each a row takes.
struct Pool {
    made: usize,
    columns: usize,
    kind: Kind,
}

/// Whether a device may keep it in fewer bits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Activation,
}

impl<B> Arena<B> {
    /// Buffers for micro-batches of up to `form`'s rows.
    pub(crate) fn new<K: Kernels<Buffer = B>>(layout: &Layout, form: &Form, kernels: &K) -> Arena<B> {
        let mut arena = Arena {
            inputs: Vec::new(),
            middles: Vec::new(),
            qkv: Vec::new(),
            mixed: Vec::new(),
            normalizers: Vec::new(),
            hidden: Vec::new(),
            activated: Vec::new(),
            moments: Vec::new(),
            normed: kernels.activations(form.rows() * form.width),
            losses: kernels.zeros(form.rows()),
            logits: kernels.activations(rows_of_logits(form, kernels) * form.vocabulary),
            gradients: None,
        };
        arena.fit(layout, form, kernels);
        arena
    }

    /// Makes what another layout needs beyond what is there; `form` stays that of [`Arena::new`].
    pub(crate) fn fit<K: Kernels<Buffer = B>>(&mut self, layout: &Layout, form: &Form, kernels: &K) {
        let (rows, width) = (form.rows(), form.width);
        let pools = [
            &mut self.inputs,
            &mut self.middles,
            &mut self.qkv,
            &mut self.mixed,
            &mut self.normalizers,
            &mut self.hidden,
            &mut self.activated,
            &mut self.moments,
        ];
        for (buffers, Pool { made, columns, kind }) in pools.into_iter().zip(layout.pools(form)) {
            while buffers.len() < made {
                buffers.push(match kind {
                    Kind::Whole => kernels.zeros(rows * columns),
                    Kind::Activation => kernels.activations(rows * columns),
                });
            }
        }
        if !layout.gradients {
            return;
        }
        let stream = || kernels.zeros(rows * width);
        let gradients = self.gradients.get_or_insert_with(|| Gradients {
            stream: stream(),
            branch: kernels.activations(rows * branch(form)),
            wide: kernels.activations(rows * wide(form)),
            gated: None,
            compact: None,
        });
        if layout.gated {
            gradients.gated.get_or_insert_with(|| kernels.activations(rows * width));
        }
        if layout.compact.is_some() {
            gradients.compact.get_or_insert_with(stream);
        }
    }
}

/// The widest gradient inside of a block: of its hidden layer, or of queries, keys and values.
fn wide(form: &Form) -> usize {
    form.hidden.max(3 * form.attention_width())
}

/// The widest gradient on either side of a branch's output.
fn branch(form: &Form) -> usize {
    form.width.max(form.attention_width())
}

/// Rows whose logits exist at once.
pub(crate) fn rows_of_logits<K: Kernels>(form: &Form, kernels: &K) -> usize {
    (kernels.elements_at_once() / form.vocabulary).max(LEAST_ROWS).min(form.rows())
}

#[derive(Clone, Debug, Default)]
struct Counts {
    inputs: Count,
    middles: Count,
    qkv: Count,
    mixed: Count,
    normalizers: Count,
    hidden: Count,
    activated: Count,
    moments: Count,
    /// What all blocks that are computed again take turns with, inputs aside.
    recomputed: Option<Slots>,
}

impl Counts {
    fn entry(&mut self, entry: &EntryPlan, plan: &Plan) -> Slots {
        let needs = &entry.needs;
        if entry.is_recomputed(plan.recompute) {
            let input = self.inputs.take(true);
            let slots = self.recomputed.unwrap_or_else(|| self.of_its_own());
            self.recomputed = Some(slots);
            return Slots { input, ..slots };
        }
        let keeps_activated = plan.recompute == Recompute::Nothing && needs.trains.output;
        Slots {
            input: self.inputs.take(needs.keeps_input() || plan.wanted.blocks),
            moments_1: self.moments.take(needs.keeps_input()),
            qkv: self.qkv.take(needs.qkv),
            mixed: self.mixed.take(needs.keeps_mixed()),
            normalizers: self.normalizers.take(needs.qkv),
            middle: self.middles.take(needs.keeps_middle()),
            moments_2: self.moments.take(needs.keeps_middle()),
            hidden: needs.keeps_hidden().then(|| self.hidden.take(true)),
            activated: self.activated.take(keeps_activated),
        }
    }

    fn of_its_own(&mut self) -> Slots {
        Slots {
            input: 0,
            moments_1: self.moments.take(true),
            qkv: self.qkv.take(true),
            mixed: self.mixed.take(true),
            normalizers: self.normalizers.take(true),
            middle: self.middles.take(true),
            moments_2: self.moments.take(true),
            hidden: Some(self.hidden.take(true)),
            activated: self.activated.take(true),
        }
    }
}

/// Buffers of one kind: how many, and which of them is the one for what is not kept.
#[derive(Clone, Debug, Default)]
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

#[cfg(test)]
mod tests {
    use engine::{
        Entry, Execution, LayerId, Recompute, StepPlan, TensorClass, TensorId, Trainable, contract,
    };

    use super::*;
    use crate::proof::Rounded;

    /// What is told before is what is made.
    fn check(plan: &StepPlan) {
        let (shape, stack) = (contract::tiny_shape(), [0, 1, 2].map(LayerId));
        let layout = Layout::new(&Plan::new(&shape, &stack, plan));
        for heads in [1, 2, 5] {
            check_form(&layout, &form(heads), plan);
        }
    }

    fn form(heads: usize) -> Form {
        let (width, hidden, head_width) = (8, 32, 4);
        Form { sequences: 3, length: 5, width, hidden, heads, head_width, vocabulary: 11, epsilon: 1e-5 }
    }

    fn check_form(layout: &Layout, form: &Form, plan: &StepPlan) {
        let arena = Arena::new(layout, form, &Rounded);
        let pools =
            [&arena.inputs, &arena.middles, &arena.qkv, &arena.mixed, &arena.normalizers, &arena.hidden];
        let pools = pools.into_iter().chain([&arena.activated, &arena.moments]).flatten();
        let single = [&arena.normed, &arena.losses, &arena.logits];
        let gradients = arena.gradients.iter().flat_map(|g| {
            [Some(&g.stream), Some(&g.branch), Some(&g.wide), g.gated.as_ref(), g.compact.as_ref()]
        });
        let mut made = Elements { whole: 0, activations: 0 };
        for buffer in pools.chain(single).chain(gradients.flatten()) {
            let of_kind = if buffer.is_activation { &mut made.activations } else { &mut made.whole };
            *of_kind += buffer.values.len();
        }
        assert_eq!(layout.elements(form, &Rounded), made, "{} heads, {plan:?}", form.heads);
    }

    #[test]
    fn what_is_told_before_is_what_is_made() {
        let stack = [0, 1, 2].map(LayerId);
        let all = Trainable::all(&contract::tiny_shape(), &stack);
        let upper: Trainable = all.iter().filter(|id| id.layer == Some(LayerId(2))).collect();
        let bias: Trainable =
            [TensorId::block(LayerId(1), TensorClass("mlp.c_proj.bias"))].into_iter().collect();
        let half = Entry { mlp_gate: 0.5, ..Entry::whole(LayerId(0)) };
        let some = Entry { sequences: Some(vec![true, false, true]), ..Entry::whole(LayerId(2)) };
        for scope in [all, upper, bias, Trainable::default()] {
            for recompute in [Recompute::Nothing, Recompute::Gelu, Recompute::Blocks] {
                let whole = StepPlan { recompute, ..StepPlan::new(scope.clone(), 3) };
                check(&whole);
                let entries = vec![half.clone(), some.clone(), Entry::whole(LayerId(1))];
                check(&StepPlan { execution: Execution::Entries(entries), ..whole });
            }
        }
    }
}
