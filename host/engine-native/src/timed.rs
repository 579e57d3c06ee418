//! A device that measures how long each kernel of another takes. Not here: any kernel.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use engine::{AdamW, Clocks, Energy, EngineError, GraphCounts};

use crate::kernels::{
    Attended, ClassifierGradients, Comparison, Epilogue, Form, Kernels, Linear, Norm, NormGradients, Sink,
    Tallied, Update,
};

/// Passes every call on and keeps the time of those that compute; not of transfers, plain copies and sums read back.
#[derive(Debug, Default)]
pub struct Timed<K> {
    kernels: K,
    times: KernelTimes,
}

/// What a [`Timed`] device has measured; clones see the same.
#[derive(Clone, Debug, Default)]
pub struct KernelTimes(Arc<Mutex<BTreeMap<&'static str, KernelTime>>>);

/// The name under which the making of buffers is counted.
pub const ALLOCATION: &str = "allocation";

/// How often a kernel ran, and for how long in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelTime {
    /// Calls.
    pub calls: u64,
    /// Their time together.
    pub time: Duration,
}

impl KernelTimes {
    /// Times since the last call of this, by kernel.
    pub fn take(&self) -> BTreeMap<&'static str, KernelTime> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, kernel: &'static str, time: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = times.entry(kernel).or_default();
        entry.calls += 1;
        entry.time += time;
    }
}

impl<K: Kernels> Timed<K> {
    /// Measures the kernels of that device.
    pub fn new(kernels: K) -> Timed<K> {
        Timed { kernels, times: KernelTimes::default() }
    }

    /// What it measures.
    pub fn times(&self) -> KernelTimes {
        self.times.clone()
    }

    fn measured<R>(&self, kernel: &'static str, work: impl FnOnce(&K) -> R) -> R {
        let start = Instant::now();
        let result = work(&self.kernels);
        self.kernels.wait();
        self.times.add(kernel, start.elapsed());
        result
    }
}

impl<K: Kernels> Kernels for Timed<K> {
    type Buffer = K::Buffer;
    type Tokens = K::Tokens;
    type Tally = K::Tally;
    type Reading = K::Reading;

