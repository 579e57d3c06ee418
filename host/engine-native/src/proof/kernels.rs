//! Each kernel of a device against its twin in f64, on measures that no block size divides; a deviation is the
//! largest difference over the largest value.

use engine::AdamW;

use super::{Agreement, Rounded};
use crate::{
    Kernels, Reference,
    kernels::{
        Attended, ClassifierGradients, Comparison, Epilogue, Form, Linear, Norm, NormGradients, Sink,
        Tallied, Update, Write,
    },
};

/// Runs every kernel on every one of these devices and in f64.
pub fn kernels<K: Kernels>(devices: &[K]) -> Vec<Agreement> {
    against(&Reference, devices)
}

/// The same of devices that keep activations in bfloat16, against f64 that is rounded where they round.
pub fn kernels_in_bf16<K: Kernels>(devices: &[K]) -> Vec<Agreement> {
    against(&Rounded, devices)
}

/// Attention of devices against another form of its kernels, on heads that tensor cores take. Where these read bfloat16 and the
/// oracle does not, weights and gradients of scores are off by half a step of it, 2^-9 of each term of a sum, and so is either result
/// once it is written: 3 / 2^9 of the largest together, were all terms of one sign; with room for other signs, 2^-7.
pub fn attention_beside<O: Kernels, K: Kernels>(oracle: &O, devices: &[K]) -> Vec<Agreement> {
    let mut table = Table { reference: oracle, devices, agreements: Vec::new() };
    table.add_heads("attention and its plain form");
    table.agreements
}

/// A product whose terms are all positive, so that it is off by no more than a part of itself, however its factors are cut: of devices
/// in TF32 by twice 2^-10. The deviation is that of the worst element, relative to itself.
pub fn positive_products<K: Kernels>(devices: &[K]) -> Vec<Agreement> {
    let measures = Linear { rows: 37, inputs: 90, outputs: 41 };
    let exact = positive_product(&Reference, measures);
    let agreement = |device: &K| {
        let given = positive_product(device, measures);
        let off = given.iter().zip(&exact).map(|(given, exact)| f64::from((given / exact - 1.0).abs()));
        let deviation =
            off.fold(0.0, |most: f64, off| if off.is_finite() { most.max(off) } else { f64::INFINITY });
        Agreement { what: "product of positive factors".into(), place: device.words(), deviation }
    };
    devices.iter().map(agreement).collect()
}

fn positive_product<K: Kernels>(kernels: &K, measures: Linear) -> Vec<f32> {
    let Linear { rows, inputs, outputs } = measures;
    let mut bench = Bench::new(kernels);
    let mut positive = |len: usize| {
        let values: Vec<f32> = (0..len).map(|_| 1.5 + bench.next()).collect();
        let mut buffer = kernels.zeros(len);
        kernels.upload(&values, &mut buffer);
        buffer
    };
    let (x, weight) = (positive(rows * inputs), positive(inputs * outputs));
    let (bias, mut out) = (kernels.zeros(outputs), kernels.zeros(rows * outputs));
    kernels.linear(measures, &x, &weight, &bias, Epilogue::Bias, &mut out);
    kernels.download(&out, rows * outputs)
}

