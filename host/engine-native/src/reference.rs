//! The kernels in f64 as plain loops: what every other device and every gradient is checked against.
//!
//! Nothing here is fast, and nothing here is clever.

use engine::AdamW;

use crate::kernels::{
    Attended, ClassifierGradients, Comparison, Epilogue, Form, HostTokens, Kernels, Linear, Norm,
    NormGradients, Sink, Tallied, Update, Write, ids_and_tallies_of_the_host,
};

/// The device in f64.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

type Buffer = Vec<f64>;

impl Kernels for Reference {
    type Buffer = Buffer;
    ids_and_tallies_of_the_host!();

    fn engine_name(&self) -> &'static str {
        "reference"
    }

    fn words(&self) -> String {
        "reference (f64, plain loops)".into()
    }

    fn zeros(&self, len: usize) -> Buffer {
        vec![0.0; len]
    }

    fn upload(&self, values: &[f32], to: &mut Buffer) {
        for (to, &value) in to.iter_mut().zip(values) {
            *to = value.into();
        }
    }

    fn download(&self, from: &Buffer, len: usize) -> Vec<f32> {
        from[..len].iter().map(|&value| value as f32).collect()
    }

    fn add_losses(&self, losses: &Buffer, rows: usize, to: &mut Tallied) {
        to.loss_nats += losses[..rows].iter().sum::<f64>();
    }

    fn finish_tally(&self, gradients: &[(&Buffer, usize)], tally: &mut Tallied) -> Tallied {
        let squares = gradients.iter().map(|(buffer, len)| buffer[..*len].iter().map(|x| x * x).sum::<f64>());
        tally.squared_norm = squares.sum();
        *tally
    }

    fn bytes(&self, len: usize) -> u64 {
        8 * len as u64
    }

    fn scratch_bytes(&self, _: &Form) -> u64 {
        0
    }

    fn copy(&self, from: &Buffer, to: &mut Buffer) {
        to.copy_from_slice(from);
    }

    fn copy_some(&self, from: &Buffer, to: &mut Buffer, len: usize) {
        to[..len].copy_from_slice(&from[..len]);
    }

    fn scale(&self, len: usize, factor: f32, from: &Buffer, to: &mut Buffer) {
        to.iter_mut().zip(&from[..len]).for_each(|(to, from)| *to = f64::from(factor) * from);
    }

    fn gather(&self, form: &Form, sequences: &[usize], from: &Buffer, to: &mut Buffer) {
        let row = form.length * form.width;
        for (to, &sequence) in to.chunks_exact_mut(row).zip(sequences) {
            to.copy_from_slice(&from[sequence * row..][..row]);
        }
    }

    fn scatter(&self, form: &Form, sequences: &[usize], from: &Buffer, to: &mut Buffer) {
        let row = form.length * form.width;
        for (from, &sequence) in from.chunks_exact(row).zip(sequences) {
            to[sequence * row..][..row].copy_from_slice(from);
        }
    }

    fn compare(&self, a: &Buffer, b: &Buffer, len: usize) -> Comparison {
        let mut sums = Comparison::default();
        a[..len].iter().zip(b).for_each(|(a, b)| sums += Comparison::of(*a, *b));
        sums
    }

    fn embed(&self, form: &Form, tokens: &HostTokens, wte: &Buffer, wpe: &Buffer, out: &mut Buffer) {
        let width = form.width;
        for (row, &token) in tokens.inputs.iter().enumerate() {
            for c in 0..width {
                out[row * width + c] = wte[token as usize * width + c] + wpe[(row % form.length) * width + c];
            }
        }
    }

    fn embed_backward(
        &self,
        form: &Form,
        tokens: &HostTokens,
        gradient: &Buffer,
        token_table: Option<Sink<'_, Buffer>>,
        position_table: Option<Sink<'_, Buffer>>,
    ) {
        let rows = tokens.inputs.iter().enumerate();
        add_rows(form, gradient, token_table, rows.clone().map(|(row, &token)| (row, token as usize)));
        add_rows(form, gradient, position_table, rows.map(|(row, _)| (row, row % form.length)));
    }

    fn layer_norm(
        &self,
        form: &Form,
        x: &Buffer,
        norm: &Norm<'_, Buffer>,
        out: &mut Buffer,
        moments: &mut Buffer,
    ) {
        let width = form.width;
        for row in 0..form.rows() {
            let x = &x[row * width..(row + 1) * width];
            let mean = x.iter().sum::<f64>() / width as f64;
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
            let scale = 1.0 / (variance + form.epsilon).sqrt();
            for c in 0..width {
                out[row * width + c] = (x[c] - mean) * scale * norm.gain[c] + norm.shift[c];
            }
            (moments[2 * row], moments[2 * row + 1]) = (mean, scale);
        }
    }

    fn layer_norm_backward(
        &self,
        form: &Form,
        x: &Buffer,
        moments: &Buffer,
        norm: &Norm<'_, Buffer>,
        gradient: &Buffer,
        mut out: NormGradients<'_, Buffer>,
    ) {
        let width = form.width;
        for sink in [&mut out.gain, &mut out.shift] {
            start(sink);
        }
        for row in 0..form.rows() {
            let at = |c: usize| row * width + c;
            let (mean, scale) = (moments[2 * row], moments[2 * row + 1]);
            let unit: Buffer = (0..width).map(|c| (x[at(c)] - mean) * scale).collect();
            let into_unit: Buffer = (0..width).map(|c| gradient[at(c)] * norm.gain[c]).collect();
            let mean_gradient = into_unit.iter().sum::<f64>() / width as f64;
            let projection = into_unit.iter().zip(&unit).map(|(g, u)| g * u).sum::<f64>() / width as f64;
            for c in 0..width {
                put(&mut out.input, at(c), (into_unit[c] - mean_gradient - unit[c] * projection) * scale);
                if let Some(normed) = &mut out.normed {
                    normed[at(c)] = unit[c] * norm.gain[c] + norm.shift[c];
                }
                add(&mut out.gain, c, gradient[at(c)] * unit[c]);
                add(&mut out.shift, c, gradient[at(c)]);
            }
        }
    }

    fn linear(
        &self,
        Linear { rows, inputs, outputs }: Linear,
        x: &Buffer,
        weight: &Buffer,
        bias: &Buffer,
        epilogue: Epilogue<'_, Buffer>,
        out: &mut Buffer,
    ) {
        for row in 0..rows {
            let y = &mut out[row * outputs..(row + 1) * outputs];
            y.copy_from_slice(&bias[..outputs]);
            for i in 0..inputs {
                let x = x[row * inputs + i];
                for (y, w) in y.iter_mut().zip(&weight[i * outputs..(i + 1) * outputs]) {
                    *y += x * w;
                }
            }
        }
        let out = &mut out[..rows * outputs];
        match epilogue {
            Epilogue::Bias => {}
            Epilogue::Gelu(before) => {
                if let Some(before) = before {
                    before[..rows * outputs].copy_from_slice(out);
                }
                out.iter_mut().for_each(|y| *y = gelu(*y));
            }
            Epilogue::Residual { stream, gate } => {
                out.iter_mut().zip(stream).for_each(|(y, x)| *y = f64::from(gate) * *y + x);
            }
        }
    }

    fn linear_input_gradient(
        &self,
        Linear { rows, inputs, outputs }: Linear,
        gradient: &Buffer,
        weight: &Buffer,
        out: &mut Buffer,
    ) {
        for row in 0..rows {
            let dy = &gradient[row * outputs..(row + 1) * outputs];
            for i in 0..inputs {
                let w = &weight[i * outputs..(i + 1) * outputs];
                out[row * inputs + i] = dy.iter().zip(w).map(|(dy, w)| dy * w).sum();
            }
        }
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
        self.linear_input_gradient(measures, gradient, weight, out);
        let len = measures.rows * measures.inputs;
        for (out, &before) in out[..len].iter_mut().zip(before) {
            *out *= gelu_slope(before);
        }
        if let Some(activated) = activated {
            self.gelu(len, before, activated);
        }
    }

    fn linear_parameter_gradients(
        &self,
        Linear { rows, inputs, outputs }: Linear,
        x: &Buffer,
        gradient: &Buffer,
        mut weight: Option<Sink<'_, Buffer>>,
        mut bias: Option<Sink<'_, Buffer>>,
    ) {
        start(&mut weight);
        start(&mut bias);
        for row in 0..rows {
            let dy = &gradient[row * outputs..(row + 1) * outputs];
            for i in 0..inputs {
                for (o, dy) in dy.iter().enumerate() {
                    add(&mut weight, i * outputs + o, x[row * inputs + i] * dy);
                }
            }
            for (o, dy) in dy.iter().enumerate() {
                add(&mut bias, o, *dy);
            }
        }
    }

    fn gelu(&self, len: usize, before: &Buffer, out: &mut Buffer) {
        for (out, &before) in out[..len].iter_mut().zip(before) {
            *out = gelu(before);
        }
    }

    fn attention(&self, form: &Form, qkv: &Buffer, mixed: &mut Buffer, normalizers: &mut Buffer) {
        attention(form, &EXACT, qkv, mixed, normalizers);
    }

    fn attention_backward(
        &self,
        form: &Form,
        forward: &Attended<'_, Buffer>,
        gradient: &Buffer,
        out: &mut Buffer,
    ) {
        attention_backward(form, &EXACT, forward, gradient, out);
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
        let width = form.width;
        if let Some(gradients) = &mut gradients {
            start(&mut gradients.weight);
        }
        for (row, &target) in tokens.targets.iter().enumerate() {
            self.logits(form, x, row, 1, weight, scratch);
            let logits = &mut scratch[..form.vocabulary];
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
            losses[row] = log_sum - logits[target as usize];
            let Some(gradients) = &mut gradients else { continue };
            logits.iter_mut().for_each(|logit| *logit = (*logit - log_sum).exp() * gradients.scale);
            logits[target as usize] -= gradients.scale;
            if let Some(input) = &mut gradients.input {
                for c in 0..width {
                    let terms = logits.iter().enumerate();
                    input[row * width + c] = terms.map(|(v, d)| d * weight[v * width + c]).sum();
                }
            }
            for (v, d) in logits.iter().enumerate() {
                for c in 0..width {
                    add(&mut gradients.weight, v * width + c, d * x[row * width + c]);
                }
            }
        }
    }

    fn logits(&self, form: &Form, x: &Buffer, first: usize, rows: usize, weight: &Buffer, out: &mut Buffer) {
        let width = form.width;
        for row in 0..rows {
            let x = &x[(first + row) * width..(first + row + 1) * width];
            for v in 0..form.vocabulary {
                let w = &weight[v * width..(v + 1) * width];
                out[row * form.vocabulary + v] = x.iter().zip(w).map(|(x, w)| x * w).sum();
            }
        }
    }

    fn adamw(&self, with: &AdamW, tally: &Tallied, tensors: Vec<Update<'_, Buffer>>) {
        if !tally.is_finite() {
            return;
        }
        let clip = tally.clip(with);
        for tensor in tensors {
            let bias1 = 1.0 - with.beta1.powf(tensor.updates as f64);
            let bias2 = 1.0 - with.beta2.powf(tensor.updates as f64);
            let rate = with.rate * tensor.rate_factor;
            let decay = if tensor.decays { 1.0 - rate * with.weight_decay } else { 1.0 };
            for i in 0..tensor.len {
                let g = tensor.gradient[i] * clip;
                let m = with.beta1 * tensor.first[i] + (1.0 - with.beta1) * g;
                let v = with.beta2 * tensor.second[i] + (1.0 - with.beta2) * g * g;
                let delta = rate * (m / bias1) / ((v / bias2).sqrt() + with.epsilon);
                tensor.weights[i] = tensor.weights[i] * decay - delta;
                (tensor.first[i], tensor.second[i]) = (m, v);
            }
        }
    }
}

