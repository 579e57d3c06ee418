//! The CUDA device as the step sees it: every kernel of [`Kernels`], on whatever [`Driver`] it is given.
//!
//! Not here: how each is launched; that has a module for each idea, and what it computes the file of `cu/` of the same
//! name.

use std::cell::RefCell;
use std::sync::Arc;

use engine::{AdamW, Clocks, Energy, EngineError, GraphCounts};
use engine_native::Kernels;
use engine_native::kernels::{
    Attended, ClassifierGradients, Comparison, Epilogue, Form, Linear, Norm, NormGradients, Sink, Tallied,
    Update,
};
use half::bf16;

use crate::buffer::{Buffer, Held, Ledger};
use crate::driver::{Driver, Number};
use crate::launch::Scratch;
use crate::tally::{Reading, Tally};
use crate::tokens::Tokens;
use crate::{attention, columns, norm};

/// A GPU wants products of thousands of rows: of GPT-2's logits it gets 2,600 at once, half a GiB in bfloat16.
const ELEMENTS_AT_ONCE: usize = 1 << 27;

/// GPT-2's kernels on a driver, in its precision. After its first failure it runs nothing and answers zeros, and
/// [`health`](Kernels::health) tells what it was.
pub struct Cuda<D: Driver> {
    pub(crate) driver: D,
    pub(crate) failure: RefCell<Option<EngineError>>,
    pub(crate) ledger: Arc<Ledger>,
    /// Whether attention has its plain kernels alone.
    pub(crate) plain_attention: bool,
    _own: Held,
    /// Partial sums, for the time of one call.
    pub(crate) numbers: RefCell<Scratch<D::Memory>>,
    /// Sums on their way to the host.
    pub(crate) totals: RefCell<Scratch<D::Memory>>,
}

impl<D: Driver> Cuda<D> {
    /// On that driver, which nobody else uses.
    pub fn on(driver: D) -> Cuda<D> {
        let ledger = Arc::default();
        Cuda {
            _own: Held::new(&ledger, driver.own_bytes()),
            driver,
            failure: RefCell::default(),
            ledger,
            plain_attention: false,
            numbers: RefCell::default(),
            totals: RefCell::default(),
        }
    }

    /// The same with attention's plain kernels alone, whatever its heads are: the oracle of those on tensor cores.
    pub fn with_plain_attention(driver: D) -> Cuda<D> {
        Cuda { plain_attention: true, ..Cuda::on(driver) }
    }

    /// What it runs on.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    fn made(&self, len: usize, number: Number) -> Buffer<D::Memory> {
        let bytes = len * number.bytes();
        // CUDA makes no piece of nothing.
        let memory = self.attempt(|| self.driver.allocate(bytes.max(1)).map(Some));
        Buffer::new(memory, len, number, Held::new(&self.ledger, bytes as u64))
    }
}

impl<D: Driver> Kernels for Cuda<D> {
    type Buffer = Buffer<D::Memory>;
    type Tokens = Tokens<D::Memory>;
    type Tally = Tally<D::Memory>;
    type Reading = Reading<D::Later>;

    fn words(&self) -> String {
        self.driver.words()
    }

    fn health(&self) -> Result<(), EngineError> {
        self.failure.borrow().clone().map_or(Ok(()), Err)
    }

    fn memory_peak_bytes(&self) -> Option<u64> {
        Some(self.ledger.peak_bytes())
    }

    fn energy(&self) -> Energy {
        self.driver.millijoules().map_or(Energy::Untold, Energy::Millijoules)
    }

    fn clocks(&self) -> Option<Clocks> {
        self.driver.clocks()
    }

    fn graphs(&self) -> Option<GraphCounts> {
        self.driver.graphs()
    }

    fn runs_ahead(&self) -> bool {
        true
    }

    fn submit(&self) {
        self.attempt(|| self.driver.submit());
    }

    fn wait(&self) {
        self.attempt(|| self.driver.wait());
    }

    fn elements_at_once(&self) -> usize {
        ELEMENTS_AT_ONCE
    }

    fn zeros(&self, len: usize) -> Buffer<D::Memory> {
        self.made(len, Number::F32)
    }

    fn activations(&self, len: usize) -> Buffer<D::Memory> {
        self.made(len, self.activations_are())
    }

    fn upload(&self, values: &[f32], to: &mut Buffer<D::Memory>) {
        self.attempt(|| match to.number() {
            Number::F32 => self.driver.upload(bytemuck::cast_slice(values), to.memory_mut()?),
            Number::Bf16 => {
                let values: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
                self.driver.upload(bytemuck::cast_slice(&values), to.memory_mut()?)
            }
        });
    }

