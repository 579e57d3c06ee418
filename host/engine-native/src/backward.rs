//! The classifier and the backward pass: as far down as something trains, and no further.
//!
//! Not here: what has to be kept for it (plan), and the optimizer.

use engine::{FlopTerms, Recompute};

use crate::{
    arena::{Arena, Gradients, Slots},
    forward::{Pass, flops},
    kernels::{Attended, ClassifierGradients, Kernels, Linear, Norm, NormGradients, Sink, Write},
    param::{Param, sink},
    plan::EntryPlan,
    stack::{Block, Stack},
};

/// What a micro-batch adds to the gradient of the step.
pub(crate) struct Share<'a, T> {
    pub(crate) tokens: &'a T,
    pub(crate) tokens_of_step: u64,
}

impl<K: Kernels> Pass<'_, K> {
    /// After [`Pass::forward`]: losses in `arena.losses`, gradients in the stack's tensors.
    pub(crate) fn backward(
        &mut self,
        share: &Share<'_, K::Tokens>,
        stack: &mut Stack<K::Buffer>,
        arena: &mut Arena<K::Buffer>,
    ) {
        self.classifier(share, stack, arena);
        if !self.plan.head_input {
            return;
        }
        // The gradients leave the arena for the time of the pass, so that both can be borrowed.
        let Some(mut gradients) = arena.gradients.take() else { return };
        self.final_norm(stack, arena, &mut gradients);
        for (i, entry) in self.plan.entries.iter().enumerate().rev() {
            if !entry.needs.output {
                break;
            }
            self.entry_backward(i, entry, &mut stack.blocks[entry.block], arena, &mut gradients);
        }
        if self.plan.embeddings {
            let shared = &mut stack.shared;
            // The tied head has written to the token table's gradient before.
            let token_table = sink(&mut shared.token_table.gradient);
            let position_table = sink(&mut shared.position_table.gradient);
            let gradient = &gradients.stream;
            self.kernels.embed_backward(&self.form, share.tokens, gradient, token_table, position_table);
        }
        arena.gradients = Some(gradients);
    }

    fn classifier(
        &mut self,
        share: &Share<'_, K::Tokens>,
        stack: &mut Stack<K::Buffer>,
        arena: &mut Arena<K::Buffer>,
    ) {
        let table = &mut stack.shared.token_table;
        let product = flops(self.linear(self.form.width, self.form.vocabulary));
        self.flops.head_forward.0 += product;
        self.flops.head_input_gradient.0 += if self.plan.head_input { product } else { 0 };
        self.flops.head_weight_gradient.0 += if table.gradient.is_some() { product } else { 0 };
        let wanted = arena.gradients.as_mut().filter(|_| self.plan.head_input);
        let gradients = wanted.map(|gradients| ClassifierGradients {
            scale: 1.0 / share.tokens_of_step as f64,
            input: Some(&mut gradients.branch),
            weight: sink(&mut table.gradient),
        });
        let (scratch, losses) = (&mut arena.logits, &mut arena.losses);
        let (x, weight) = (&arena.normed, &table.weights);
        self.kernels.classifier(&self.form, x, weight, share.tokens, scratch, losses, gradients);
    }

    fn final_norm(
        &mut self,
        stack: &mut Stack<K::Buffer>,
        arena: &mut Arena<K::Buffer>,
        gradients: &mut Gradients<K::Buffer>,
    ) {
        let shared = &mut stack.shared;
        let norm = Norm { gain: &shared.gain.weights, shift: &shared.shift.weights };
        let stream = Sink { buffer: &mut gradients.stream, write: Write::Replace };
        let out = NormGradients {
            input: self.plan.top.then_some(stream),
            normed: None,
            gain: sink(&mut shared.gain.gradient),
            shift: sink(&mut shared.shift.gradient),
        };
        let (x, moments) = (&arena.inputs[self.layout.top], &arena.moments[self.layout.top_moments]);
        self.kernels.layer_norm_backward(&self.form, x, moments, &norm, &gradients.branch, out);
    }

    /// A run of a block, for the sequences that passed through it; the gradient of all others stays.
    fn entry_backward(
        &mut self,
        i: usize,
        entry: &EntryPlan,
        block: &mut Block<K::Buffer>,
        arena: &mut Arena<K::Buffer>,
        gradients: &mut Gradients<K::Buffer>,
    ) {
        let slots = self.layout.slots[i];
        let Some(active) = entry.active(self.first, self.form.sequences) else {
            self.block_backward(entry, block, slots, arena, gradients);
            return;
        };
        if active.is_empty() {
            return;
        }
        let whole = self.form;
        let [below, _] = self.gather_input(&active, slots, arena);
        let mut compact = gradients.compact.take().expect("the layout has room for every mask of its plan");
        self.kernels.gather(&whole, &active, &gradients.stream, &mut compact);
        std::mem::swap(&mut gradients.stream, &mut compact);
        self.form.sequences = active.len();
        self.block_backward(entry, block, Slots { input: below, ..slots }, arena, gradients);
        self.form = whole;
        std::mem::swap(&mut gradients.stream, &mut compact);
        self.kernels.scatter(&whole, &active, &compact, &mut gradients.stream);
        gradients.compact = Some(compact);
    }

    fn block_backward(
        &mut self,
        entry: &EntryPlan,
        block: &mut Block<K::Buffer>,
        slots: Slots,
        arena: &mut Arena<K::Buffer>,
        gradients: &mut Gradients<K::Buffer>,
    ) {
        if entry.is_recomputed(self.plan.recompute) {
            self.recompute(entry, block, slots, arena);
        }
        if entry.entry.mlp_gate != 0.0 {
            self.mlp_branch(entry, block, slots, arena, gradients);
        }
        if entry.needs.middle && entry.entry.attention_gate != 0.0 {
            self.attention_branch(entry, block, slots, arena, gradients);
        }
    }

    /// The forward pass once more, for what the backward pass reads. It is no cost of the method: not counted.
    fn recompute(
        &mut self,
        entry: &EntryPlan,
        block: &Block<K::Buffer>,
        slots: Slots,
        arena: &mut Arena<K::Buffer>,
    ) {
        let mut uncounted = FlopTerms::default();
        let mut again = Pass {
            kernels: self.kernels,
            plan: self.plan,
            layout: self.layout,
            form: self.form,
            first: self.first,
            flops: &mut uncounted,
            watch: None,
        };
        again.inside(entry, block, slots, arena);
    }

    /// From the gradient of the block's output to that of the stream between the branches.
    fn mlp_branch(
        &mut self,
        EntryPlan { entry, needs, .. }: &EntryPlan,
        block: &mut Block<K::Buffer>,
        slots: Slots,
        arena: &mut Arena<K::Buffer>,
        Gradients { stream, branch, wide, gated, .. }: &mut Gradients<K::Buffer>,
    ) {
        let [.., gain, shift, hidden_w, hidden_b, out_w, out_b] = &mut *block.tensors;
        let (kernels, form, width) = (self.kernels, self.form, self.form.width);
        let Arena { normed, hidden, activated, .. } = arena;
        let activated = &mut activated[slots.activated];
        let output = self.linear(form.hidden, width);
        let dy = self.branch_gradient(entry.mlp_gate, stream, gated);
        // Whether the forward pass has left the GELU's output where it is read here.
        let kept = self.plan.recompute != Recompute::Gelu;
        if let Some(before) = slots.hidden.map(|slot| &hidden[slot]) {
            if needs.hidden {
                let activated = (needs.trains.output && !kept).then_some(&mut *activated);
                self.count_input(output);
                kernels.linear_gelu_input_gradient(output, dy, &out_w.weights, before, activated, wide);
            } else if !kept {
                kernels.gelu(form.rows() * form.hidden, before, activated);
            }
        }
        self.parameter_gradients(output, activated, dy, [out_w, out_b]);
        if !needs.hidden {
            return;
        }

        let inner = self.linear(width, form.hidden);
        let (x, moments) = (&arena.middles[slots.middle], &mut arena.moments[slots.moments_2]);
        let norm = Norm { gain: &gain.weights, shift: &shift.weights };
        if needs.norm_2 {
            self.input_gradient(inner, wide, hidden_w, branch);
            let out = NormGradients {
                input: needs.middle.then_some(Sink { buffer: stream, write: Write::Add }),
                normed: needs.trains.hidden.then_some(&mut *normed),
                gain: sink(&mut gain.gradient),
                shift: sink(&mut shift.gradient),
            };
            kernels.layer_norm_backward(&form, x, moments, &norm, branch, out);
        } else if needs.trains.hidden {
            kernels.layer_norm(&form, x, &norm, normed, moments);
        }
        self.parameter_gradients(inner, normed, wide, [hidden_w, hidden_b]);
    }

    /// From the gradient of the stream between the branches to that of the block's input.
    fn attention_branch(
        &mut self,
        EntryPlan { entry, needs, .. }: &EntryPlan,
        block: &mut Block<K::Buffer>,
        slots: Slots,
        arena: &mut Arena<K::Buffer>,
        Gradients { stream, branch, wide, gated, .. }: &mut Gradients<K::Buffer>,
    ) {
        let [gain, shift, qkv_w, qkv_b, mixed_w, mixed_b, ..] = &mut *block.tensors;
        let (kernels, form) = (self.kernels, self.form);
        let (width, attention) = (form.width, form.attention_width());
        let (mixed, normed) = (&arena.mixed[slots.mixed], &mut arena.normed);
        let output = self.linear(attention, width);
        let dy = self.branch_gradient(entry.attention_gate, stream, gated);
        if needs.qkv {
            self.input_gradient(output, dy, mixed_w, branch);
        }
        self.parameter_gradients(output, mixed, dy, [mixed_w, mixed_b]);
        if !needs.qkv {
            return;
        }
        let normalizers = &arena.normalizers[slots.normalizers];
        let forward = Attended { qkv: &arena.qkv[slots.qkv], mixed, normalizers };
        kernels.attention_backward(&form, &forward, branch, wide);
        self.flops.attention_backward.0 += 2 * self.attention_flops();

        let inner = self.linear(width, 3 * attention);
        let (x, moments) = (&arena.inputs[slots.input], &mut arena.moments[slots.moments_1]);
        let norm = Norm { gain: &gain.weights, shift: &shift.weights };
        if needs.norm_1 {
            self.input_gradient(inner, wide, qkv_w, branch);
            let out = NormGradients {
                input: needs.input.then_some(Sink { buffer: stream, write: Write::Add }),
                normed: needs.trains.qkv.then_some(&mut *normed),
                gain: sink(&mut gain.gradient),
                shift: sink(&mut shift.gradient),
            };
            kernels.layer_norm_backward(&form, x, moments, &norm, branch, out);
        } else if needs.trains.qkv {
            kernels.layer_norm(&form, x, &norm, normed, moments);
        }
        self.parameter_gradients(inner, normed, wide, [qkv_w, qkv_b]);
    }

    /// The gradient of a branch's output: that of the stream, times the gate.
    fn branch_gradient<'g>(
        &self,
        gate: f32,
        stream: &'g K::Buffer,
        gated: &'g mut Option<K::Buffer>,
    ) -> &'g K::Buffer {
        if gate == 1.0 {
            return stream;
        }
        let gated = gated.as_mut().expect("the layout has room for every gate of its plan");
        self.kernels.scale(self.form.rows() * self.form.width, gate, stream, gated);
        gated
    }

    /// Back through a block's linear map, which is counted.
    fn input_gradient(
        &mut self,
        measures: Linear,
        gradient: &K::Buffer,
        weight: &Param<K::Buffer>,
        out: &mut K::Buffer,
    ) {
        self.count_input(measures);
        self.kernels.linear_input_gradient(measures, gradient, &weight.weights, out);
    }

    fn count_input(&mut self, measures: Linear) {
        self.flops.block_input_gradient.0 += flops(measures);
    }

    /// What a block's linear map leaves in the gradients of its weight and bias, each if it trains; the product for
    /// the weight is counted.
    fn parameter_gradients(
        &mut self,
        measures: Linear,
        x: &K::Buffer,
        gradient: &K::Buffer,
        [weight, bias]: [&mut Param<K::Buffer>; 2],
    ) {
        self.flops.block_weight_gradient.0 += if weight.gradient.is_some() { flops(measures) } else { 0 };
        let (weight, bias) = (sink(&mut weight.gradient), sink(&mut bias.gradient));
        self.kernels.linear_parameter_gradients(measures, x, gradient, weight, bias);
    }
}
