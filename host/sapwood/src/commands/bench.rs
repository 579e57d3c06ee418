//! `sapwood bench`: how fast an engine trains, alone or in turn with a peer.

mod peer;
mod suite;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::process::ExitCode;

use engine::{Engine, EngineError, GraphCounts, ModelShape};
use engine_native::{KernelTime, KernelTimes};
use study::speed::{PhaseSpeed, Schedule, ScheduleSpeed, Speed, Workload, measure, measure_schedule};
use trainer::ErrorClass;

use crate::args::{BenchArgs, EngineName, PrecisionName};
use crate::device::Place;
use crate::failure::Failed;
use crate::output::result_line;
use crate::{Outcome, engines};

/// Steps on a GPU in which each kernel is waited for.
const STEPS_BY_KERNEL: usize = 3;

pub(crate) fn bench(args: &BenchArgs) -> Outcome {
    match &args.peer {
        None => alone(args),
        Some(script) if args.suite.gpu_suite => suite::run(args, script, &args.suite),
        Some(script) => peer::against(args, script),
    }
}

fn alone(args: &BenchArgs) -> Outcome {
    let threads = args.threads();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Failed::new(ErrorClass::Resource, error, "lower --threads"))?;
    if let Some(schedule) = args.schedule() {
        let build = engines::builder(args.engine);
        let told = pool.install(|| {
            measure_schedule(&args.workload(), &schedule, |shape| build(shape, args.precision.into()))
        })?;
        print_schedule(&told, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let speed = pool.install(|| timed(args))?;
    if args.json {
        result_line!("{}", serde_json::to_string(&speed).map_err(internal)?);
    } else {
        print(&speed, threads);
    }
    Ok(ExitCode::SUCCESS)
}

/// The native engine is timed kernel by kernel as well: on the CPU in the same steps, with the machine's rate of plain products
/// beside it; on a GPU, which would have to be waited for after each, in some steps of their own.
fn timed(args: &BenchArgs) -> Result<Speed, Failed> {
    let (place, _) = args.engine.device.resolve();
    let (workload, precision) = (args.workload(), args.precision.into());
    match (args.engine.engine, place, args.precision) {
        (EngineName::Native, Place::Cpu, PrecisionName::Fp32) => {
            let (mut speed, kernels) = kernel_by_kernel(&workload, engine_native::build_timed)?;
            speed.kernels_milliseconds = Some(kernels);
            speed.sgemm_gflops_per_second = Some(engine_native::sgemm_gflops_per_second());
            Ok(speed)
        }
        (EngineName::Native, Place::Cuda(ordinal), _) => {
            let build = engines::builder(args.engine);
            let mut speed = measure(&workload, |shape| build(shape, precision), || {})?;
            let few = Workload { steps: STEPS_BY_KERNEL, ..workload };
            let (_, kernels) =
                kernel_by_kernel(&few, |shape| engines::build_timed(shape, ordinal, precision))?;
            speed.kernels_milliseconds = Some(kernels);
            Ok(speed)
        }
        _ => {
            let build = engines::builder(args.engine);
            Ok(measure(&workload, |shape| build(shape, precision), || {})?)
        }
    }
}

/// Milliseconds of a step in each kernel, beside the speed of these steps.
fn kernel_by_kernel(
    workload: &Workload,
    build: impl FnOnce(&ModelShape) -> Result<(Box<dyn Engine>, KernelTimes), EngineError>,
) -> Result<(Speed, BTreeMap<String, f64>), Failed> {
    let times = OnceCell::new();
    let build = |shape: &ModelShape| {
        let (engine, kernels) = build(shape)?;
        times.get_or_init(|| kernels);
        Ok(engine)
    };
    let forget = || drop(times.get().map(KernelTimes::take));
    let speed = measure(workload, build, forget)?;
    let measured = times.get().map(KernelTimes::take).unwrap_or_default().into_iter();
    let a_step = |time: KernelTime| time.time.as_secs_f64() * 1e3 / workload.steps as f64;
    Ok((speed, measured.map(|(name, time)| (name.to_owned(), a_step(time))).collect()))
}

fn print_schedule(told: &ScheduleSpeed, json: bool) -> Result<(), Failed> {
    if json {
        result_line!("{}", serde_json::to_string(told).map_err(internal)?);
        return Ok(());
    }
    result_line!("{} on {}", told.engine, told.device);
    result_line!("  {:<22} {:>6} {:>9} {:>13} {:>8}", "phase", "steps", "seconds", "slowest step", "loss");
    for PhaseSpeed { phase, steps, seconds, slowest_step, loss } in &told.phases {
        result_line!("  {phase:<22} {steps:>6} {seconds:>9.2} {slowest_step:>13.3} {loss:>8.3}");
    }
    let (tokens, seconds) = (told.tokens, told.seconds);
    result_line!("  {seconds:.2} s in all for {tokens} tokens, {:.2} s of it growth", told.growth_seconds);
    Ok(())
}

fn print(speed: &Speed, threads: usize) {
    result_line!("{} on {}, {threads} threads", speed.engine, speed.device);
    result_line!(
        "  tokens per second     {:>12.0}  (worst step {:.0})",
        speed.tokens_per_second,
        speed.tokens_per_second_worst
    );
    result_line!("  GFLOP/s               {:>12.1}", speed.gflops_per_second);
    if let Some((sgemm, share)) = speed.sgemm_gflops_per_second.zip(speed.share_of_sgemm()) {
        result_line!("  sgemm, GFLOP/s        {sgemm:>12.1}  ({:.1} % of it reached)", 100.0 * share);
    }
    result_line!("  seconds to first step {:>12.2}", speed.seconds_to_first_step);
    match speed.peak_memory_gib {
        Some(gib) => result_line!("  peak memory, GiB      {gib:>12.3}"),
        None => result_line!("  peak memory           not measured"),
    }
    if let Some(gib) = speed.predicted_memory_gib {
        result_line!("  as told before, GiB   {gib:>12.3}");
    }
    if let Some(joules) = speed.joules_per_step {
        result_line!("  joules a step         {joules:>12.1}");
    }
    if let Some(clocks) = speed.clocks {
        let (now, most) = (clocks.processor_megahertz, clocks.most_processor_megahertz);
        result_line!("  clock, MHz            {now:>12}  (of {most}; memory {})", clocks.memory_megahertz);
    }
    if let Some(GraphCounts { captured, launched, dropped, issued }) = speed.graphs {
        result_line!(
            "  graphs                {captured:>12}  made, {dropped} given up, {launched} launches; {issued} call by call"
        );
    }
    print_kernels(speed);
}

/// Slowest first.
fn print_kernels(speed: &Speed) {
    let Some(kernels) = &speed.kernels_milliseconds else { return };
    let mut kernels: Vec<(&String, &f64)> = kernels.iter().collect();
    kernels.sort_by(|a, b| b.1.total_cmp(a.1));
    let all: f64 = kernels.iter().map(|(_, time)| *time).sum();
    result_line!("\n  {:<38} {:>12} {:>7}", "kernel", "ms a step", "share");
    for (name, time) in kernels {
        result_line!("  {name:<38} {time:>12.3} {:>5.1} %", 100.0 * time / all);
    }
}

fn internal(error: impl std::fmt::Display) -> Failed {
    Failed::new(ErrorClass::Internal, error, "please report this")
}

impl BenchArgs {
    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn schedule(&self) -> Option<Schedule> {
        let (steps, continual) = (self.steps, self.continual);
        self.stages.map(|stages| Schedule { stages, steps, continual })
    }

    fn workload(&self) -> Workload {
        Workload {
            layers: self.layers,
            dmodel: self.dmodel,
            heads: self.heads,
            vocab: self.vocab,
            seq: self.seq,
            batch: self.batch,
            frozen: self.frozen,
            freeze_embeddings: self.freeze_embeddings,
            steps: self.steps,
        }
    }
}