fn against<R: Kernels, K: Kernels>(reference: &R, devices: &[K]) -> Vec<Agreement> {
    let mut table = Table { reference, devices, agreements: Vec::new() };
    for form in forms() {
        let measures = words(&form);
        table.add("embedding", &measures, &Embedding(form));
        for write in [Write::Replace, Write::Add] {
            table.add("layer norm", &measures, &LayerNorm(form, write));
        }
        table.add("attention", &measures, &Attention(form, 1.0));
        for rows_at_once in [1, 4, form.rows()] {
            // One row at a time through 50,257 logits takes the reference too long.
            if form.vocabulary < 1000 || rows_at_once == form.rows() {
                let measures = format!("{measures}, {rows_at_once} rows at once");
                table.add("classifier", &measures, &Classifier(form, rows_at_once));
            }
        }
    }
    table.add_heads("attention");
    for [rows, inputs, outputs] in LINEAR {
        for write in [Write::Replace, Write::Add] {
            let measures = Linear { rows, inputs, outputs };
            table.add("linear", &format!("{rows} x {inputs} x {outputs}"), &LinearMap(measures, write));
        }
    }
    for length in [1, 5, 1001, 2048] {
        table.add("elements", &format!("3 sequences of {length}"), &Elements(length));
    }
    for lens in [vec![1], vec![31], vec![70_001, 1000], (1..80).collect()] {
        let measures = format!("{} elements in {} tensors", lens.iter().sum::<usize>(), lens.len());
        table.add("optimizer", &measures, &Optimizer(lens));
    }
    table.agreements
}

/// Rows, inputs, outputs.
const LINEAR: [[usize; 3]; 7] =
    [[1, 1, 1], [1, 8, 24], [15, 24, 72], [134, 40, 160], [130, 132, 33], [131, 700, 45], [70, 45, 1100]];

fn words(form: &Form) -> String {
    let Form { sequences, length, width, heads, head_width, vocabulary, .. } = form;
    format!("B {sequences}, T {length}, C {width}, H {heads}, D {head_width}, V {vocabulary}")
}

fn form([sequences, length, width, heads, vocabulary]: [usize; 5]) -> Form {
    let (hidden, head_width) = (4 * width, width / heads);
    Form { sequences, length, width, hidden, heads, head_width, vocabulary, epsilon: 1e-5 }
}

/// Odd in every way: one token, one head, lengths around the block of 64, a head wider than one, a large vocabulary. Those of whole
/// pieces of 16 columns, which tensor cores take, stand in [`HEADS`].
fn forms() -> Vec<Form> {
    // Of the last one rows come to whole pieces of 16 bytes, logits too.
    let small =
        [[1, 1, 8, 1, 11], [3, 5, 24, 2, 7], [2, 67, 40, 5, 101], [1, 130, 33, 1, 259], [2, 9, 136, 2, 520]];
    let whole = small.into_iter().chain([[1, 35, 150, 1, 13], [2, 64, 16, 1, 50_257]]).map(form);
    // Fewer and more columns in all heads than the stream has.
    let other =
        [[1, 24], [7, 8]].map(|[heads, head_width]| Form { heads, head_width, ..form([2, 5, 40, 1, 7]) });
    whole.chain(other).collect()
}

/// Sequences, length, heads, columns of a head: for attention alone, in lengths around its tiles of 32, 64 and 128 rows, and with more
/// heads than run at once.
const HEADS: [[usize; 4]; 8] = [
    [1, 1, 1, 64],
    [2, 67, 3, 64],
    [1, 130, 2, 64],
    [1, 200, 1, 64],
    [2, 130, 17, 16],
    [1, 129, 2, 32],
    [1, 70, 1, 80],
    [1, 130, 1, 128],
];

fn heads([sequences, length, heads, head_width]: [usize; 4]) -> Form {
    Form { heads, head_width, ..form([sequences, length, 8, 1, 1]) }
}

/// A device with the inputs of a case: both devices see the same values.
struct Bench<'a, K> {
    kernels: &'a K,
    seed: u64,
}

