//! The kernels in f64, but what a device may keep in fewer bits rounded to bfloat16 wherever it is written, and what its products
//! read as well: what a device in bf16 is held against. It differs from such a device by f32's own rounding, and where that makes
//! a number fall to the other side, by one step of bfloat16.

use engine::AdamW;

use crate::Reference;
use crate::kernels::{
    Attended, ClassifierGradients, Comparison, Epilogue, Form, HostTokens, Kernels, Linear, Norm,
    NormGradients, Sink, Tallied, Update, Write, ids_and_tallies_of_the_host,
};
use crate::reference::{self, Factors};

/// The device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rounded;

/// Numbers, and whether a device may keep them in fewer bits.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub(crate) values: Vec<f64>,
    pub(crate) is_activation: bool,
}

impl Buffer {
    /// After it was written.
    fn settle(&mut self) {
        if self.is_activation {
            round(&mut self.values);
        }
    }

    /// As products read it.
    fn factor(&self) -> Vec<f64> {
        let mut values = self.values.clone();
        round(&mut values);
        values
    }
}

fn round(values: &mut [f64]) {
    values.iter_mut().for_each(|value| *value = nearest(*value));
}

/// The nearest number with eight significant bits; of two that are as near, the one whose last bit is 0.
fn nearest(value: f64) -> f64 {
    let bits = value.to_bits();
    // 45 of f64's 52 bits behind the point go.
    let half = (1u64 << 44) - 1 + (bits >> 45 & 1);
    if value.is_finite() { f64::from_bits((bits + half) >> 45 << 45) } else { value }
}

/// Whether attention's weights and the gradients of its scores are factors of products on tensor cores, which read bfloat16; other
/// heads are multiplied in f32.
fn weights_are_rounded(form: &Form) -> bool {
    form.head_width.is_multiple_of(16) && form.head_width <= 128
}

const ROUNDED: Factors = Factors { weight: rounded_weight, factor: nearest };

/// Rounded as a part of the next power of two above the exponential of the largest score. The largest may rise while scores come one
/// after another, without an influence on rounding: a power of two moves the point alone.
fn rounded_weight(score: f64, largest: f64) -> f64 {
    let [score, largest] = [score, largest].map(|score| score * std::f64::consts::LOG2_E);
    nearest((score - largest.ceil()).exp2())
}

fn sink<'a>(sink: &'a mut Option<Sink<'_, Buffer>>) -> Option<Sink<'a, Vec<f64>>> {
    sink.as_mut().map(|Sink { buffer, write }| Sink { buffer: &mut buffer.values, write: *write })
}

fn settle(sink: Option<Sink<'_, Buffer>>) {
    sink.into_iter().for_each(|sink| sink.buffer.settle());
}

impl Kernels for Rounded {
    type Buffer = Buffer;
    ids_and_tallies_of_the_host!();

    fn words(&self) -> String {
        "f64, activations rounded to bfloat16".into()
    }

    fn zeros(&self, len: usize) -> Buffer {
        Buffer { values: vec![0.0; len], is_activation: false }
    }

    fn activations(&self, len: usize) -> Buffer {
        Buffer { values: vec![0.0; len], is_activation: true }
    }

    fn upload(&self, values: &[f32], to: &mut Buffer) {
        Reference.upload(values, &mut to.values);
        to.settle();
    }

    fn download(&self, from: &Buffer, len: usize) -> Vec<f32> {
        Reference.download(&from.values, len)
    }

    fn add_losses(&self, losses: &Buffer, rows: usize, to: &mut Tallied) {
        Reference.add_losses(&losses.values, rows, to);
    }

    fn finish_tally(&self, gradients: &[(&Buffer, usize)], tally: &mut Tallied) -> Tallied {
        let gradients: Vec<_> = gradients.iter().map(|(buffer, len)| (&buffer.values, *len)).collect();
        Reference.finish_tally(&gradients, tally)
    }

    fn bytes(&self, len: usize) -> u64 {
        Reference.bytes(len)
    }

    fn scratch_bytes(&self, form: &Form) -> u64 {
        Reference.scratch_bytes(form)
    }

    fn copy(&self, from: &Buffer, to: &mut Buffer) {
        Reference.copy(&from.values, &mut to.values);
    }

    fn copy_some(&self, from: &Buffer, to: &mut Buffer, len: usize) {
        Reference.copy_some(&from.values, &mut to.values, len);
    }

    fn scale(&self, len: usize, factor: f32, from: &Buffer, to: &mut Buffer) {
        Reference.scale(len, factor, &from.values, &mut to.values);
        to.settle();
    }

    fn gather(&self, form: &Form, sequences: &[usize], from: &Buffer, to: &mut Buffer) {
        Reference.gather(form, sequences, &from.values, &mut to.values);
    }

