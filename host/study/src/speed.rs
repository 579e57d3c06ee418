//! How fast an engine trains on one shape: the same step over and over on random tokens, timed; or a whole schedule of growth.

mod schedule;

use std::collections::BTreeMap;
use std::time::Instant;

use engine::{
    AdamW, BlockKind, Clocks, Energy, Engine, GraphCounts, LayerId, ModelShape, StepPlan, TensorId,
    TokenBatch, Trainable, Wait, step_flops,
};
use plugin_host::api::{Key, Random};
use serde::{Deserialize, Serialize};
use trainer::{InitialModel, TrainError, peak_memory_bytes};

pub use schedule::{PhaseSpeed, Schedule, ScheduleSpeed, measure_schedule};

/// Steps before the timed ones: the first allocates, the next few warm caches.
const WARM_UP_STEPS: usize = 5;

/// What is timed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub dmodel: usize,
    /// Attention heads.
    pub heads: usize,
    /// Token ids.
    pub vocab: usize,
    /// Tokens of a sequence.
    pub seq: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// The lowest blocks that are frozen.
    pub frozen: usize,
    /// Whether both embeddings are frozen, the tied head with them.
    pub freeze_embeddings: bool,
    /// Timed steps.
    pub steps: usize,
}

/// What came of it; a peer's script prints a line of JSON with the same keys, as far as it measures the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// The engine.
    pub engine: String,
    /// Its device in words.
    pub device: String,
    /// What was timed.
    #[serde(flatten)]
    pub workload: Workload,
    /// By the median step.
    pub tokens_per_second: f64,
    /// By the slowest step.
    pub tokens_per_second_worst: f64,
    /// Exact FLOPs over the median step's time.
    pub gflops_per_second: f64,
    /// From before the engine was built to after its first update.
    pub seconds_to_first_step: f64,
    /// Most memory of the device, or of this process where that is the same.
    pub peak_memory_gib: Option<f64>,
    /// How fast the device ran right after the last step, where it tells.
    #[serde(default)]
    pub clocks: Option<Clocks>,
    /// What has become of sequences of calls, where the device makes graphs of them.
    #[serde(default)]
    pub graphs: Option<GraphCounts>,
    /// Joules that a timed step has used, where the device counts them by itself.
    #[serde(default)]
    pub joules_per_step: Option<f64>,
    /// What it was told to become: what the process held before, and what the engine says of the step.
    pub predicted_memory_gib: Option<f64>,
    /// Loss of the last step.
    pub last_loss: f64,
    /// The rate of plain f32 products on as many threads, measured right after.
    pub sgemm_gflops_per_second: Option<f64>,
    /// Milliseconds of a step in each kernel, where the engine tells.
    pub kernels_milliseconds: Option<BTreeMap<String, f64>>,
}

impl Speed {
    /// The step's rate over that of plain products.
    pub fn share_of_sgemm(&self) -> Option<f64> {
        self.sgemm_gflops_per_second.map(|sgemm| self.gflops_per_second / sgemm)
    }
}

impl Workload {
    fn shape(&self) -> Result<ModelShape, TrainError> {
        let shape = ModelShape {
            layers: self.layers,
            width: self.dmodel,
            heads: self.heads,
            context: self.seq,
            vocabulary: self.vocab,
            init_std: 0.02,
            norm_epsilon: 1e-5,
            mlp_width: None,
            head_width: None,
            block: BlockKind::GPT2,
        };
        shape.check().map_err(|error| {
            trainer::ConfigError::new(format!("--{}", error.field), error.message, error.hint)
        })?;
        Ok(shape)
    }

    fn trainable(&self, shape: &ModelShape, layers: &[LayerId]) -> Trainable {
        let trains = |tensor: &TensorId| match tensor.layer {
            Some(layer) => layer.0 >= self.frozen as u64,
            None => {
                !(self.freeze_embeddings
                    && (tensor.class.0 == "wte.weight" || tensor.class.0 == "wpe.weight"))
            }
        };
        Trainable::all(shape, layers).iter().filter(trains).collect()
    }
}