    fn download(&self, from: &Buffer<D::Memory>, len: usize) -> Vec<f32> {
        let mut values = vec![0.0f32; len];
        self.attempt(|| match from.number() {
            Number::F32 => self.driver.download(from.memory()?, bytemuck::cast_slice_mut(&mut values)),
            Number::Bf16 => {
                let mut read = vec![bf16::ZERO; len];
                self.driver.download(from.memory()?, bytemuck::cast_slice_mut(&mut read))?;
                values.iter_mut().zip(read).for_each(|(value, read)| *value = read.to_f32());
                Ok(())
            }
        });
        values
    }

    fn tokens(&self, rows: usize, trains: bool) -> Tokens<D::Memory> {
        self.new_tokens(rows, trains)
    }

    fn load(&self, inputs: &[u32], targets: &[u32], to: &mut Tokens<D::Memory>) {
        self.attempt(|| self.load_tokens(inputs, targets, to));
    }

    fn tally(&self) -> Tally<D::Memory> {
        self.new_tally()
    }

    fn restart(&self, tally: &mut Tally<D::Memory>) {
        self.attempt(|| self.restart_tally(tally));
    }

    fn add_losses(&self, losses: &Buffer<D::Memory>, rows: usize, to: &mut Tally<D::Memory>) {
        self.attempt(|| self.add_to_tally(losses, rows, to));
    }

    fn finish_tally(
        &self,
        gradients: &[(&Buffer<D::Memory>, usize)],
        tally: &mut Tally<D::Memory>,
    ) -> Reading<D::Later> {
        self.attempt(|| self.finish(gradients, tally))
    }

    fn tallied(&self, reading: &Reading<D::Later>) -> Tallied {
        self.attempt(|| self.read_tally(reading))
    }

    fn bytes(&self, len: usize) -> u64 {
        (len * size_of::<f32>()) as u64
    }

    fn activation_bytes(&self, len: usize) -> u64 {
        (len * self.activations_are().bytes()) as u64
    }

    fn factor_bytes(&self, len: usize) -> u64 {
        match self.activations_are() {
            Number::F32 => 0,
            number => (len * number.bytes()) as u64,
        }
    }

    fn scratch_bytes(&self, form: &Form) -> u64 {
        let columns = columns::partials(form.rows(), form.hidden.max(3 * form.attention_width()));
        // The copy of the stream's gradient that products read.
        let narrowed = self.factor_bytes(form.rows() * form.width);
        let numbers = columns.max(norm::partials(form)).max(attention::dots(form));
        self.driver.own_bytes() + self.bytes(numbers) + narrowed
    }

    fn copy(&self, from: &Buffer<D::Memory>, to: &mut Buffer<D::Memory>) {
        self.copy_some(from, to, from.len());
    }

    fn copy_some(&self, from: &Buffer<D::Memory>, to: &mut Buffer<D::Memory>, len: usize) {
        self.attempt(|| self.copy_elements((from, 0), (to, 0), len));
    }

    fn scale(&self, len: usize, factor: f32, from: &Buffer<D::Memory>, to: &mut Buffer<D::Memory>) {
        self.attempt(|| self.scaled(len, factor, from, to));
    }

    fn gather(&self, form: &Form, at: &[usize], from: &Buffer<D::Memory>, to: &mut Buffer<D::Memory>) {
        self.attempt(|| self.gather_sequences(form, at, from, to));
    }

    fn scatter(&self, form: &Form, at: &[usize], from: &Buffer<D::Memory>, to: &mut Buffer<D::Memory>) {
        self.attempt(|| self.scatter_sequences(form, at, from, to));
    }

    fn compare(&self, a: &Buffer<D::Memory>, b: &Buffer<D::Memory>, len: usize) -> Comparison {
        self.attempt(|| self.compare_elements(a, b, len))
    }

    fn embed(
        &self,
        form: &Form,
        tokens: &Tokens<D::Memory>,
        wte: &Buffer<D::Memory>,
        wpe: &Buffer<D::Memory>,
        out: &mut Buffer<D::Memory>,
    ) {
        self.attempt(|| self.embed_forward(form, tokens, [wte, wpe], out));
    }

