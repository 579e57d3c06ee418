//! Speed and memory of the native engine on the CPU, with the flags of `peers/gpt_torch.py`; prints one line
//! of JSON. Run the two alternately and quote the ratio.
//!
//! Not a test: nothing is asserted.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{collections::BTreeMap, time::Instant};

use engine::{
    AdamW, BlockKind, Edit, Engine, LayerId, LayerIndex, ModelShape, StepPlan, TensorId, TensorRole,
    TokenBatch, Trainable, Wait,
};
use engine_native::{Cpu, KernelTime, Step, Timed};
use serde_json::json;

struct Options {
    layers: usize,
    dmodel: usize,
    heads: usize,
    vocab: usize,
    seq: usize,
    batch: usize,
    threads: usize,
    frozen: usize,
    freeze_embeddings: bool,
    steps: usize,
}

fn main() {
    let start = Instant::now();
    let options = Options::read();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    pool.expect("threads can be started").install(|| bench(&options, start));
}

impl Options {
    fn read() -> Options {
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        let mut args = std::env::args().skip(1).peekable();
        while let Some(name) = args.next() {
            let value = args.next_if(|next| !next.starts_with("--")).unwrap_or_else(|| "1".into());
            given.insert(name.trim_start_matches("--").to_owned(), value);
        }
        let mut number = |name: &str, usual: usize| {
            given.remove(name).map_or(usual, |text| text.parse().expect("the flags take numbers"))
        };
        let options = Options {
            layers: number("layers", 12),
            dmodel: number("dmodel", 768),
            heads: number("heads", 12),
            vocab: number("vocab", 50_304),
            seq: number("seq", 1024),
            batch: number("batch", 16),
            threads: number("threads", 0),
            frozen: number("frozen", 0),
            freeze_embeddings: number("freeze-embeddings", 0) == 1,
            steps: number("steps", 20),
        };
        given.remove("device");
        assert!(given.is_empty(), "flags that are not known: {given:?}");
        options
    }

    fn shape(&self) -> ModelShape {
        ModelShape {
            layers: self.layers,
            width: self.dmodel,
            heads: self.heads,
            context: self.seq,
            vocabulary: self.vocab,
            init_std: 0.02,
            norm_epsilon: 1e-5,
            block: BlockKind::GPT2,
        }
    }

    /// The peer freezes the final norm never, the embeddings on request, blocks from below.
    fn trainable(&self, layers: &[LayerId]) -> Trainable {
        let all = Trainable::all(&self.shape(), &layers[self.frozen..]);
        let embedding = |id: &TensorId| matches!(id.class.0, "wte.weight" | "wpe.weight");
        all.iter().filter(|id| !(self.freeze_embeddings && embedding(id))).collect()
    }
}

fn bench(options: &Options, start: Instant) {
    let mut engine = filled(&options.shape());
    let layers = engine.layers();
    let plan = StepPlan { trainable: options.trainable(&layers), micro_batch_sequences: options.batch };
    let mut random = Random(1);
    let mut step = |engine: &mut Step<Timed<Cpu>>| {
        let ids = (0..options.batch * (options.seq + 1)).map(|_| random.below(options.vocab));
        let batch = TokenBatch::new(ids.collect(), options.batch, options.seq);
        let begin = Instant::now();
        engine.step(&batch, &plan).expect("a good batch and a good scope");
        engine.optimize(&update()).expect("a healthy device");
        let outcome = engine.outcome(Wait::ForAll).expect("a healthy device").expect("a step was made");
        (begin.elapsed().as_secs_f64(), outcome.loss_nats_per_token)
    };
    step(&mut engine);
    let first = start.elapsed().as_secs_f64();
    for _ in 0..4 {
        step(&mut engine);
    }
    engine.kernels().take();
    let (mut seconds, mut loss) = (Vec::new(), 0.0);
    for _ in 0..options.steps {
        let (time, last) = step(&mut engine);
        seconds.push(time);
        loss = last;
    }
    let times = engine.kernels().take();
    let peak_memory = peak_memory_gib();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let tokens = (options.batch * options.seq) as f64;
    let gflops = engine.flops().total().as_f64() / median / 1e9;
    let sgemm = sgemm_gflops();
    println!(
        "{}",
        json!({
            "engine": engine.info().device, "layers": options.layers, "dmodel": options.dmodel,
            "heads": options.heads, "vocab": options.vocab, "seq": options.seq, "batch": options.batch,
            "threads": rayon::current_num_threads(), "frozen": options.frozen,
            "freeze_embeddings": options.freeze_embeddings, "steps": options.steps,
            "tokens_per_second": (tokens / median).round(),
            "tokens_per_second_worst": (tokens / seconds[seconds.len() - 1]).round(),
            "gflops": gflops.round(), "sgemm_gflops": sgemm.round(),
            "share_of_sgemm": (gflops / sgemm * 1000.0).round() / 1000.0,
            "seconds_to_first_step": (first * 1000.0).round() / 1000.0,
            "peak_memory_gib": (peak_memory * 1000.0).round() / 1000.0,
            "last_loss": (loss * 1e4).round() / 1e4,
            "milliseconds_a_step": (median * 1e5).round() / 100.0,
            "kernels_milliseconds": table(&times, options.steps),
        })
    );
}

