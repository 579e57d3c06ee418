//! The CPU in f32: products by a library, everything else vectorised for the level that the processor has.
//!
//! Threads are those of the rayon pool that the caller runs in; no result depends on how many there are.
//! Not here: the kernels, one module each.

mod adamw;
mod attention;
mod buffer;
mod classifier;
mod elements;
mod embed;
mod level;
mod linear;
mod math;
mod norm;
mod parts;
mod product;
mod transpose;

use std::sync::{Mutex, PoisonError};

use engine::AdamW;

use self::{buffer::Buffer, level::Available};
use crate::kernels::{
    Attended, ClassifierGradients, Comparison, Epilogue, Form, HostTokens, Kernels, Linear, Norm,
    NormGradients, Sink, Tallied, Update, ids_and_tallies_of_the_host,
};

pub use level::Level;

/// Holds vector instructions back: `sse2`, `avx2` or `avx512`.
const VARIABLE: &str = "SAPWOOD_CPU";

/// The CPU device.
#[derive(Debug)]
pub struct Cpu {
    available: Available,
    /// Partial sums of gradients, kept from call to call.
    partials: Mutex<Vec<f32>>,
    /// A weight's transpose, for the time of one call.
    transposed: Mutex<Vec<f32>>,
}

impl Default for Cpu {
    fn default() -> Cpu {
        Cpu::new()
    }
}

impl Cpu {
    /// The best instructions that the processor has, unless the environment holds them back.
    pub fn new() -> Cpu {
        let most = match std::env::var(VARIABLE).as_deref() {
            Ok("sse2") => Level::Baseline,
            Ok("avx2") => Level::Avx2,
            _ => Level::Avx512,
        };
        Cpu::at_most(most)
    }

    /// The best instructions that the processor has and that are no wider than `most`.
    pub fn at_most(most: Level) -> Cpu {
        Cpu { available: Available::at_most(most), partials: Mutex::default(), transposed: Mutex::default() }
    }

    /// The instructions in use.
    pub fn level(&self) -> Level {
        self.available.level()
    }
}

/// `c = a b` on the calling thread, row-major.
pub(crate) fn multiply(cpu: &Cpu, measures: [usize; 3], a: &[f32], b: &[f32], c: &mut [f32]) {
    product::whole(cpu.available, measures, a, b, c);
}

impl Kernels for Cpu {
    type Buffer = Buffer;
    ids_and_tallies_of_the_host!();

    fn words(&self) -> String {
        let level = match self.level() {
            Level::Baseline if cfg!(target_arch = "x86_64") => "SSE2",
            Level::Baseline => "baseline",
            Level::Avx2 => "AVX2",
            Level::Avx512 => "AVX-512",
        };
        format!("cpu (f32, {level})")
    }

    fn zeros(&self, len: usize) -> Buffer {
        Buffer::zeros(len)
    }

    fn upload(&self, values: &[f32], to: &mut Buffer) {
        to[..values.len()].copy_from_slice(values);
    }

    fn download(&self, from: &Buffer, len: usize) -> Vec<f32> {
        from[..len].to_vec()
    }

    fn add_losses(&self, losses: &Buffer, rows: usize, to: &mut Tallied) {
        to.loss_nats += losses[..rows].iter().map(|&loss| f64::from(loss)).sum::<f64>();
    }

    fn finish_tally(&self, gradients: &[(&Buffer, usize)], tally: &mut Tallied) -> Tallied {
        tally.squared_norm = adamw::squared_norm(self.available, gradients);
        *tally
    }

    fn bytes(&self, len: usize) -> u64 {
        4 * len as u64
    }

    fn scratch_bytes(&self, form: &Form) -> u64 {
        // The largest transposed weight, and the norms' partial sums.
        self.bytes(form.hidden.max(3 * form.attention_width()) * form.width + norm::partials(form))
    }

    fn copy(&self, from: &Buffer, to: &mut Buffer) {
        to.copy_from_slice(from);
    }

    fn copy_some(&self, from: &Buffer, to: &mut Buffer, len: usize) {
        to[..len].copy_from_slice(&from[..len]);
    }

    fn scale(&self, len: usize, factor: f32, from: &Buffer, to: &mut Buffer) {
        elements::scale(self.available, factor, &from[..len], &mut to[..len]);
    }