    fn scatter(&self, form: &Form, sequences: &[usize], from: &Buffer, to: &mut Buffer) {
        Reference.scatter(form, sequences, &from.values, &mut to.values);
    }

    fn compare(&self, a: &Buffer, b: &Buffer, len: usize) -> Comparison {
        Reference.compare(&a.values, &b.values, len)
    }

    fn embed(&self, form: &Form, tokens: &HostTokens, wte: &Buffer, wpe: &Buffer, out: &mut Buffer) {
        Reference.embed(form, tokens, &wte.values, &wpe.values, &mut out.values);
        out.settle();
    }

    fn embed_backward(
        &self,
        form: &Form,
        tokens: &HostTokens,
        gradient: &Buffer,
        mut token_table: Option<Sink<'_, Buffer>>,
        mut position_table: Option<Sink<'_, Buffer>>,
    ) {
        let (tables, positions) = (sink(&mut token_table), sink(&mut position_table));
        Reference.embed_backward(form, tokens, &gradient.values, tables, positions);
    }

    fn layer_norm(
        &self,
        form: &Form,
        x: &Buffer,
        norm: &Norm<'_, Buffer>,
        out: &mut Buffer,
        moments: &mut Buffer,
    ) {
        let norm = Norm { gain: &norm.gain.values, shift: &norm.shift.values };
        Reference.layer_norm(form, &x.values, &norm, &mut out.values, &mut moments.values);
        out.settle();
    }

    fn layer_norm_backward(
        &self,
        form: &Form,
        x: &Buffer,
        moments: &Buffer,
        norm: &Norm<'_, Buffer>,
        gradient: &Buffer,
        NormGradients { mut input, mut normed, mut gain, mut shift }: NormGradients<'_, Buffer>,
    ) {
        let norm = Norm { gain: &norm.gain.values, shift: &norm.shift.values };
        let out = NormGradients {
            input: sink(&mut input),
            normed: normed.as_mut().map(|normed| &mut normed.values),
            gain: sink(&mut gain),
            shift: sink(&mut shift),
        };
        Reference.layer_norm_backward(form, &x.values, &moments.values, &norm, &gradient.values, out);
        settle(input);
        normed.into_iter().for_each(Buffer::settle);
    }

    fn linear(
        &self,
        measures: Linear,
        x: &Buffer,
        weight: &Buffer,
        bias: &Buffer,
        epilogue: Epilogue<'_, Buffer>,
        out: &mut Buffer,
    ) {
        let Linear { rows, outputs, .. } = measures;
        // What follows the product sees it before it is rounded. Of what is added, only the stream's bias is read whole.
        let of_stream = matches!(epilogue, Epilogue::Residual { .. });
        let bias = if of_stream { bias.values.clone() } else { bias.factor() };
        let product = &mut out.values;
        Reference.linear(measures, &x.factor(), &weight.factor(), &bias, Epilogue::Bias, product);
        match epilogue {
            Epilogue::Bias => {}
            Epilogue::Gelu(before) => {
                let unrounded = out.values.clone();
                Reference.gelu(rows * outputs, &unrounded, &mut out.values);
                if let Some(before) = before {
                    before.values[..rows * outputs].copy_from_slice(&unrounded[..rows * outputs]);
                    before.settle();
                }
            }
            Epilogue::Residual { stream, gate } => {
                let pairs = out.values[..rows * outputs].iter_mut().zip(&stream.values);
                pairs.for_each(|(y, x)| *y = f64::from(gate) * *y + x);
            }
        }
        out.settle();
    }

    fn linear_input_gradient(&self, measures: Linear, gradient: &Buffer, weight: &Buffer, out: &mut Buffer) {
        let (gradient, weight) = (gradient.factor(), weight.factor());
        Reference.linear_input_gradient(measures, &gradient, &weight, &mut out.values);
        out.settle();
    }

    fn linear_gelu_input_gradient(
        &self,
        measures: Linear,
        gradient: &Buffer,
        weight: &Buffer,
        before: &Buffer,
        activated: Option<&mut Buffer>,
        out: &mut Buffer,
    ) {
        let (dy, weight, len) = (gradient.factor(), weight.factor(), measures.rows * measures.inputs);
        Reference.linear_gelu_input_gradient(measures, &dy, &weight, &before.values, None, &mut out.values);
        out.settle();
        if let Some(activated) = activated {
            self.gelu(len, before, activated);
        }
    }

