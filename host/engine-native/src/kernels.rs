//! What a device has to be able to do: buffers and the fused kernels that a step is made of.
//!
//! Not here: the order in which a step calls them, and any arithmetic.
//!
//! `N` = rows of a micro-batch (sequences times length), `C` = width, `V` = vocabulary, `H` = heads,
//! `T` = length. Activations are row-major `[N, ...]`; a buffer may be longer than what a call uses.
//!
//! Which buffers a device may keep in fewer bits is said once, by who makes them (`arena.rs`): the outputs of norms, queries, keys
//! and values, what attention gives out, hidden layers before and after their GELU, logits, and the gradients of all these.

use std::ops::AddAssign;

use engine::{AdamW, Clocks, Energy, EngineError, GraphCounts, ModelShape, StepOutcome};

/// The measures of one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// Sequences in it.
    pub sequences: usize,
    /// Tokens in each, `T`.
    pub length: usize,
    /// Width of the residual stream, `C`.
    pub width: usize,
    /// Hidden width of the MLPs, `M`.
    pub hidden: usize,
    /// Attention heads, `H`.
    pub heads: usize,
    /// Width of one head, `D`.
    pub head_width: usize,
    /// Token ids, `V`.
    pub vocabulary: usize,
    /// Added to the variance in a layer norm.
    pub epsilon: f64,
}

impl Form {
    /// Of a model's micro-batch.
    pub fn of(shape: &ModelShape, sequences: usize, length: usize) -> Form {
        let ModelShape { width, heads, vocabulary, norm_epsilon: epsilon, .. } = *shape;
        let (hidden, head_width) = (shape.hidden(), shape.head_width());
        Form { sequences, length, width, hidden, heads, head_width, vocabulary, epsilon }
    }

    /// Tokens of the micro-batch, `N`.
    pub fn rows(&self) -> usize {
        self.sequences * self.length
    }

    /// Width of all heads together, `A = H D`.
    pub fn attention_width(&self) -> usize {
        self.heads * self.head_width
    }
}

/// Whether a result takes the place of what the buffer held, or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// What was there is forgotten.
    Replace,
    /// What was there is a term of the sum.
    Add,
}

/// A buffer that a kernel writes, and how.
#[derive(Debug)]
pub struct Sink<'a, B> {
    /// Where to.
    pub buffer: &'a mut B,
    /// How.
    pub write: Write,
}

/// The measures of a linear map on `rows` rows: `y[rows, outputs] = x[rows, inputs] W[inputs, outputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Rows of input.
    pub rows: usize,
    /// Elements of an input row.
    pub inputs: usize,
    /// Elements of an output row.
    pub outputs: usize,
}

/// What follows a linear map while its output is still in the cache.
#[derive(Debug)]
pub enum Epilogue<'a, B> {
    /// Nothing but the bias.
    Bias,
    /// The tanh form of GELU; with somewhere to keep its input where the backward pass needs it.
    Gelu(Option<&'a mut B>),
    /// Multiplied by the gate, then the residual stream is added.
    Residual {
        /// What is added.
        stream: &'a B,
        /// 1 for a branch as it is.
        gate: f32,
    },
}

/// Gain and shift of a layer norm.
#[derive(Debug)]
pub struct Norm<'a, B> {
    /// Multiplies, `[C]`.
    pub gain: &'a B,
    /// Is added, `[C]`.
    pub shift: &'a B,
}

/// What a layer norm's backward pass leaves, each where it is asked for.
#[derive(Debug)]
pub struct NormGradients<'a, B> {
    /// The gradient of the norm's input, `[N, C]`.
    pub input: Option<Sink<'a, B>>,
    /// The norm's output once more, which was not kept, `[N, C]`.
    pub normed: Option<&'a mut B>,
    /// The gain's gradient.
    pub gain: Option<Sink<'a, B>>,
    /// The shift's gradient.
    pub shift: Option<Sink<'a, B>>,
}

/// What the attention's forward pass read and left.
#[derive(Debug)]
pub struct Attended<'a, B> {
    /// Queries, keys and values, `[N, 3 A]`.
    pub qkv: &'a B,
    /// Its output, `[N, A]`.
    pub mixed: &'a B,
    /// Largest score of each query and one over its sum of exponentials, `[N, H, 2]`: with both, and not the
    /// logarithm of a sum, the backward pass finds the very probabilities of the forward pass.
    pub normalizers: &'a B,
}

