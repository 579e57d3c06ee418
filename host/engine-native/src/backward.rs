//! The classifier and the backward pass: as far down as something trains, and no further.
//!
//! Not here: what has to be kept for it (plan), and the optimizer.

use crate::{
    arena::{Arena, Gradients, Slots},
    forward::{Pass, flops},
    kernels::{Attended, ClassifierGradients, Kernels, Linear, Norm, NormGradients, Sink, Write},
    param::sink,
    plan::{BlockPlan, Plan},
    stack::{Block, Stack},
};

/// What a micro-batch adds to the gradient of the step.
pub(crate) struct Share<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) targets: &'a [u32],
    pub(crate) tokens_of_step: u64,
    /// Whether it is the first of its step, so that earlier gradients are forgotten.
    pub(crate) write: Write,
}

impl<K: Kernels> Pass<'_, K> {
    /// After [`Pass::forward`]: losses in `arena.losses`, gradients in the stack's tensors.
    pub(crate) fn backward(
        &mut self,
        share: &Share<'_>,
        plan: &Plan,
        stack: &mut Stack<K::Buffer>,
        arena: &mut Arena<K::Buffer>,
    ) {
        self.classifier(share, stack, arena);
        // The gradients leave the arena for the time of the pass, so that both can be borrowed.
        let Some(mut gradients) = arena.gradients.take() else { return };
        self.final_norm(share.write, plan, stack, arena, &mut gradients);
        for ((block, plan), &slots) in
            stack.blocks.iter_mut().zip(&plan.blocks).zip(&arena.slots.clone()).rev()
        {
            if !plan.output {
                break;
            }
            self.mlp_branch(share.write, block, plan, slots, arena, &mut gradients);
            if plan.middle {
                self.attention_branch(share.write, block, plan, slots, arena, &mut gradients);
            }
        }
        if plan.embeddings {
            let shared = &mut stack.shared;
            // The tied head has written to the token table's gradient before.
            let token_table = sink(&mut shared.token_table.gradient, Write::Add);
            let position_table = sink(&mut shared.position_table.gradient, share.write);
            let gradient = &gradients.stream;
            self.kernels.embed_backward(&self.form, share.tokens, gradient, token_table, position_table);
        }
        arena.gradients = Some(gradients);
    }

    fn classifier(&mut self, share: &Share<'_>, stack: &mut Stack<K::Buffer>, arena: &mut Arena<K::Buffer>) {
        let table = &mut stack.shared.token_table;
        let product = flops(self.linear(self.form.width, self.form.vocabulary));
        self.flops.head_forward.0 += product;
        self.flops.head_input_gradient.0 += if arena.gradients.is_some() { product } else { 0 };
        self.flops.head_weight_gradient.0 += if table.gradient.is_some() { product } else { 0 };
        let gradients = arena.gradients.as_mut().map(|gradients| ClassifierGradients {
            scale: 1.0 / share.tokens_of_step as f64,
            input: Some(&mut gradients.branch),
            weight: sink(&mut table.gradient, share.write),
        });
        let (scratch, losses) = (&mut arena.logits, &mut arena.losses);
        let (x, weight) = (&arena.normed, &table.weights);
        self.kernels.classifier(&self.form, x, weight, share.targets, scratch, losses, gradients);
    }

    fn final_norm(
        &mut self,
        write: Write,
        plan: &Plan,
        stack: &mut Stack<K::Buffer>,
        arena: &mut Arena<K::Buffer>,
        gradients: &mut Gradients<K::Buffer>,
    ) {
        let shared = &mut stack.shared;
        let norm = Norm { gain: &shared.gain.weights, shift: &shared.shift.weights };
        let stream = Sink { buffer: &mut gradients.stream, write: Write::Replace };
        let out = NormGradients {
            input: plan.top.then_some(stream),
            normed: None,
            gain: sink(&mut shared.gain.gradient, write),
            shift: sink(&mut shared.shift.gradient, write),
        };
        let (x, moments) = (&arena.inputs[arena.top], &arena.moments[arena.top_moments]);
        self.kernels.layer_norm_backward(&self.form, x, moments, &norm, &gradients.branch, out);
    }

    /// From the gradient of the block's output to that of the stream between the branches.
    fn mlp_branch(
        &mut self,
        write: Write,
        block: &mut Block<K::Buffer>,
        plan: &BlockPlan,
        slots: Slots,
        arena: &mut Arena<K::Buffer>,
        Gradients { stream, branch, wide }: &mut Gradients<K::Buffer>,
    ) {
        let [.., gain, shift, hidden_w, hidden_b, out_w, out_b] = &mut *block.tensors;
        let (kernels, form, width) = (self.kernels, self.form, self.form.width);
        let Arena { normed, activated, hidden, .. } = arena;
        let output = self.linear(4 * width, width);
        if let Some(before) = slots.hidden.map(|slot| &hidden[slot]) {
            if plan.hidden {
                let activated = plan.trains.output.then_some(&mut *activated);
                self.count_input(output);
                kernels.linear_gelu_input_gradient(output, stream, &out_w.weights, before, activated, wide);
            } else {
                kernels.gelu(form.rows() * 4 * width, before, activated);
            }
        }
        self.count_weight(output, plan.trains.output);
        let (weight, bias) = (sink(&mut out_w.gradient, write), sink(&mut out_b.gradient, write));
        kernels.linear_parameter_gradients(output, activated, stream, weight, bias);
        if !plan.hidden {
            return;
        }

        let inner = self.linear(width, 4 * width);
        let (x, moments) = (&arena.middles[slots.middle], &mut arena.moments[slots.moments_2]);
        let norm = Norm { gain: &gain.weights, shift: &shift.weights };
        if plan.norm_2 {
            self.count_input(inner);
            kernels.linear_input_gradient(inner, wide, &hidden_w.weights, branch);
            let out = NormGradients {
                input: plan.middle.then_some(Sink { buffer: stream, write: Write::Add }),
                normed: plan.trains.hidden.then_some(&mut *normed),
                gain: sink(&mut gain.gradient, write),
                shift: sink(&mut shift.gradient, write),
            };
            kernels.layer_norm_backward(&form, x, moments, &norm, branch, out);
        } else if plan.trains.hidden {
            kernels.layer_norm(&form, x, &norm, normed, moments);
        }
        self.count_weight(inner, plan.trains.hidden);
        let (weight, bias) = (sink(&mut hidden_w.gradient, write), sink(&mut hidden_b.gradient, write));
        kernels.linear_parameter_gradients(inner, normed, wide, weight, bias);
    }

    /// From the gradient of the stream between the branches to that of the block's input.
    fn attention_branch(
        &mut self,
        write: Write,
        block: &mut Block<K::Buffer>,
        plan: &BlockPlan,
        slots: Slots,
        arena: &mut Arena<K::Buffer>,
        Gradients { stream, branch, wide }: &mut Gradients<K::Buffer>,
    ) {
        let [gain, shift, qkv_w, qkv_b, mixed_w, mixed_b, ..] = &mut *block.tensors;
        let (kernels, form, width) = (self.kernels, self.form, self.form.width);
        let (mixed, normed) = (&arena.mixed[slots.mixed], &mut arena.normed);
        let output = self.linear(width, width);
        if plan.qkv {
            self.count_input(output);
            kernels.linear_input_gradient(output, stream, &mixed_w.weights, branch);
        }
        self.count_weight(output, plan.trains.mixed);
        let (weight, bias) = (sink(&mut mixed_w.gradient, write), sink(&mut mixed_b.gradient, write));
        kernels.linear_parameter_gradients(output, mixed, stream, weight, bias);
        if !plan.qkv {
            return;
        }
        let forward = Attended {
            qkv: &arena.qkv[slots.qkv],
            mixed,
            normalizers: &arena.normalizers[slots.normalizers],
        };
        kernels.attention_backward(&form, &forward, branch, wide);
        self.flops.attention_backward.0 += 2 * self.attention_flops();

        let inner = self.linear(width, 3 * width);
        let (x, moments) = (&arena.inputs[slots.input], &mut arena.moments[slots.moments_1]);
        let norm = Norm { gain: &gain.weights, shift: &shift.weights };
        if plan.norm_1 {
            self.count_input(inner);
            kernels.linear_input_gradient(inner, wide, &qkv_w.weights, branch);
            let out = NormGradients {
                input: plan.input.then_some(Sink { buffer: stream, write: Write::Add }),
                normed: plan.trains.qkv.then_some(&mut *normed),
                gain: sink(&mut gain.gradient, write),
                shift: sink(&mut shift.gradient, write),
            };
            kernels.layer_norm_backward(&form, x, moments, &norm, branch, out);
        } else if plan.trains.qkv {
            kernels.layer_norm(&form, x, &norm, normed, moments);
        }
        self.count_weight(inner, plan.trains.qkv);
        let (weight, bias) = (sink(&mut qkv_w.gradient, write), sink(&mut qkv_b.gradient, write));
        kernels.linear_parameter_gradients(inner, normed, wide, weight, bias);
    }

    fn count_input(&mut self, measures: Linear) {
        self.flops.block_input_gradient.0 += flops(measures);
    }

    fn count_weight(&mut self, measures: Linear, trains: bool) {
        self.flops.block_weight_gradient.0 += if trains { flops(measures) } else { 0 };
    }
}