impl<'a, K: Kernels> Bench<'a, K> {
    fn new(kernels: &'a K) -> Bench<'a, K> {
        Bench { kernels, seed: 0 }
    }

    /// Values between -1 and 1, the next ones of a fixed series.
    fn random(&mut self, len: usize) -> K::Buffer {
        self.filled(1.0, self.kernels.zeros(len), len)
    }

    /// The same in what a device may keep in fewer bits.
    fn activations(&mut self, len: usize) -> K::Buffer {
        self.activations_up_to(1.0, len)
    }

    /// The same of another size.
    fn activations_up_to(&mut self, size: f32, len: usize) -> K::Buffer {
        self.filled(size, self.kernels.activations(len), len)
    }

    fn filled(&mut self, size: f32, mut buffer: K::Buffer, len: usize) -> K::Buffer {
        let values: Vec<f32> = (0..len).map(|_| size * self.next()).collect();
        self.kernels.upload(&values, &mut buffer);
        buffer
    }

    fn next(&mut self) -> f32 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// An id for each row, and what follows it.
    fn tokens(&mut self, form: &Form) -> K::Tokens {
        let most = form.vocabulary as f32;
        let mut ids = || -> Vec<u32> {
            let id = |_| ((self.next() + 1.0) / 2.0 * most) as u32 % form.vocabulary as u32;
            (0..form.rows()).map(id).collect()
        };
        let (inputs, targets) = (ids(), ids());
        let mut tokens = self.kernels.tokens(form.rows(), true);
        self.kernels.load(&inputs, &targets, &mut tokens);
        tokens
    }

    fn read(&self, buffers: &[(&K::Buffer, usize)]) -> Vec<Vec<f32>> {
        buffers.iter().map(|(buffer, len)| self.kernels.download(buffer, *len)).collect()
    }
}

/// A kernel's call on any device, and what it wrote.
trait Case {
    fn run<K: Kernels>(&self, bench: &mut Bench<'_, K>) -> Vec<Vec<f32>>;
}

struct Table<'a, R, K> {
    reference: &'a R,
    devices: &'a [K],
    agreements: Vec<Agreement>,
}

impl<R: Kernels, K: Kernels> Table<'_, R, K> {
    /// Attention by heads of whole pieces of 16 columns; where factors are large, a few scores outweigh all others, and the largest
    /// so far rises again and again.
    fn add_heads(&mut self, kernel: &'static str) {
        for form in HEADS.map(heads) {
            for size in [1.0, 4.0] {
                let measures = format!("{}, factors up to {size}", words(&form));
                self.add(kernel, &measures, &Attention(form, size));
            }
        }
    }

    fn add(&mut self, kernel: &'static str, measures: &str, case: &impl Case) {
        let expected = case.run(&mut Bench::new(self.reference));
        for device in self.devices {
            let given = case.run(&mut Bench::new(device));
            let deviations = given.iter().zip(&expected).map(|(given, expected)| difference(given, expected));
            self.agreements.push(Agreement {
                what: kernel.to_owned(),
                place: format!("{measures}, {}", device.words()),
                deviation: deviations.fold(0.0, f64::max),
            });
        }
    }
}

/// Infinite where something is not a number, or missing.
fn difference(given: &[f32], expected: &[f32]) -> f64 {
    if given.len() != expected.len() {
        return f64::INFINITY;
    }
    let largest = expected.iter().fold(f64::MIN_POSITIVE, |most, x| most.max(f64::from(x.abs())));
    let pairs = given.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs()));
    // Not `max` alone, which would let a NaN pass.
    let most = pairs.fold(0.0, |most: f64, off| if off.is_finite() { most.max(off) } else { f64::INFINITY });
    most / largest
}

struct Embedding(Form);

impl Case for Embedding {
    fn run<K: Kernels>(&self, bench: &mut Bench<'_, K>) -> Vec<Vec<f32>> {
        let form = self.0;
        let (width, rows) = (form.width, form.rows());
        let tokens = bench.tokens(&form);
        let (wte, wpe) = (bench.random(form.vocabulary * width), bench.random((form.length + 2) * width));
        let (mut out, dy) = (bench.random(rows * width), bench.random(rows * width));
        let (mut d_wte, mut d_wpe) =
            (bench.random(form.vocabulary * width), bench.random((form.length + 2) * width));
        bench.kernels.embed(&form, &tokens, &wte, &wpe, &mut out);
        let token_table = Some(Sink { buffer: &mut d_wte, write: Write::Add });
        let position_table = Some(Sink { buffer: &mut d_wpe, write: Write::Replace });
        bench.kernels.embed_backward(&form, &tokens, &dy, token_table, position_table);
        let (tokens, positions) = (form.vocabulary * width, (form.length + 2) * width);
        bench.read(&[(&out, rows * width), (&d_wte, tokens), (&d_wpe, positions)])
    }
}