/// How attention's own factors are read by its products.
pub(crate) struct Factors {
    /// `exp(score - largest)`, or a multiple of it, by which a value is weighted.
    pub(crate) weight: fn(f64, f64) -> f64,
    /// A probability, or the gradient of a score before that is scaled.
    pub(crate) factor: fn(f64) -> f64,
}

const EXACT: Factors = Factors { weight: |score, largest| (score - largest).exp(), factor: |x| x };

pub(crate) fn attention(
    form: &Form,
    read: &Factors,
    qkv: &Buffer,
    mixed: &mut Buffer,
    normalizers: &mut Buffer,
) {
    for head in all_heads(form) {
        for query in 0..form.length {
            let scores: Buffer = (0..=query).map(|key| head.score(qkv, query, key)).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            let at = 2 * (head.row(query) * form.heads + head.head);
            (normalizers[at], normalizers[at + 1]) = (largest, 1.0 / sum);
            let weights: Buffer = scores.iter().map(|&score| (read.weight)(score, largest)).collect();
            let sum: f64 = weights.iter().sum();
            for c in 0..head.width {
                let terms = weights.iter().enumerate();
                mixed[head.out(query, c)] =
                    terms.map(|(key, weight)| weight / sum * qkv[head.value(key, c)]).sum();
            }
        }
    }
}