/// Times a workload on an engine that `build` builds, in the thread pool that this is called in; calls `warm` when the
/// steps that count begin.
///
/// # Errors
/// A shape that describes no model, or a failing engine.
pub fn measure(
    workload: &Workload,
    build: impl FnOnce(&ModelShape) -> Result<Box<dyn Engine>, engine::EngineError>,
    warm: impl Fn(),
) -> Result<Speed, TrainError> {
    let shape = workload.shape()?;
    let held_before = peak_memory_bytes();
    let begun = Instant::now();
    let mut engine = build(&shape)?;
    InitialModel::of_seed(&shape, 0).fill_in(&mut *engine, shape.layers, shape.widths())?;
    let layers = engine.layers();
    let plan = StepPlan::new(workload.trainable(&shape, &layers), workload.batch);
    let mut random = Random::new(Key::of_seed(0));
    let (mut timing, mut before) = (Timing::default(), engine.energy());
    for step in 0..WARM_UP_STEPS + workload.steps {
        if step == WARM_UP_STEPS {
            warm();
            before = engine.energy();
        }
        let batch = random_batch(workload, &mut random);
        let started = Instant::now();
        timing.last_loss = one_step(&mut *engine, &batch, &plan)?;
        if step == 0 {
            timing.first = begun.elapsed().as_secs_f64();
        }
        if step >= WARM_UP_STEPS {
            timing.seconds.push(started.elapsed().as_secs_f64());
        }
    }
    let joules = match (before, engine.energy()) {
        (Energy::Millijoules(before), Energy::Millijoules(now)) => {
            now.checked_sub(before).map(|used| used as f64 / 1e3)
        }
        _ => None,
    };
    timing.seconds.sort_by(f64::total_cmp);
    let median = timing.seconds.get(workload.steps / 2).copied().unwrap_or(f64::NAN);
    let worst = timing.seconds.last().copied().unwrap_or(f64::NAN);
    let tokens = (workload.batch * workload.seq) as f64;
    let flops = step_flops(&shape, &layers, &plan.trainable, workload.batch, workload.seq).total();
    let told = engine.memory(&shape, &layers, &plan, workload.batch, workload.seq);
    let info = engine.info();
    // What the process held before counts only where the device's memory is the process's.
    let held_before = if info.device_memory_peak_bytes.is_some() { Some(0) } else { held_before };
    let predicted = held_before.zip(told).map(|(before, told)| before + told.total() - told.evaluation);
    Ok(Speed {
        engine: info.engine.into(),
        device: info.device,
        workload: workload.clone(),
        tokens_per_second: tokens / median,
        tokens_per_second_worst: tokens / worst,
        gflops_per_second: flops.as_f64() / median / 1e9,
        seconds_to_first_step: timing.first,
        peak_memory_gib: info.device_memory_peak_bytes.or_else(peak_memory_bytes).map(gibibytes),
        clocks: info.clocks,
        graphs: info.graphs,
        joules_per_step: joules.map(|joules| joules / workload.steps as f64),
        predicted_memory_gib: predicted.map(gibibytes),
        last_loss: timing.last_loss,
        sgemm_gflops_per_second: None,
        kernels_milliseconds: None,
    })
}

/// How fast an engine trains a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// The engine's name.
    pub engine: String,
    /// Its device in words.
    pub device: String,
    /// Exact FLOPs of a step over its time.
    pub flops_per_second: f64,
}

/// Most FLOPs of a step that is timed: a second or two on a slow processor.
const MOST_FLOPS_TIMED: f64 = 1e11;
/// Shortest sequences that are timed.
const SHORTEST_TIMED: usize = 32;
/// Steps that are timed.
const STEPS_TIMED: usize = 5;

/// Times a few short steps of the whole model, one row of tokens each, in the thread pool that this is called in. Longer steps are no
/// slower for a FLOP.
///
/// # Errors
/// A failing engine.
pub fn rate(
    shape: &ModelShape,
    build: impl FnOnce(&ModelShape) -> Result<Box<dyn Engine>, engine::EngineError>,
) -> Result<Rate, TrainError> {
    let mut engine = build(shape)?;
    InitialModel::of_seed(shape, 0).fill_in(&mut *engine, shape.layers, shape.widths())?;
    let layers = engine.layers();
    let plan = StepPlan::new(Trainable::all(shape, &layers), 1);
    let flops_of = |length| step_flops(shape, &layers, &plan.trainable, 1, length).total().as_f64();
    let mut length = shape.context;
    while length > SHORTEST_TIMED && flops_of(length) > MOST_FLOPS_TIMED {
        length /= 2;
    }
    let mut random = Random::new(Key::of_seed(0));
    let mut seconds = Vec::with_capacity(STEPS_TIMED);
    // The first allocates, and is not counted.
    for _ in 0..=STEPS_TIMED {
        let rows = (0..=length).map(|_| random.below(shape.vocabulary as u64) as u32).collect();
        let started = Instant::now();
        one_step(&mut *engine, &TokenBatch::new(rows, 1, length), &plan)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let timed = &mut seconds[1..];
    timed.sort_by(f64::total_cmp);
    let info = engine.info();
    let flops_per_second = flops_of(length) / timed[STEPS_TIMED / 2];
    Ok(Rate { engine: info.engine.into(), device: info.device, flops_per_second })
}

fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

#[derive(Default)]
struct Timing {
    first: f64,
    seconds: Vec<f64>,
    last_loss: f64,
}

fn random_batch(workload: &Workload, random: &mut Random) -> TokenBatch {
    let ids = workload.batch * (workload.seq + 1);
    let rows = (0..ids).map(|_| random.below(workload.vocab as u64) as u32).collect();
    TokenBatch::new(rows, workload.batch, workload.seq)
}

fn one_step(engine: &mut dyn Engine, batch: &TokenBatch, plan: &StepPlan) -> Result<f64, TrainError> {
    engine.step(batch, plan)?;
    engine.optimize(&AdamW { rate: 6e-4, weight_decay: 0.1, ..AdamW::NOTHING })?;
    let outcome = engine.outcome(Wait::ForAll)?;
    Ok(outcome.map_or(f64::NAN, |outcome| outcome.loss_nats_per_token))
}