/// What the classifier leaves beside the losses, each where it is asked for.
#[derive(Debug)]
pub struct ClassifierGradients<'a, B> {
    /// Multiplies every token's loss before its gradient is formed.
    pub scale: f64,
    /// The gradient of the classifier's input, `[N, C]`.
    pub input: Option<&'a mut B>,
    /// The gradient of its weight, `[V, C]`.
    pub weight: Option<Sink<'a, B>>,
}

/// What a step comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tallied {
    /// Sum of the losses of all its tokens, in nats.
    pub loss_nats: f64,
    /// Sum of squares over the gradients of all that trains.
    pub squared_norm: f64,
}

impl Tallied {
    /// The gradient's norm.
    pub fn gradient_norm(&self) -> f64 {
        self.squared_norm.sqrt()
    }

    /// Whether an update can be made from it.
    pub fn is_finite(&self) -> bool {
        StepOutcome::is_finite(self.loss_nats, self.gradient_norm())
    }

    /// What an update multiplies all gradients by.
    pub fn clip(&self, with: &AdamW) -> f64 {
        with.clip_norm.map_or(1.0, |most| (most / (self.gradient_norm() + 1e-6)).min(1.0))
    }
}

/// The ids of a micro-batch where kernels read them from the host's memory.
#[derive(Clone, Debug, Default)]
pub struct HostTokens {
    /// Of each row.
    pub inputs: Vec<u32>,
    /// What each row is followed by; empty where no loss is asked for.
    pub targets: Vec<u32>,
}

impl HostTokens {
    /// Takes the place of what was there.
    pub fn load(&mut self, inputs: &[u32], targets: &[u32]) {
        self.inputs.clear();
        self.inputs.extend(inputs);
        self.targets.clear();
        self.targets.extend(targets);
    }
}

/// For a device that computes in the host's memory: ids and tallies are the host's, too.
macro_rules! ids_and_tallies_of_the_host {
    () => {
        type Tokens = $crate::kernels::HostTokens;
        type Tally = $crate::kernels::Tallied;
        type Reading = $crate::kernels::Tallied;

        fn tokens(&self, _: usize, _: bool) -> Self::Tokens {
            Self::Tokens::default()
        }

        fn load(&self, inputs: &[u32], targets: &[u32], to: &mut Self::Tokens) {
            to.load(inputs, targets);
        }

        fn tally(&self) -> Self::Tally {
            Self::Tally::default()
        }

        fn restart(&self, tally: &mut Self::Tally) {
            *tally = Self::Tally::default();
        }

        fn tallied(&self, reading: &Self::Reading) -> $crate::kernels::Tallied {
            *reading
        }
    };
}
pub(crate) use ids_and_tallies_of_the_host;

/// One tensor's part in an AdamW update.
#[derive(Debug)]
pub struct Update<'a, B> {
    /// Elements of the tensor.
    pub len: usize,
    /// The weights.
    pub weights: &'a mut B,
    /// Their gradient, not clipped.
    pub gradient: &'a B,
    /// Running mean of the gradient.
    pub first: &'a mut B,
    /// Running mean of its square.
    pub second: &'a mut B,
    /// Updates of this tensor, this one included.
    pub updates: u64,
    /// Whether its weights decay.
    pub decays: bool,
    /// Multiplies the learning rate.
    pub rate_factor: f64,
}

/// Sums over the elements of two arrays, in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Of `a a`.
    pub squares_a: f64,
    /// Of `b b`.
    pub squares_b: f64,
    /// Of `a b`.
    pub product: f64,
    /// Of `(a - b)^2`.
    pub squares_of_difference: f64,
}

impl Comparison {
    /// One pair of elements.
    pub(crate) fn of(a: f64, b: f64) -> Comparison {
        let difference = a - b;
        Comparison {
            squares_a: a * a,
            squares_b: b * b,
            product: a * b,
            squares_of_difference: difference * difference,
        }
    }
}

impl AddAssign for Comparison {
    fn add_assign(&mut self, other: Comparison) {
        self.squares_a += other.squares_a;
        self.squares_b += other.squares_b;
        self.product += other.product;
        self.squares_of_difference += other.squares_of_difference;
    }
}

/// Buffers and kernels of one device. Every call is finished, or ordered before the next, when it returns;
/// every sum has an order that depends on the measures alone. Only what answers with numbers waits for the device.
pub trait Kernels: Send {
    /// A flat array of the device's numbers.
    type Buffer: Send;
    /// The ids of a micro-batch on the device.
    type Tokens: Send;
    /// Where the device sums up what a step comes to.
    type Tally: Send;
    /// A whole tally on its way to the host.
    type Reading: Send;