    fn gather(&self, form: &Form, sequences: &[usize], from: &Buffer, to: &mut Buffer) {
        elements::gather(form.length * form.width, sequences, from, to);
    }

    fn scatter(&self, form: &Form, sequences: &[usize], from: &Buffer, to: &mut Buffer) {
        elements::scatter(form.length * form.width, sequences, from, to);
    }

    fn compare(&self, a: &Buffer, b: &Buffer, len: usize) -> Comparison {
        elements::compare(self.available, &a[..len], &b[..len])
    }

    fn embed(&self, form: &Form, tokens: &HostTokens, wte: &Buffer, wpe: &Buffer, out: &mut Buffer) {
        embed::forward(form, &tokens.inputs, wte, wpe, out);
    }

    fn embed_backward(
        &self,
        form: &Form,
        tokens: &HostTokens,
        gradient: &Buffer,
        token_table: Option<Sink<'_, Buffer>>,
        position_table: Option<Sink<'_, Buffer>>,
    ) {
        embed::backward(form, &tokens.inputs, gradient, token_table, position_table);
    }

    fn layer_norm(
        &self,
        form: &Form,
        x: &Buffer,
        norm: &Norm<'_, Buffer>,
        out: &mut Buffer,
        moments: &mut Buffer,
    ) {
        norm::forward(self.available, form, x, norm, out, moments);
    }

    fn layer_norm_backward(
        &self,
        form: &Form,
        x: &Buffer,
        moments: &Buffer,
        norm: &Norm<'_, Buffer>,
        gradient: &Buffer,
        out: NormGradients<'_, Buffer>,
    ) {
        let mut partials = self.partials.lock().unwrap_or_else(PoisonError::into_inner);
        norm::backward(self.available, form, x, moments, norm, gradient, out, &mut partials);
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
        linear::forward(self.available, measures, x, weight, bias, epilogue, out);
    }

    fn linear_input_gradient(&self, measures: Linear, gradient: &Buffer, weight: &Buffer, out: &mut Buffer) {
        let mut transposed = self.transposed.lock().unwrap_or_else(PoisonError::into_inner);
        linear::input_gradient(self.available, measures, gradient, weight, None, out, &mut transposed);
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
        let gelu = Some((&before[..], activated));
        let mut transposed = self.transposed.lock().unwrap_or_else(PoisonError::into_inner);
        linear::input_gradient(self.available, measures, gradient, weight, gelu, out, &mut transposed);
    }

    fn linear_parameter_gradients(
        &self,
        measures: Linear,
        x: &Buffer,
        gradient: &Buffer,
        weight: Option<Sink<'_, Buffer>>,
        bias: Option<Sink<'_, Buffer>>,
    ) {
        linear::parameter_gradients(self.available, measures, x, gradient, weight, bias);
    }

    fn gelu(&self, len: usize, before: &Buffer, out: &mut Buffer) {
        linear::gelu_forward(self.available, &before[..len], &mut out[..len]);
    }

    fn attention(&self, form: &Form, qkv: &Buffer, mixed: &mut Buffer, normalizers: &mut Buffer) {
        attention::forward(self.available, form, qkv, mixed, normalizers);
    }

    fn attention_backward(
        &self,
        form: &Form,
        forward: &Attended<'_, Buffer>,
        gradient: &Buffer,
        out: &mut Buffer,
    ) {
        attention::backward(self.available, form, attention::slices(forward), gradient, out);
    }

    fn classifier(
        &self,
        form: &Form,
        x: &Buffer,
        weight: &Buffer,
        tokens: &HostTokens,
        scratch: &mut Buffer,
        losses: &mut Buffer,
        gradients: Option<ClassifierGradients<'_, Buffer>>,
    ) {
        let targets = &tokens.targets;
        classifier::losses(self.available, form, x, weight, targets, scratch, losses, gradients);
    }

    fn logits(&self, form: &Form, x: &Buffer, first: usize, rows: usize, weight: &Buffer, out: &mut Buffer) {
        let x = &x[first * form.width..(first + rows) * form.width];
        classifier::logits(self.available, form, x, weight, &mut out[..rows * form.vocabulary]);
    }

    fn adamw(&self, with: &AdamW, tally: &Tallied, tensors: Vec<Update<'_, Buffer>>) {
        if tally.is_finite() {
            adamw::update(self.available, with, tally.clip(with), tensors);
        }
    }
}