pub(crate) fn attention_backward(
    form: &Form,
    read: &Factors,
    forward: &Attended<'_, Buffer>,
    gradient: &Buffer,
    out: &mut Buffer,
) {
    let qkv = forward.qkv;
    out[..form.rows() * 3 * form.attention_width()].fill(0.0);
    for head in all_heads(form) {
        let scale = 1.0 / (head.width as f64).sqrt();
        for query in 0..form.length {
            let at = 2 * (head.row(query) * form.heads + head.head);
            let (largest, factor) = (forward.normalizers[at], forward.normalizers[at + 1]);
            let dot = |of: &dyn Fn(usize) -> f64| -> f64 {
                (0..head.width).map(|c| gradient[head.out(query, c)] * of(c)).sum()
            };
            let mean = dot(&|c| forward.mixed[head.out(query, c)]);
            for key in 0..=query {
                let p = (head.score(qkv, query, key) - largest).exp() * factor;
                let d_score = p * (dot(&|c| qkv[head.value(key, c)]) - mean);
                let (p, d_score) = ((read.factor)(p), (read.factor)(d_score) * scale);
                for c in 0..head.width {
                    out[head.value(key, c)] += p * gradient[head.out(query, c)];
                    out[head.query(query, c)] += d_score * qkv[head.key(key, c)];
                    out[head.key(key, c)] += d_score * qkv[head.query(query, c)];
                }
            }
        }
    }
}