    /// The engine that they make, as `--engine` takes it: what a run is bound to.
    fn engine_name(&self) -> &'static str {
        crate::NAME
    }

    /// The device in words.
    fn words(&self) -> String;

    /// The first thing that has gone wrong, after which nothing more was computed and every answer is zero. Calls
    /// themselves do not fail: a device that works on its own time tells of a failure late, whatever the call.
    fn health(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Most bytes held at once; `None` where they are the host's.
    fn memory_peak_bytes(&self) -> Option<u64> {
        None
    }

    /// What it has used so far.
    fn energy(&self) -> Energy {
        Energy::OfHost
    }

    /// How fast it runs at this moment, where it tells.
    fn clocks(&self) -> Option<Clocks> {
        None
    }

    /// What has become of calls so far, where it makes graphs of them.
    fn graphs(&self) -> Option<GraphCounts> {
        None
    }

    /// Whether it works on its own time, so that what a step comes to is better read while the next one runs.
    fn runs_ahead(&self) -> bool {
        false
    }

    /// All that was asked for so far is to begin, where the device has put it off to begin it at once.
    fn submit(&self) {}

    /// All that was asked for so far is to be done.
    fn wait(&self) {}

    /// Most numbers of a single array that is cut only to bound its memory: logits, and what is evaluated at once.
    fn elements_at_once(&self) -> usize {
        1 << 22
    }

    /// A buffer of that many zeros.
    fn zeros(&self, len: usize) -> Self::Buffer;

    /// The same for what lies between the products of a block, and for logits, which a device may keep in fewer bits.
    fn activations(&self, len: usize) -> Self::Buffer {
        self.zeros(len)
    }

    /// Overwrites the beginning of a buffer.
    fn upload(&self, values: &[f32], to: &mut Self::Buffer);

    /// The first `len` elements.
    fn download(&self, from: &Self::Buffer, len: usize) -> Vec<f32>;

    /// Room for the ids of micro-batches of up to that many rows; `trains` where the embeddings' gradient is asked for.
    fn tokens(&self, rows: usize, trains: bool) -> Self::Tokens;

    /// Overwrites them: the id of each row, and what follows it; no `targets` where no loss is asked for.
    fn load(&self, inputs: &[u32], targets: &[u32], to: &mut Self::Tokens);

    /// Of a step that has not begun: zeros.
    fn tally(&self) -> Self::Tally;

    /// Back to zeros.
    fn restart(&self, tally: &mut Self::Tally);

    /// Adds the losses of `rows` tokens.
    fn add_losses(&self, losses: &Self::Buffer, rows: usize, to: &mut Self::Tally);

    /// The sum of squares over the first `len` elements of every buffer, in f64, makes a tally whole.
    fn finish_tally(&self, gradients: &[(&Self::Buffer, usize)], tally: &mut Self::Tally) -> Self::Reading;

    /// What it says, once it has arrived.
    fn tallied(&self, reading: &Self::Reading) -> Tallied;

    /// Bytes that a buffer of that many numbers takes.
    fn bytes(&self, len: usize) -> u64;

    /// Bytes that [`activations`](Kernels::activations) takes.
    fn activation_bytes(&self, len: usize) -> u64 {
        self.bytes(len)
    }

    /// Bytes that the device keeps beside a weight that products read.
    fn factor_bytes(&self, _len: usize) -> u64 {
        0
    }

    /// Bytes that the kernels themselves keep between calls for steps of that form.
    fn scratch_bytes(&self, form: &Form) -> u64;

    /// Copies all of a buffer into another of the same length.
    fn copy(&self, from: &Self::Buffer, to: &mut Self::Buffer);

    /// Copies the first `len` elements.
    fn copy_some(&self, from: &Self::Buffer, to: &mut Self::Buffer, len: usize);

    /// `to = factor from` on the first `len` elements.
    fn scale(&self, len: usize, factor: f32, from: &Self::Buffer, to: &mut Self::Buffer);

    /// The rows of these sequences of `from`, `[N, C]`, in a row at the beginning of `to`.
    fn gather(&self, form: &Form, sequences: &[usize], from: &Self::Buffer, to: &mut Self::Buffer);

    /// The inverse of [`gather`](Kernels::gather): other sequences of `to` stay as they are.
    fn scatter(&self, form: &Form, sequences: &[usize], from: &Self::Buffer, to: &mut Self::Buffer);

    /// Sums over the first `len` elements of both.
    fn compare(&self, a: &Self::Buffer, b: &Self::Buffer, len: usize) -> Comparison;

    /// Token and position embedding, summed: `[N, C]`.
    fn embed(
        &self,
        form: &Form,
        tokens: &Self::Tokens,
        token_table: &Self::Buffer,
        position_table: &Self::Buffer,
        out: &mut Self::Buffer,
    );

    /// Its backward pass; each row of a table sums its tokens in the order of the batch.
    fn embed_backward(
        &self,
        form: &Form,
        tokens: &Self::Tokens,
        gradient: &Self::Buffer,
        token_table: Option<Sink<'_, Self::Buffer>>,
        position_table: Option<Sink<'_, Self::Buffer>>,
    );

    /// Layer norm of each row; `moments` takes mean and reciprocal deviation, `[N, 2]`.
    fn layer_norm(
        &self,
        form: &Form,
        x: &Self::Buffer,
        norm: &Norm<'_, Self::Buffer>,
        out: &mut Self::Buffer,
        moments: &mut Self::Buffer,
    );

    /// Its backward pass.
    fn layer_norm_backward(
        &self,
        form: &Form,
        x: &Self::Buffer,
        moments: &Self::Buffer,
        norm: &Norm<'_, Self::Buffer>,
        gradient: &Self::Buffer,
        out: NormGradients<'_, Self::Buffer>,
    );

    /// `out = epilogue(x W + b)`.
    fn linear(
        &self,
        measures: Linear,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        bias: &Self::Buffer,
        epilogue: Epilogue<'_, Self::Buffer>,
        out: &mut Self::Buffer,
    );

    /// The gradient of a linear map's input, `dx = dy W^T`.
    fn linear_input_gradient(
        &self,
        measures: Linear,
        gradient: &Self::Buffer,
        weight: &Self::Buffer,
        out: &mut Self::Buffer,
    );

    /// The same through the GELU before it, `out = (dy W^T) gelu'(before)`; `activated` takes
    /// `gelu(before)`, which was not kept.
    fn linear_gelu_input_gradient(
        &self,
        measures: Linear,
        gradient: &Self::Buffer,
        weight: &Self::Buffer,
        before: &Self::Buffer,
        activated: Option<&mut Self::Buffer>,
        out: &mut Self::Buffer,
    );

    /// Gradients of a linear map's weight, `x^T dy`, and bias, the sum of `dy` over rows.
    fn linear_parameter_gradients(
        &self,
        measures: Linear,
        x: &Self::Buffer,
        gradient: &Self::Buffer,
        weight: Option<Sink<'_, Self::Buffer>>,
        bias: Option<Sink<'_, Self::Buffer>>,
    );

    /// The tanh form of GELU on the first `len` elements.
    fn gelu(&self, len: usize, before: &Self::Buffer, out: &mut Self::Buffer);

    /// Causal attention of all heads.
    fn attention(
        &self,
        form: &Form,
        qkv: &Self::Buffer,
        mixed: &mut Self::Buffer,
        normalizers: &mut Self::Buffer,
    );

    /// Its backward pass, `[N, 3 A]`; the scores are computed again.
    fn attention_backward(
        &self,
        form: &Form,
        forward: &Attended<'_, Self::Buffer>,
        gradient: &Self::Buffer,
        out: &mut Self::Buffer,
    );

    /// The loss of each target in nats, and the gradients asked for. `scratch` bounds how many logits
    /// exist at once; it holds at least one row.
    #[expect(
        clippy::too_many_arguments,
        reason = "one fused kernel: measures, what it reads, what it writes"
    )]
    fn classifier(
        &self,
        form: &Form,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        tokens: &Self::Tokens,
        scratch: &mut Self::Buffer,
        losses: &mut Self::Buffer,
        gradients: Option<ClassifierGradients<'_, Self::Buffer>>,
    );

    /// Logits of `rows` rows from `first` on, `[rows, V]`.
    fn logits(
        &self,
        form: &Form,
        x: &Self::Buffer,
        first: usize,
        rows: usize,
        weight: &Self::Buffer,
        out: &mut Self::Buffer,
    );

    /// One AdamW update of each tensor, its gradient clipped by the norm of a whole tally; none at all where that is not finite.
    fn adamw(&self, with: &AdamW, tally: &Self::Tally, tensors: Vec<Update<'_, Self::Buffer>>);
}