    fn engine_name(&self) -> &'static str {
        self.kernels.engine_name()
    }

    fn words(&self) -> String {
        self.kernels.words()
    }

    fn health(&self) -> Result<(), EngineError> {
        self.kernels.health()
    }

    fn memory_peak_bytes(&self) -> Option<u64> {
        self.kernels.memory_peak_bytes()
    }

    fn energy(&self) -> Energy {
        self.kernels.energy()
    }

    fn clocks(&self) -> Option<Clocks> {
        self.kernels.clocks()
    }

    fn graphs(&self) -> Option<GraphCounts> {
        self.kernels.graphs()
    }

    fn runs_ahead(&self) -> bool {
        self.kernels.runs_ahead()
    }

    fn submit(&self) {
        self.kernels.submit();
    }

    fn wait(&self) {
        self.kernels.wait();
    }

    fn elements_at_once(&self) -> usize {
        self.kernels.elements_at_once()
    }

    fn zeros(&self, len: usize) -> K::Buffer {
        self.measured(ALLOCATION, |k| k.zeros(len))
    }

    fn activations(&self, len: usize) -> K::Buffer {
        self.measured(ALLOCATION, |k| k.activations(len))
    }

    fn upload(&self, values: &[f32], to: &mut K::Buffer) {
        self.kernels.upload(values, to);
    }

    fn download(&self, from: &K::Buffer, len: usize) -> Vec<f32> {
        self.kernels.download(from, len)
    }

    fn tokens(&self, rows: usize, trains: bool) -> K::Tokens {
        self.kernels.tokens(rows, trains)
    }

    fn load(&self, inputs: &[u32], targets: &[u32], to: &mut K::Tokens) {
        self.kernels.load(inputs, targets, to);
    }

    fn tally(&self) -> K::Tally {
        self.kernels.tally()
    }

    fn restart(&self, tally: &mut K::Tally) {
        self.kernels.restart(tally);
    }

    fn add_losses(&self, losses: &K::Buffer, rows: usize, to: &mut K::Tally) {
        self.kernels.add_losses(losses, rows, to);
    }

    fn finish_tally(&self, gradients: &[(&K::Buffer, usize)], tally: &mut K::Tally) -> K::Reading {
        self.measured("gradient norm", |k| k.finish_tally(gradients, tally))
    }

    fn tallied(&self, reading: &K::Reading) -> Tallied {
        self.kernels.tallied(reading)
    }

    fn bytes(&self, len: usize) -> u64 {
        self.kernels.bytes(len)
    }

    fn activation_bytes(&self, len: usize) -> u64 {
        self.kernels.activation_bytes(len)
    }

    fn factor_bytes(&self, len: usize) -> u64 {
        self.kernels.factor_bytes(len)
    }

    fn scratch_bytes(&self, form: &Form) -> u64 {
        self.kernels.scratch_bytes(form)
    }

    fn copy(&self, from: &K::Buffer, to: &mut K::Buffer) {
        self.kernels.copy(from, to);
    }

    fn copy_some(&self, from: &K::Buffer, to: &mut K::Buffer, len: usize) {
        self.kernels.copy_some(from, to, len);
    }

    fn scale(&self, len: usize, factor: f32, from: &K::Buffer, to: &mut K::Buffer) {
        self.measured("scale", |k| k.scale(len, factor, from, to));
    }

    fn gather(&self, form: &Form, sequences: &[usize], from: &K::Buffer, to: &mut K::Buffer) {
        self.measured("gather", |k| k.gather(form, sequences, from, to));
    }

    fn scatter(&self, form: &Form, sequences: &[usize], from: &K::Buffer, to: &mut K::Buffer) {
        self.measured("scatter", |k| k.scatter(form, sequences, from, to));
    }

    fn compare(&self, a: &K::Buffer, b: &K::Buffer, len: usize) -> Comparison {
        self.measured("statistics", |k| k.compare(a, b, len))
    }

    fn embed(&self, form: &Form, tokens: &K::Tokens, wte: &K::Buffer, wpe: &K::Buffer, out: &mut K::Buffer) {
        self.measured("embedding forward", |k| k.embed(form, tokens, wte, wpe, out));
    }

    fn embed_backward(
        &self,
        form: &Form,
        tokens: &K::Tokens,
        gradient: &K::Buffer,
        token_table: Option<Sink<'_, K::Buffer>>,
        position_table: Option<Sink<'_, K::Buffer>>,
    ) {
        self.measured("embedding backward", |k| {
            k.embed_backward(form, tokens, gradient, token_table, position_table);
        });
    }

    fn layer_norm(
        &self,
        form: &Form,
        x: &K::Buffer,
        norm: &Norm<'_, K::Buffer>,
        out: &mut K::Buffer,
        moments: &mut K::Buffer,
    ) {
        self.measured("layer norm forward", |k| k.layer_norm(form, x, norm, out, moments));
    }

    fn layer_norm_backward(
        &self,
        form: &Form,
        x: &K::Buffer,
        moments: &K::Buffer,
        norm: &Norm<'_, K::Buffer>,
        gradient: &K::Buffer,
        out: NormGradients<'_, K::Buffer>,
    ) {
        self.measured("layer norm backward", |k| {
            k.layer_norm_backward(form, x, moments, norm, gradient, out)
        });
    }

    fn linear(
        &self,
        measures: Linear,
        x: &K::Buffer,
        weight: &K::Buffer,
        bias: &K::Buffer,
        epilogue: Epilogue<'_, K::Buffer>,
        out: &mut K::Buffer,
    ) {
        let name = match epilogue {
            Epilogue::Bias => "linear + bias",
            Epilogue::Gelu(_) => "linear + gelu",
            Epilogue::Residual { .. } => "linear + residual",
        };
        self.measured(name, |k| k.linear(measures, x, weight, bias, epilogue, out));
    }

    fn linear_input_gradient(
        &self,
        measures: Linear,
        gradient: &K::Buffer,
        weight: &K::Buffer,
        out: &mut K::Buffer,
    ) {
        self.measured("linear input gradient", |k| k.linear_input_gradient(measures, gradient, weight, out));
    }

    fn linear_gelu_input_gradient(
        &self,
        measures: Linear,
        gradient: &K::Buffer,
        weight: &K::Buffer,
        before: &K::Buffer,
        activated: Option<&mut K::Buffer>,
        out: &mut K::Buffer,
    ) {
        self.measured("linear input gradient through gelu", |k| {
            k.linear_gelu_input_gradient(measures, gradient, weight, before, activated, out);
        });
    }

    fn linear_parameter_gradients(
        &self,
        measures: Linear,
        x: &K::Buffer,
        gradient: &K::Buffer,
        weight: Option<Sink<'_, K::Buffer>>,
        bias: Option<Sink<'_, K::Buffer>>,
    ) {
        self.measured("linear parameter gradients", |k| {
            k.linear_parameter_gradients(measures, x, gradient, weight, bias);
        });
    }

    fn gelu(&self, len: usize, before: &K::Buffer, out: &mut K::Buffer) {
        self.measured("gelu", |k| k.gelu(len, before, out));
    }

    fn attention(&self, form: &Form, qkv: &K::Buffer, mixed: &mut K::Buffer, normalizers: &mut K::Buffer) {
        self.measured("attention forward", |k| k.attention(form, qkv, mixed, normalizers));
    }

    fn attention_backward(
        &self,
        form: &Form,
        forward: &Attended<'_, K::Buffer>,
        gradient: &K::Buffer,
        out: &mut K::Buffer,
    ) {
        self.measured("attention backward", |k| k.attention_backward(form, forward, gradient, out));
    }

    fn classifier(
        &self,
        form: &Form,
        x: &K::Buffer,
        weight: &K::Buffer,
        tokens: &K::Tokens,
        scratch: &mut K::Buffer,
        losses: &mut K::Buffer,
        gradients: Option<ClassifierGradients<'_, K::Buffer>>,
    ) {
        self.measured("classifier", |k| k.classifier(form, x, weight, tokens, scratch, losses, gradients));
    }

    fn logits(
        &self,
        form: &Form,
        x: &K::Buffer,
        first: usize,
        rows: usize,
        weight: &K::Buffer,
        out: &mut K::Buffer,
    ) {
        self.measured("logits", |k| k.logits(form, x, first, rows, weight, out));
    }

    fn adamw(&self, with: &AdamW, tally: &K::Tally, tensors: Vec<Update<'_, K::Buffer>>) {
        self.measured("adamw", |k| k.adamw(with, tally, tensors));
    }
}
