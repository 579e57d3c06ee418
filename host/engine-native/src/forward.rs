//! The forward pass, and the form in which both passes call kernels so that every FLOP is counted.
//!
//! Not here: gradients, and the loss.

use engine::FlopTerms;

use crate::{
    arena::{Arena, Slots},
    kernels::{Epilogue, Form, Kernels, Linear, Norm},
    stack::{Block, Stack},
};

/// One micro-batch on its way through the stack.
pub(crate) struct Pass<'a, K> {
    pub(crate) kernels: &'a K,
    pub(crate) form: Form,
    pub(crate) flops: &'a mut FlopTerms,
}

impl<K: Kernels> Pass<'_, K> {
    /// From tokens to the final norm's output, which it leaves in `arena.normed`.
    pub(crate) fn forward(&mut self, tokens: &[u32], stack: &Stack<K::Buffer>, arena: &mut Arena<K::Buffer>) {
        let shared = &stack.shared;
        let bottom = arena.slots.first().map_or(arena.top, |slots| slots.input);
        self.kernels.embed(
            &self.form,
            tokens,
            &shared.token_table.weights,
            &shared.position_table.weights,
            &mut arena.inputs[bottom],
        );
        for (position, block) in stack.blocks.iter().enumerate() {
            let slots = arena.slots[position];
            let above = arena.slots.get(position + 1).map_or(arena.top, |slots| slots.input);
            self.block(block, slots, above, arena);
        }
        let norm = Norm { gain: &shared.gain.weights, shift: &shared.shift.weights };
        let moments = &mut arena.moments[arena.top_moments];
        self.kernels.layer_norm(&self.form, &arena.inputs[arena.top], &norm, &mut arena.normed, moments);
    }

    fn block(&mut self, block: &Block<K::Buffer>, slots: Slots, above: usize, arena: &mut Arena<K::Buffer>) {
        let [
            gain_1,
            shift_1,
            qkv_w,
            qkv_b,
            mixed_w,
            mixed_b,
            gain_2,
            shift_2,
            hidden_w,
            hidden_b,
            out_w,
            out_b,
        ] = block.tensors.each_ref().map(|param| &param.weights);
        let (kernels, form, width) = (self.kernels, self.form, self.form.width);
        let Arena { normed, activated, .. } = arena;

        let (input, moments) = (&arena.inputs[slots.input], &mut arena.moments[slots.moments_1]);
        kernels.layer_norm(&form, input, &Norm { gain: gain_1, shift: shift_1 }, normed, moments);
        let qkv = &mut arena.qkv[slots.qkv];
        kernels.linear(self.forward_linear(width, 3 * width), normed, qkv_w, qkv_b, Epilogue::Bias, qkv);
        let (mixed, normalizers) = (&mut arena.mixed[slots.mixed], &mut arena.normalizers[slots.normalizers]);
        kernels.attention(&form, qkv, mixed, normalizers);
        self.flops.attention_forward.0 += self.attention_flops();
        let (middle, residual) = (&mut arena.middles[slots.middle], Epilogue::Residual(input));
        kernels.linear(self.forward_linear(width, width), mixed, mixed_w, mixed_b, residual, middle);

        let moments = &mut arena.moments[slots.moments_2];
        kernels.layer_norm(&form, middle, &Norm { gain: gain_2, shift: shift_2 }, normed, moments);
        let gelu = Epilogue::Gelu(slots.hidden.map(|slot| &mut arena.hidden[slot]));
        kernels.linear(self.forward_linear(width, 4 * width), normed, hidden_w, hidden_b, gelu, activated);
        let (output, residual) = (&mut arena.inputs[above], Epilogue::Residual(middle));
        kernels.linear(self.forward_linear(4 * width, width), activated, out_w, out_b, residual, output);
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
        let Form { sequences, length, width, .. } = self.form;
        2 * (width * length * (length + 1) * sequences) as u128
    }
}

/// One product of a linear map: its output, its input's gradient or its weight's.
pub(crate) fn flops(Linear { rows, inputs, outputs }: Linear) -> u128 {
    2 * (rows * inputs) as u128 * outputs as u128
}