fn table(times: &BTreeMap<&'static str, KernelTime>, steps: usize) -> serde_json::Value {
    let mean = |time: &KernelTime| (time.time.as_secs_f64() / steps as f64 * 1e5).round() / 100.0;
    times
        .iter()
        .map(|(name, time)| ((*name).to_owned(), json!(mean(time))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn update() -> AdamW {
    AdamW { rate: 6e-4, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, clip_norm: None }
}

fn filled(shape: &ModelShape) -> Step<Timed<Cpu>> {
    let mut engine = Step::new(shape, Timed::new(Cpu::new())).expect("a good shape");
    let mut random = Random(7);
    let mut weights = |len: usize, role| match role {
        TensorRole::NormGain => vec![1.0; len],
        TensorRole::NormShift | TensorRole::Bias | TensorRole::BranchOutputBias => vec![0.0; len],
        _ => (0..len).map(|_| random.below(2001) as f32 * 3.4e-5 - 0.034).collect(),
    };
    for spec in shape.shared_tensors() {
        let id = TensorId::shared(spec.class);
        engine.write(id, &weights(spec.len(), spec.role)).expect("it has this size");
    }
    for at in 0..shape.layers {
        let block = shape.block_tensors().into_iter();
        let weights = block.map(|spec| (spec.class, weights(spec.len(), spec.role))).collect();
        let edit = Edit::Insert { at: LayerIndex(at), layer: LayerId(at as u64), weights };
        engine.edit(edit).expect("the layer is new");
    }
    engine
}

/// The library's rate on the size that the design notes quote, a product on each thread at once.
fn sgemm_gflops() -> f64 {
    let (m, n, k) = (1024, 256, 1024);
    let rates = (0..5).map(|_| {
        let products = 10 * rayon::current_num_threads();
        let begin = Instant::now();
        rayon::broadcast(|_| product_many(m, n, k, 10));
        2.0 * (m * n * k * products) as f64 / begin.elapsed().as_secs_f64() / 1e9
    });
    rates.fold(0.0, f64::max)
}

fn product_many(m: usize, n: usize, k: usize, times: usize) {
    let (a, b, mut c) = (vec![0.5f32; m * k], vec![0.5f32; k * n], vec![0f32; m * n]);
    for _ in 0..times {
        multiply([m, n, k], &a, &b, &mut c);
    }
    std::hint::black_box(c);
}

#[allow(unsafe_code)]
fn multiply([m, n, k]: [usize; 3], a: &[f32], b: &[f32], c: &mut [f32]) {
    let (n_stride, k_stride) = (n as isize, k as isize);
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    // SAFETY: the three are row-major of these measures.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            1,
            n_stride,
            false,
            a,
            1,
            k_stride,
            b,
            1,
            n_stride,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

fn peak_memory_gib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    let kib = line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0);
    kib / (1 << 20) as f64
}

/// A linear congruential generator: the ids need no more.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % most as u64) as u32
    }
}