struct LayerNorm(Form, Write);

impl Case for LayerNorm {
    fn run<K: Kernels>(&self, bench: &mut Bench<'_, K>) -> Vec<Vec<f32>> {
        let LayerNorm(form, write) = *self;
        let (width, len) = (form.width, form.rows() * form.width);
        let (x, dy) = (bench.random(len), bench.activations(len));
        let (gain, shift) = (bench.random(width), bench.random(width));
        let norm = Norm { gain: &gain, shift: &shift };
        let (mut out, mut moments) = (bench.activations(len), bench.random(2 * form.rows()));
        let (mut dx, mut normed) = (bench.random(len), bench.activations(len));
        let (mut d_gain, mut d_shift) = (bench.random(width), bench.random(width));
        bench.kernels.layer_norm(&form, &x, &norm, &mut out, &mut moments);
        let gradients = NormGradients {
            input: Some(Sink { buffer: &mut dx, write }),
            normed: Some(&mut normed),
            gain: Some(Sink { buffer: &mut d_gain, write }),
            shift: Some(Sink { buffer: &mut d_shift, write }),
        };
        bench.kernels.layer_norm_backward(&form, &x, &moments, &norm, &dy, gradients);
        let (moments, d_gain, d_shift) = ((&moments, 2 * form.rows()), (&d_gain, width), (&d_shift, width));
        bench.read(&[(&out, len), moments, (&dx, len), (&normed, len), d_gain, d_shift])
    }
}

struct LinearMap(Linear, Write);

impl Case for LinearMap {
    fn run<K: Kernels>(&self, bench: &mut Bench<'_, K>) -> Vec<Vec<f32>> {
        let LinearMap(measures, write) = *self;
        let Linear { rows, inputs, outputs } = measures;
        let (x, w, b) =
            (bench.activations(rows * inputs), bench.random(inputs * outputs), bench.random(outputs));
        // A branch's output has the gradient of the stream; what lies within has one of its own.
        let (residual, of_stream) = (bench.random(rows * outputs), bench.random(rows * outputs));
        let (dy, before) = (bench.activations(rows * outputs), bench.activations(rows * inputs));
        let mut outs: Vec<K::Buffer> = (0..3).map(|_| bench.activations(rows * outputs)).collect();
        outs.push(bench.random(rows * outputs));
        let mut into_inputs: Vec<K::Buffer> = (0..5).map(|_| bench.activations(rows * inputs)).collect();
        let (mut dw, mut db) = (bench.random(inputs * outputs), bench.random(outputs));
        let (mut dw_of_stream, mut db_of_stream) = (bench.random(inputs * outputs), bench.random(outputs));
        let kernels = &bench.kernels;
        let [plain, gelu, kept, added] = &mut outs[..] else { unreachable!("four") };
        kernels.linear(measures, &x, &w, &b, Epilogue::Bias, plain);
        kernels.linear(measures, &x, &w, &b, Epilogue::Gelu(Some(kept)), gelu);
        kernels.linear(measures, &x, &w, &b, Epilogue::Residual { stream: &residual, gate: -0.75 }, added);
        let [dx, dx_of_stream, through_gelu, activated, direct] = &mut into_inputs[..] else {
            unreachable!("five")
        };
        kernels.linear_input_gradient(measures, &dy, &w, dx);
        kernels.linear_input_gradient(measures, &of_stream, &w, dx_of_stream);
        kernels.linear_gelu_input_gradient(measures, &dy, &w, &before, Some(activated), through_gelu);
        kernels.gelu(rows * inputs, &before, direct);
        let (weight, bias) = (Sink { buffer: &mut dw, write }, Sink { buffer: &mut db, write });
        kernels.linear_parameter_gradients(measures, &x, &dy, Some(weight), Some(bias));
        let (weight, bias) =
            (Sink { buffer: &mut dw_of_stream, write }, Sink { buffer: &mut db_of_stream, write });
        kernels.linear_parameter_gradients(measures, &x, &of_stream, Some(weight), Some(bias));
        let outs = outs.iter().map(|buffer| (buffer, rows * outputs));
        let into_inputs = into_inputs.iter().map(|buffer| (buffer, rows * inputs));
        let of_parameters = [(&dw, inputs * outputs), (&db, outputs)];
        let of_stream = [(&dw_of_stream, inputs * outputs), (&db_of_stream, outputs)];
        let all = outs.chain(into_inputs).chain(of_parameters).chain(of_stream);
        bench.read(&all.collect::<Vec<_>>())
    }
}