/// Where the numbers of one head of one sequence stand.
struct Head {
    first_row: usize,
    head: usize,
    width: usize,
    all_heads_width: usize,
}

fn all_heads(form: &Form) -> impl Iterator<Item = Head> {
    let Form { length, heads, head_width, .. } = *form;
    (0..form.sequences * heads).map(move |i| Head {
        first_row: i / heads * length,
        head: i % heads,
        width: head_width,
        all_heads_width: heads * head_width,
    })
}

impl Head {
    fn row(&self, position: usize) -> usize {
        self.first_row + position
    }

    fn out(&self, position: usize, c: usize) -> usize {
        self.row(position) * self.all_heads_width + self.head * self.width + c
    }

    fn query(&self, position: usize, c: usize) -> usize {
        self.row(position) * 3 * self.all_heads_width + self.head * self.width + c
    }

    fn key(&self, position: usize, c: usize) -> usize {
        self.query(position, c) + self.all_heads_width
    }

    fn value(&self, position: usize, c: usize) -> usize {
        self.query(position, c) + 2 * self.all_heads_width
    }

    fn score(&self, qkv: &Buffer, query: usize, key: usize) -> f64 {
        let product: f64 = (0..self.width).map(|c| qkv[self.query(query, c)] * qkv[self.key(key, c)]).sum();
        product / (self.width as f64).sqrt()
    }
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + gelu_argument(x).tanh())
}

pub(crate) fn gelu_slope(x: f64) -> f64 {
    let t = gelu_argument(x).tanh();
    let slope = (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044_715 * x * x);
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope
}

fn gelu_argument(x: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)
}

/// Adds rows of `gradient` to rows of a table, in the order given.
fn add_rows(
    form: &Form,
    gradient: &Buffer,
    mut table: Option<Sink<'_, Buffer>>,
    rows: impl Iterator<Item = (usize, usize)>,
) {
    start(&mut table);
    for (from, to) in rows {
        for c in 0..form.width {
            add(&mut table, to * form.width + c, gradient[from * form.width + c]);
        }
    }
}

/// A sum that replaces what was there starts at zero.
fn start(sink: &mut Option<Sink<'_, Buffer>>) {
    if let Some(Sink { buffer, write: Write::Replace }) = sink {
        buffer.fill(0.0);
    }
}

fn add(sink: &mut Option<Sink<'_, Buffer>>, at: usize, value: f64) {
    if let Some(sink) = sink {
        sink.buffer[at] += value;
    }
}

fn put(sink: &mut Option<Sink<'_, Buffer>>, at: usize, value: f64) {
    if let Some(Sink { buffer, write }) = sink {
        let before = if *write == Write::Add { buffer[at] } else { 0.0 };
        buffer[at] = before + value;
    }
}
