//! The forward pass, and the form in which both passes call kernels so that every FLOP is counted.
//!
//! Not here: gradients, and the loss.

use engine::FlopTerms;

use crate::{
    arena::{Arena, Layout, Slots},
    kernels::{Epilogue, Form, Kernels, Linear, Norm},
    plan::{EntryPlan, Plan},
    stack::{Block, Stack},
    statistics::Watch,
};

/// One micro-batch on its way through the stack.
pub(crate) struct Pass<'a, K: Kernels> {
    pub(crate) kernels: &'a K,
    pub(crate) plan: &'a Plan,
    pub(crate) layout: &'a Layout,
    /// Of what is being computed: fewer sequences where a mask lets only some pass.
    pub(crate) form: Form,
    /// Its first sequence in the batch.
    pub(crate) first: usize,
    pub(crate) flops: &'a mut FlopTerms,
    /// Sees what each block does, if anybody wants to know.
    pub(crate) watch: Option<&'a mut Watch>,
}

impl<K: Kernels> Pass<'_, K> {
    /// From tokens to the final norm's output, which it leaves in `arena.normed`.
    pub(crate) fn forward(
        &mut self,
        tokens: &K::Tokens,
        stack: &Stack<K::Buffer>,
        arena: &mut Arena<K::Buffer>,
    ) {
        let (shared, layout) = (&stack.shared, self.layout);
        let bottom = layout.slots.first().map_or(layout.top, |slots| slots.input);
        self.kernels.embed(
            &self.form,
            tokens,
            &shared.token_table.weights,
            &shared.position_table.weights,
            &mut arena.inputs[bottom],
        );
        for (i, entry) in self.plan.entries.iter().enumerate() {
            let above = layout.slots.get(i + 1).map_or(layout.top, |slots| slots.input);
            self.entry(i, entry, &stack.blocks[entry.block], above, arena);
        }
        let norm = Norm { gain: &shared.gain.weights, shift: &shared.shift.weights };
        let moments = &mut arena.moments[layout.top_moments];
        self.kernels.layer_norm(&self.form, &arena.inputs[layout.top], &norm, &mut arena.normed, moments);
    }

    /// A run of a block, for the sequences that pass through it.
    fn entry(
        &mut self,
        i: usize,
        entry: &EntryPlan,
        block: &Block<K::Buffer>,
        above: usize,
        arena: &mut Arena<K::Buffer>,
    ) {
        let slots = self.layout.slots[i];
        let Some(active) = entry.active(self.first, self.form.sequences) else {
            self.block(entry, block, slots, above, arena);
            self.watch_entry(i, [slots.input, above], arena);
            return;
        };
        let whole = self.form;
        if slots.input != above {
            let [from, to] = pair(&mut arena.inputs, slots.input, above);
            self.kernels.copy(from, to);
        }
        if active.is_empty() {
            return;
        }
        let [below, out] = self.gather_input(&active, slots, arena);
        self.form.sequences = active.len();
        self.block(entry, block, Slots { input: below, ..slots }, out, arena);
        self.watch_entry(i, [below, out], arena);
        self.form = whole;
        let [from, to] = pair(&mut arena.inputs, out, above);
        self.kernels.scatter(&whole, &active, from, to);
    }

    /// The stream of the sequences that pass, in a row; answers where it is and where the block's output goes.
    pub(crate) fn gather_input(
        &self,
        active: &[usize],
        slots: Slots,
        arena: &mut Arena<K::Buffer>,
    ) -> [usize; 2] {
        let compact = self.layout.compact.expect("the layout has room for every mask of its plan");
        let [from, to] = pair(&mut arena.inputs, slots.input, compact[0]);
        self.kernels.gather(&self.form, active, from, to);
        compact
    }

    fn watch_entry(&mut self, i: usize, [below, above]: [usize; 2], arena: &Arena<K::Buffer>) {
        let len = self.form.rows() * self.form.width;
        if let Some(watch) = self.watch.as_deref_mut() {
            watch.add(i, self.kernels.compare(&arena.inputs[below], &arena.inputs[above], len), len);
        }
    }

    /// Both branches; a branch that is gated off leaves the stream as it is.
    fn block(
        &mut self,
        entry: &EntryPlan,
        block: &Block<K::Buffer>,
        slots: Slots,
        above: usize,
        arena: &mut Arena<K::Buffer>,
    ) {
        self.inside(entry, block, slots, arena);
        let Arena { middles, inputs, activated, .. } = arena;
        let (middle, output) = (&middles[slots.middle], &mut inputs[above]);
        if entry.entry.mlp_gate == 0.0 {
            self.kernels.copy(middle, output);
            return;
        }
        let [.., weight, bias] = block.tensors.each_ref().map(|param| &param.weights);
        let measures = self.forward_linear(self.form.hidden, self.form.width);
        let residual = Epilogue::Residual { stream: middle, gate: entry.entry.mlp_gate };
        self.kernels.linear(measures, &activated[slots.activated], weight, bias, residual, output);
    }

    /// A block but for its last product: all that its backward pass reads.
    pub(crate) fn inside(
        &mut self,
        entry: &EntryPlan,
        block: &Block<K::Buffer>,
        slots: Slots,
        arena: &mut Arena<K::Buffer>,
    ) {
        if entry.entry.attention_gate == 0.0 {
            self.kernels.copy(&arena.inputs[slots.input], &mut arena.middles[slots.middle]);
        } else {
            self.attention_forward(entry.entry.attention_gate, block, slots, arena);
        }
        if entry.entry.mlp_gate != 0.0 {
            self.hidden_forward(block, slots, arena);
        }
    }

    fn attention_forward(
        &mut self,
        gate: f32,
        block: &Block<K::Buffer>,
        slots: Slots,
        arena: &mut Arena<K::Buffer>,
    ) {
        let [gain, shift, qkv_w, qkv_b, mixed_w, mixed_b, ..] =
            block.tensors.each_ref().map(|param| &param.weights);
        let (kernels, form) = (self.kernels, self.form);
        let (width, attention) = (form.width, form.attention_width());
        let (input, normed) = (&arena.inputs[slots.input], &mut arena.normed);
        let moments = &mut arena.moments[slots.moments_1];
        kernels.layer_norm(&form, input, &Norm { gain, shift }, normed, moments);
        let qkv = &mut arena.qkv[slots.qkv];
        kernels.linear(self.forward_linear(width, 3 * attention), normed, qkv_w, qkv_b, Epilogue::Bias, qkv);
        let mixed = &mut arena.mixed[slots.mixed];
        kernels.attention(&form, qkv, mixed, &mut arena.normalizers[slots.normalizers]);
        self.flops.attention_forward.0 += self.attention_flops();
        let (middle, residual) =
            (&mut arena.middles[slots.middle], Epilogue::Residual { stream: input, gate });
        kernels.linear(self.forward_linear(attention, width), mixed, mixed_w, mixed_b, residual, middle);
    }

    /// The MLP up to its GELU.
    fn hidden_forward(&mut self, block: &Block<K::Buffer>, slots: Slots, arena: &mut Arena<K::Buffer>) {
        let [.., gain, shift, weight, bias, _, _] = block.tensors.each_ref().map(|param| &param.weights);
        let (kernels, Form { width, hidden, .. }) = (self.kernels, self.form);
        let (middle, normed) = (&arena.middles[slots.middle], &mut arena.normed);
        let moments = &mut arena.moments[slots.moments_2];
        kernels.layer_norm(&self.form, middle, &Norm { gain, shift }, normed, moments);
        let gelu = Epilogue::Gelu(slots.hidden.map(|slot| &mut arena.hidden[slot]));
        let activated = &mut arena.activated[slots.activated];
        kernels.linear(self.forward_linear(width, hidden), normed, weight, bias, gelu, activated);
    }

    /// The measures of a block's linear map, whose forward pass is counted.
    fn forward_linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        let measures = self.linear(inputs, outputs);
        self.flops.block_forward.0 += flops(measures);
        measures
    }

    pub(crate) fn linear(&self, inputs: usize, outputs: usize) -> Linear {
        Linear { rows: self.form.rows(), inputs, outputs }
    }

    /// Causal attention's forward pass: scores and values, each over `T (T + 1) / 2` pairs of a sequence.
    pub(crate) fn attention_flops(&self) -> u128 {
        let Form { sequences, length, .. } = self.form;
        2 * (self.form.attention_width() * length * (length + 1) * sequences) as u128
    }
}

/// Two buffers of a pool, the first to read and the second to write.
fn pair<B>(pool: &mut [B], from: usize, to: usize) -> [&mut B; 2] {
    pool.get_disjoint_mut([from, to]).expect("the layout keeps apart what is copied")
}

/// One product of a linear map: its output, its input's gradient or its weight's.
pub(crate) fn flops(Linear { rows, inputs, outputs }: Linear) -> u128 {
    2 * (rows * inputs) as u128 * outputs as u128
}