/// With such factors at most.
struct Attention(Form, f32);

impl Case for Attention {
    fn run<K: Kernels>(&self, bench: &mut Bench<'_, K>) -> Vec<Vec<f32>> {
        let Attention(form, size) = *self;
        let (len, sums) = (form.rows() * form.attention_width(), 2 * form.rows() * form.heads);
        let (qkv, dy) = (bench.activations_up_to(size, 3 * len), bench.activations(len));
        let (mut mixed, mut normalizers, mut out) =
            (bench.activations(len), bench.random(sums), bench.activations(3 * len));
        bench.kernels.attention(&form, &qkv, &mut mixed, &mut normalizers);
        let forward = Attended { qkv: &qkv, mixed: &mixed, normalizers: &normalizers };
        bench.kernels.attention_backward(&form, &forward, &dy, &mut out);
        bench.read(&[(&mixed, len), (&normalizers, sums), (&out, 3 * len)])
    }
}

/// With scratch for that many rows of logits.
struct Classifier(Form, usize);

impl Case for Classifier {
    fn run<K: Kernels>(&self, bench: &mut Bench<'_, K>) -> Vec<Vec<f32>> {
        let Classifier(form, rows_at_once) = *self;
        let (rows, width, vocabulary) = (form.rows(), form.width, form.vocabulary);
        let (x, table) = (bench.activations(rows * width), bench.random(vocabulary * width));
        let tokens = bench.tokens(&form);
        let mut scratch = bench.activations(rows_at_once * vocabulary);
        let (mut losses, mut only_losses) = (bench.random(rows), bench.random(rows));
        let (mut dx, mut d_table) = (bench.activations(rows * width), bench.random(vocabulary * width));
        let gradients = ClassifierGradients {
            scale: 1.0 / rows as f64,
            input: Some(&mut dx),
            weight: Some(Sink { buffer: &mut d_table, write: Write::Replace }),
        };
        let kernels = &bench.kernels;
        kernels.classifier(&form, &x, &table, &tokens, &mut scratch, &mut losses, Some(gradients));
        kernels.classifier(&form, &x, &table, &tokens, &mut scratch, &mut only_losses, None);
        let mut logits = kernels.activations(vocabulary);
        kernels.logits(&form, &x, rows - 1, 1, &table, &mut logits);
        let tables = vocabulary * width;
        bench.read(&[
            (&losses, rows),
            (&only_losses, rows),
            (&dx, rows * width),
            (&d_table, tables),
            (&logits, vocabulary),
        ])
    }
}

/// Tensors of these lengths, updated together.
struct Optimizer(Vec<usize>);

/// One of them.
struct Trained<B> {
    len: usize,
    weights: B,
    gradient: B,
    moments: [B; 2],
}

