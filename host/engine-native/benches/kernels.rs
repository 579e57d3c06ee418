//! The kernels of the CPU that a step spends its time in, on the measures of a small one (4 sequences of 256, 256 wide,
//! 4 heads, 1,024 ids), on all cores: `cargo bench -p engine-native`. What a whole step takes is told by
//! `sapwood bench`.

use criterion::{Criterion, criterion_group, criterion_main};
use engine::AdamW;
use engine_native::{
    Cpu, Kernels,
    kernels::{
        Attended, ClassifierGradients, Epilogue, Form, Linear, Norm, NormGradients, Sink, Update, Write,
    },
};

const FORM: Form = Form {
    sequences: 4,
    length: 256,
    width: 256,
    hidden: 1024,
    heads: 4,
    head_width: 64,
    vocabulary: 1024,
    epsilon: 1e-5,
};

type Buffer = <Cpu as Kernels>::Buffer;

/// Values between -1 and 1.
fn filled(cpu: &Cpu, len: usize) -> Buffer {
    let values: Vec<f32> = (0..len).map(|i| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0).collect();
    let mut buffer = cpu.zeros(len);
    cpu.upload(&values, &mut buffer);
    buffer
}

fn replace(buffer: &mut Buffer) -> Option<Sink<'_, Buffer>> {
    Some(Sink { buffer, write: Write::Replace })
}

fn embeddings(criterion: &mut Criterion) {
    let cpu = Cpu::new();
    let (rows, width) = (FORM.rows(), FORM.width);
    let ids: Vec<u32> = (0..rows).map(|i| (i * 7919 % FORM.vocabulary) as u32).collect();
    let mut tokens = cpu.tokens(rows, true);
    cpu.load(&ids, &[], &mut tokens);
    let (wte, wpe) = (filled(&cpu, FORM.vocabulary * width), filled(&cpu, FORM.length * width));
    let (mut d_wte, mut d_wpe) = (filled(&cpu, FORM.vocabulary * width), filled(&cpu, FORM.length * width));
    let mut stream = filled(&cpu, rows * width);
    criterion.bench_function("embedding forward", |bencher| {
        bencher.iter(|| cpu.embed(&FORM, &tokens, &wte, &wpe, &mut stream));
    });
    criterion.bench_function("embedding backward", |bencher| {
        bencher.iter(|| {
            cpu.embed_backward(&FORM, &tokens, &stream, replace(&mut d_wte), replace(&mut d_wpe));
        });
    });
}

fn norms(criterion: &mut Criterion) {
    let cpu = Cpu::new();
    let len = FORM.rows() * FORM.width;
    let (x, dy, mut out) = (filled(&cpu, len), filled(&cpu, len), filled(&cpu, len));
    let (gain, shift, mut moments) =
        (filled(&cpu, FORM.width), filled(&cpu, FORM.width), filled(&cpu, 2 * FORM.rows()));
    let (mut d_gain, mut d_shift) = (filled(&cpu, FORM.width), filled(&cpu, FORM.width));
    let norm = Norm { gain: &gain, shift: &shift };
    criterion.bench_function("layer norm forward", |bencher| {
        bencher.iter(|| cpu.layer_norm(&FORM, &x, &norm, &mut out, &mut moments));
    });
    criterion.bench_function("layer norm backward", |bencher| {
        bencher.iter(|| {
            let gradients = NormGradients {
                input: replace(&mut out),
                normed: None,
                gain: replace(&mut d_gain),
                shift: replace(&mut d_shift),
            };
            cpu.layer_norm_backward(&FORM, &x, &moments, &norm, &dy, gradients);
        });
    });
}