    fn linear_parameter_gradients(
        &self,
        measures: Linear,
        x: &Buffer,
        gradient: &Buffer,
        mut weight: Option<Sink<'_, Buffer>>,
        mut bias: Option<Sink<'_, Buffer>>,
    ) {
        let (factor, dy) = (x.factor(), gradient.factor());
        Reference.linear_parameter_gradients(measures, &factor, &dy, sink(&mut weight), None);
        Reference.linear_parameter_gradients(measures, &factor, &gradient.values, None, sink(&mut bias));
    }

    fn gelu(&self, len: usize, before: &Buffer, out: &mut Buffer) {
        Reference.gelu(len, &before.values, &mut out.values);
        out.settle();
    }

    fn attention(&self, form: &Form, qkv: &Buffer, mixed: &mut Buffer, normalizers: &mut Buffer) {
        if weights_are_rounded(form) {
            let (mixed, normalizers) = (&mut mixed.values, &mut normalizers.values);
            reference::attention(form, &ROUNDED, &qkv.values, mixed, normalizers);
        } else {
            Reference.attention(form, &qkv.values, &mut mixed.values, &mut normalizers.values);
        }
        mixed.settle();
    }

    fn attention_backward(
        &self,
        form: &Form,
        forward: &Attended<'_, Buffer>,
        gradient: &Buffer,
        out: &mut Buffer,
    ) {
        let Attended { qkv, mixed, normalizers } = forward;
        let forward = Attended { qkv: &qkv.values, mixed: &mixed.values, normalizers: &normalizers.values };
        if weights_are_rounded(form) {
            reference::attention_backward(form, &ROUNDED, &forward, &gradient.values, &mut out.values);
        } else {
            Reference.attention_backward(form, &forward, &gradient.values, &mut out.values);
        }
        out.settle();
    }

    fn classifier(
        &self,
        form: &Form,
        x: &Buffer,
        weight: &Buffer,
        tokens: &HostTokens,
        scratch: &mut Buffer,
        losses: &mut Buffer,
        mut gradients: Option<ClassifierGradients<'_, Buffer>>,
    ) {
        let (width, vocabulary, table) = (form.width, form.vocabulary, weight.factor());
        let mut row_of_logits = Buffer { values: vec![0.0; vocabulary], ..*scratch };
        for (row, &target) in tokens.targets.iter().enumerate() {
            Reference.logits(form, &x.factor(), row, 1, &table, &mut row_of_logits.values);
            row_of_logits.settle();
            let logits = &mut row_of_logits.values;
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
            losses.values[row] = log_sum - logits[target as usize];
            let Some(gradients) = &mut gradients else { continue };
            let scale = gradients.scale;
            logits.iter_mut().for_each(|logit| *logit = (*logit - log_sum).exp() * scale);
            logits[target as usize] -= scale;
            row_of_logits.settle();
            let one = Linear { rows: 1, inputs: vocabulary, outputs: width };
            if let Some(input) = &mut gradients.input {
                let mut out = vec![0.0; width];
                let none = vec![0.0; width];
                Reference.linear(one, &row_of_logits.values, &table, &none, Epilogue::Bias, &mut out);
                input.values[row * width..][..width].copy_from_slice(&out);
            }
            if let Some(Sink { buffer, write }) = &mut gradients.weight {
                let write = if row > 0 { Write::Add } else { *write };
                let (x, dy) = (&row_of_logits.values, &x.factor()[row * width..][..width].to_vec());
                let sink = Some(Sink { buffer: &mut buffer.values, write });
                Reference.linear_parameter_gradients(one, x, dy, sink, None);
            }
        }
        if let Some(input) = gradients.and_then(|gradients| gradients.input) {
            input.settle();
        }
    }

    fn logits(&self, form: &Form, x: &Buffer, first: usize, rows: usize, weight: &Buffer, out: &mut Buffer) {
        Reference.logits(form, &x.factor(), first, rows, &weight.factor(), &mut out.values);
        out.settle();
    }

    fn adamw(&self, with: &AdamW, tally: &Tallied, tensors: Vec<Update<'_, Buffer>>) {
        let tensors = tensors.into_iter().map(|update| {
            let Update { len, weights, gradient, first, second, updates, decays, rate_factor } = update;
            Update {
                len,
                weights: &mut weights.values,
                gradient: &gradient.values,
                first: &mut first.values,
                second: &mut second.values,
                updates,
                decays,
                rate_factor,
            }
        });
        Reference.adamw(with, tally, tensors.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_eight_significant_bits() {
        for (value, rounded) in [
            (1.0, 1.0),
            (1.0 + 1.0 / 128.0, 1.0 + 1.0 / 128.0),
            // Half-way: the even neighbour.
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 2.0 / 128.0),
            (-1.0 - 1.01 / 256.0, -1.0 - 1.0 / 128.0),
            (255.6, 256.0),
            (0.0, 0.0),
        ] {
            assert_eq!(nearest(value), rounded, "{value}");
        }
    }
}