impl Case for Optimizer {
    fn run<K: Kernels>(&self, bench: &mut Bench<'_, K>) -> Vec<Vec<f32>> {
        let mut tensors: Vec<Trained<K::Buffer>> = Vec::new();
        for &len in &self.0 {
            let (weights, gradient) = (bench.random(len), bench.random(len));
            let moments = [bench.kernels.zeros(len), bench.kernels.zeros(len)];
            tensors.push(Trained { len, weights, gradient, moments });
        }
        let kernels = bench.kernels;
        let mut tally = kernels.tally();
        let mut tallied = Vec::new();
        // The second is as infinite as what it is to leave alone.
        for (updates, infinity) in [(1, 1.0), (2, f32::INFINITY), (2, 1.0), (3, 1.0)] {
            kernels.restart(&mut tally);
            let mut losses = kernels.zeros(2);
            kernels.upload(&[infinity, 0.5], &mut losses);
            kernels.add_losses(&losses, 2, &mut tally);
            kernels.add_losses(&losses, 1, &mut tally);
            let gradients: Vec<_> = tensors.iter().map(|tensor| (&tensor.gradient, tensor.len)).collect();
            let reading = kernels.finish_tally(&gradients, &mut tally);
            let Tallied { loss_nats, squared_norm } = kernels.tallied(&reading);
            tallied.extend([loss_nats, squared_norm].map(|sum| sum as f32).map(|sum| sum.min(f32::MAX)));
            // Clipped, not clipped, and clipped to more than it has.
            let clip_norm = [Some(0.37), None, Some(1e9)][updates as usize - 1];
            let with = AdamW { rate: 0.01, weight_decay: 0.1, clip_norm, ..AdamW::NOTHING };
            kernels.adamw(&with, &tally, tensors.iter_mut().enumerate().map(part_of(updates)).collect());
        }
        let mut all: Vec<Vec<f32>> = tallied.into_iter().map(|sum| vec![sum]).collect();
        for Trained { len, weights, moments: [first, second], .. } in &tensors {
            all.extend(bench.read(&[(weights, *len), (first, *len), (second, *len)]));
        }
        all
    }
}

/// Every other tensor decays, and has been updated once more often; the rate is another at each update, as layers that anneal
/// have it.
fn part_of<'t, B>(updates: u64) -> impl FnMut((usize, &'t mut Trained<B>)) -> Update<'t, B> {
    move |(i, Trained { len, weights, gradient, moments: [first, second] })| Update {
        len: *len,
        weights,
        gradient,
        first,
        second,
        updates: updates + i as u64 % 2,
        decays: i % 2 == 0,
        rate_factor: [1.0, 0.5, 0.0][(updates as usize - 1 + i) % 3],
    }
}

/// Three sequences, of which two are gathered and scattered.
struct Elements(usize);

impl Case for Elements {
    fn run<K: Kernels>(&self, bench: &mut Bench<'_, K>) -> Vec<Vec<f32>> {
        let form = form([3, self.0, 8, 1, 7]);
        let len = form.rows() * form.width;
        let (a, b) = (bench.random(len), bench.random(len));
        let mut outs: Vec<K::Buffer> = (0..4).map(|_| bench.random(len)).collect();
        outs.push(bench.activations(len));
        let [gathered, scattered, copied, begun, scaled] = &mut outs[..] else { unreachable!("five") };
        let kernels = &bench.kernels;
        kernels.scale(len - 1, 0.3, &a, scaled);
        kernels.gather(&form, &[0, 2], &a, gathered);
        kernels.scatter(&form, &[1, 2], &b, scattered);
        kernels.copy(&a, copied);
        kernels.copy_some(&a, begun, len - 1);
        let Comparison { squares_a, squares_b, product, squares_of_difference } =
            kernels.compare(&a, &b, len - 1);
        let mut all = bench.read(&outs.iter().map(|buffer| (buffer, len)).collect::<Vec<_>>());
        for sum in [squares_a, squares_b, product, squares_of_difference] {
            all.push(vec![sum as f32]);
        }
        all
    }
}