    fn embed_backward(
        &self,
        form: &Form,
        tokens: &Tokens<D::Memory>,
        gradient: &Buffer<D::Memory>,
        token_table: Option<Sink<'_, Buffer<D::Memory>>>,
        position_table: Option<Sink<'_, Buffer<D::Memory>>>,
    ) {
        self.attempt(|| {
            token_table.map_or(Ok(()), |sink| self.add_to_tokens(form, tokens, gradient, sink))?;
            position_table.map_or(Ok(()), |sink| self.add_to_positions(form, gradient, sink))
        });
    }

    fn layer_norm(
        &self,
        form: &Form,
        x: &Buffer<D::Memory>,
        norm: &Norm<'_, Buffer<D::Memory>>,
        out: &mut Buffer<D::Memory>,
        moments: &mut Buffer<D::Memory>,
    ) {
        self.attempt(|| self.norm_forward(form, x, norm, out, moments));
    }

    fn layer_norm_backward(
        &self,
        form: &Form,
        x: &Buffer<D::Memory>,
        moments: &Buffer<D::Memory>,
        norm: &Norm<'_, Buffer<D::Memory>>,
        gradient: &Buffer<D::Memory>,
        out: NormGradients<'_, Buffer<D::Memory>>,
    ) {
        self.attempt(|| self.norm_backward(form, x, moments, norm, gradient, out));
    }

    fn linear(
        &self,
        measures: Linear,
        x: &Buffer<D::Memory>,
        weight: &Buffer<D::Memory>,
        bias: &Buffer<D::Memory>,
        epilogue: Epilogue<'_, Buffer<D::Memory>>,
        out: &mut Buffer<D::Memory>,
    ) {
        self.attempt(|| self.linear_forward(measures, x, weight, bias, epilogue, out));
    }

    fn linear_input_gradient(
        &self,
        measures: Linear,
        gradient: &Buffer<D::Memory>,
        weight: &Buffer<D::Memory>,
        out: &mut Buffer<D::Memory>,
    ) {
        self.attempt(|| self.input_gradient(measures, gradient, weight, out));
    }

    fn linear_gelu_input_gradient(
        &self,
        measures: Linear,
        gradient: &Buffer<D::Memory>,
        weight: &Buffer<D::Memory>,
        before: &Buffer<D::Memory>,
        activated: Option<&mut Buffer<D::Memory>>,
        out: &mut Buffer<D::Memory>,
    ) {
        self.attempt(|| self.gelu_input_gradient(measures, gradient, weight, before, activated, out));
    }

    fn linear_parameter_gradients(
        &self,
        measures: Linear,
        x: &Buffer<D::Memory>,
        gradient: &Buffer<D::Memory>,
        weight: Option<Sink<'_, Buffer<D::Memory>>>,
        bias: Option<Sink<'_, Buffer<D::Memory>>>,
    ) {
        self.attempt(|| self.parameter_gradients(measures, x, gradient, weight, bias));
    }

    fn gelu(&self, len: usize, before: &Buffer<D::Memory>, out: &mut Buffer<D::Memory>) {
        self.attempt(|| self.gelu_forward(len, before, out));
    }

    fn attention(
        &self,
        form: &Form,
        qkv: &Buffer<D::Memory>,
        mixed: &mut Buffer<D::Memory>,
        normalizers: &mut Buffer<D::Memory>,
    ) {
        self.attempt(|| self.attention_forward(form, qkv, mixed, normalizers));
    }

    fn attention_backward(
        &self,
        form: &Form,
        forward: &Attended<'_, Buffer<D::Memory>>,
        gradient: &Buffer<D::Memory>,
        out: &mut Buffer<D::Memory>,
    ) {
        self.attempt(|| self.attention_gradient(form, forward, gradient, out));
    }

    fn classifier(
        &self,
        form: &Form,
        x: &Buffer<D::Memory>,
        weight: &Buffer<D::Memory>,
        tokens: &Tokens<D::Memory>,
        scratch: &mut Buffer<D::Memory>,
        losses: &mut Buffer<D::Memory>,
        gradients: Option<ClassifierGradients<'_, Buffer<D::Memory>>>,
    ) {
        self.attempt(|| self.losses(form, x, weight, tokens, scratch, losses, gradients));
    }

    fn logits(
        &self,
        form: &Form,
        x: &Buffer<D::Memory>,
        first: usize,
        rows: usize,
        weight: &Buffer<D::Memory>,
        out: &mut Buffer<D::Memory>,
    ) {
        self.attempt(|| self.logits_of(form, x, first, rows, weight, out));
    }

    fn adamw(&self, with: &AdamW, tally: &Tally<D::Memory>, tensors: Vec<Update<'_, Buffer<D::Memory>>>) {
        self.attempt(|| self.update(with, tally, tensors));
    }
}