fn linears(criterion: &mut Criterion) {
    let cpu = Cpu::new();
    let measures = Linear { rows: FORM.rows(), inputs: FORM.width, outputs: 4 * FORM.width };
    let (narrow, wide) = (measures.rows * measures.inputs, measures.rows * measures.outputs);
    let (x, mut dx) = (filled(&cpu, narrow), filled(&cpu, narrow));
    let (mut y, dy, mut before) = (filled(&cpu, wide), filled(&cpu, wide), filled(&cpu, wide));
    let (w, b) = (filled(&cpu, measures.inputs * measures.outputs), filled(&cpu, measures.outputs));
    let (mut dw, mut db) = (filled(&cpu, measures.inputs * measures.outputs), filled(&cpu, measures.outputs));
    criterion.bench_function("linear + bias", |bencher| {
        bencher.iter(|| cpu.linear(measures, &x, &w, &b, Epilogue::Bias, &mut y));
    });
    criterion.bench_function("linear + gelu", |bencher| {
        bencher.iter(|| cpu.linear(measures, &x, &w, &b, Epilogue::Gelu(Some(&mut before)), &mut y));
    });
    criterion.bench_function("linear + residual", |bencher| {
        let stream = Epilogue::Residual { stream: &dy, gate: 1.0 };
        bencher.iter(|| cpu.linear(measures, &x, &w, &b, copy(&stream), &mut y));
    });
    criterion.bench_function("linear input gradient", |bencher| {
        bencher.iter(|| cpu.linear_input_gradient(measures, &dy, &w, &mut dx));
    });
    criterion.bench_function("linear parameter gradients", |bencher| {
        bencher.iter(|| {
            cpu.linear_parameter_gradients(measures, &x, &dy, replace(&mut dw), replace(&mut db));
        });
    });
    let back = Linear { rows: measures.rows, inputs: measures.outputs, outputs: measures.inputs };
    criterion.bench_function("linear input gradient through gelu", |bencher| {
        bencher.iter(|| cpu.linear_gelu_input_gradient(back, &x, &w, &before, None, &mut y));
    });
    criterion.bench_function("gelu", |bencher| bencher.iter(|| cpu.gelu(wide, &before, &mut y)));
}

/// An epilogue is used up by its call.
fn copy<'a>(epilogue: &Epilogue<'a, Buffer>) -> Epilogue<'a, Buffer> {
    match *epilogue {
        Epilogue::Residual { stream, gate } => Epilogue::Residual { stream, gate },
        _ => Epilogue::Bias,
    }
}

fn attention(criterion: &mut Criterion) {
    let cpu = Cpu::new();
    let len = FORM.rows() * FORM.width;
    let (qkv, dy) = (filled(&cpu, 3 * len), filled(&cpu, len));
    let (mut mixed, mut out) = (filled(&cpu, len), filled(&cpu, 3 * len));
    let mut normalizers = filled(&cpu, 2 * FORM.rows() * FORM.heads);
    criterion.bench_function("attention forward", |bencher| {
        bencher.iter(|| cpu.attention(&FORM, &qkv, &mut mixed, &mut normalizers));
    });
    criterion.bench_function("attention backward", |bencher| {
        let forward = Attended { qkv: &qkv, mixed: &mixed, normalizers: &normalizers };
        bencher.iter(|| cpu.attention_backward(&FORM, &forward, &dy, &mut out));
    });
}

fn classifier(criterion: &mut Criterion) {
    let cpu = Cpu::new();
    let (rows, table) = (FORM.rows(), FORM.vocabulary * FORM.width);
    let (x, mut dx) = (filled(&cpu, rows * FORM.width), filled(&cpu, rows * FORM.width));
    let (weight, mut d_weight) = (filled(&cpu, table), filled(&cpu, table));
    let (mut scratch, mut losses) = (filled(&cpu, rows * FORM.vocabulary), filled(&cpu, rows));
    let ids: Vec<u32> = (0..rows).map(|i| (i * 7919 % FORM.vocabulary) as u32).collect();
    let mut tokens = cpu.tokens(rows, true);
    cpu.load(&ids, &ids, &mut tokens);
    criterion.bench_function("classifier", |bencher| {
        bencher.iter(|| {
            let gradients = ClassifierGradients {
                scale: 1.0 / rows as f64,
                input: Some(&mut dx),
                weight: replace(&mut d_weight),
            };
            cpu.classifier(&FORM, &x, &weight, &tokens, &mut scratch, &mut losses, Some(gradients));
        });
    });
    criterion.bench_function("per-token losses alone", |bencher| {
        bencher.iter(|| cpu.classifier(&FORM, &x, &weight, &tokens, &mut scratch, &mut losses, None));
    });
}

fn optimizer(criterion: &mut Criterion) {
    let cpu = Cpu::new();
    let len = 1 << 20;
    let [gradient, mut weights, mut first, mut second] = [0; 4].map(|_| filled(&cpu, len));
    second.iter_mut().for_each(|value| *value = value.abs());
    let with = AdamW { rate: 1e-9, weight_decay: 0.1, ..AdamW::NOTHING };
    let mut tally = cpu.tally();
    criterion.bench_function("adamw, a million elements", |bencher| {
        bencher.iter(|| {
            let update = Update {
                len,
                weights: &mut weights,
                gradient: &gradient,
                first: &mut first,
                second: &mut second,
                updates: 10,
                decays: true,
                rate_factor: 1.0,
            };
            cpu.adamw(&with, &tally, vec![update]);
        });
    });
    criterion.bench_function("gradient norm, a million elements", |bencher| {
        bencher.iter(|| cpu.finish_tally(&[(&gradient, len)], &mut tally));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = embeddings, norms, linears, attention, classifier, optimizer
}
criterion_main!(benches);
