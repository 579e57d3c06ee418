//! Picks the engine, and opens a GPU once for all engines on it.

use std::sync::{Arc, OnceLock};

use clap::ValueEnum;
use engine::{Engine, EngineError, ModelShape, Precision};
use engine_cuda::Cuda;
use engine_cuda::nvidia::Machine;
use engine_native::proof::{self, Agreement};
use engine_native::{KernelTimes, Kernels};
use study::Room;

use crate::args::{EngineArgs, EngineName};
use crate::device::{Place, kernel_cache, memory_bytes};

/// An engine, or why there is none.
pub(crate) type Built = Result<Box<dyn Engine>, EngineError>;

/// How the chosen engine is built.
pub(crate) fn builder(args: EngineArgs) -> impl Fn(&ModelShape, Precision) -> Built + Sync {
    builder_at(args.engine, args.device.resolve().0)
}

/// An engine where nothing is computed, whatever the precision: the device may be another machine's.
pub(crate) fn for_planning(shape: &ModelShape, _: Precision) -> Built {
    engine_native::build(shape, engine_native::Device::Cpu { threads: None })
}

/// How an engine is built in a place that is settled.
pub(crate) fn builder_at(
    engine: EngineName,
    place: Place,
) -> impl Fn(&ModelShape, Precision) -> Built + Sync {
    let gpu = OnceLock::new();
    move |shape, precision| build(shape, precision, engine, place, &gpu)
}

/// One for each of the devices, or the one that the engine's arguments name.
pub(crate) fn builders(
    args: EngineArgs,
    devices: &[Place],
) -> Vec<impl Fn(&ModelShape, Precision) -> Built + Sync> {
    let places = if devices.is_empty() { vec![args.device.resolve().0] } else { devices.to_vec() };
    places.into_iter().map(|place| builder_at(args.engine, place)).collect()
}

/// What there is for runs: on a GPU its memory, else this machine's.
pub(crate) fn room(args: EngineArgs) -> Room {
    let here = Room::here();
    match args.device.resolve().0 {
        Place::Cpu => here,
        Place::Cuda(ordinal) => Room { memory_bytes: memory_bytes(ordinal), ..here },
    }
}

/// Writes into the log where it computes, and why where nobody said so.
pub(crate) fn log_choice(args: EngineArgs, devices: &[Place]) {
    if !devices.is_empty() {
        let names: Vec<String> = devices.iter().map(Place::to_string).collect();
        tracing::info!("devices: {}, one run on each at a time", names.join(", "));
        return;
    }
    match args.device.resolve() {
        (place, Some(reason)) => tracing::info!("device: {place}, chosen by `--device auto`: {reason}"),
        (place, None) => tracing::info!("device: {place}"),
    }
}

/// Refuses a precision that an engine does not have there.
///
/// # Errors
/// [`EngineError::Unsupported`].
pub(crate) fn check(precision: Precision, engine: EngineName, place: Place) -> Result<(), EngineError> {
    if precision.is_fp32() || matches!((engine, place), (EngineName::Native, Place::Cuda(_))) {
        return Ok(());
    }
    let what = format!("the precision {precision} on the device {place}");
    Err(EngineError::Unsupported { engine: engine.as_flag(), what })
}

/// A GPU that is opened when an engine is first built on it.
type Gpu = OnceLock<Result<Arc<Machine>, EngineError>>;

fn build(shape: &ModelShape, precision: Precision, engine: EngineName, place: Place, gpu: &Gpu) -> Built {
    check(precision, engine, place)?;
    match (engine, place) {
        (EngineName::Burn, _) => burn(shape, place),
        // Runs are executed inside a thread pool of their own: no threads are asked for here.
        (EngineName::Native, Place::Cpu) => {
            engine_native::build(shape, engine_native::Device::Cpu { threads: None })
        }
        (EngineName::Native, Place::Cuda(ordinal)) => {
            let machine = gpu.get_or_init(|| Machine::open(ordinal, &kernel_cache()));
            engine_cuda::build(shape, machine.as_ref().map_err(Clone::clone)?, precision)
        }
        (EngineName::Reference, Place::Cpu) => engine_native::build(shape, engine_native::Device::Reference),
        (EngineName::Reference, Place::Cuda(_)) => {
            Err(unavailable(place, "the engine `reference` computes on the processor alone"))
        }
    }
}

#[cfg(feature = "burn")]
fn burn(shape: &ModelShape, place: Place) -> Built {
    let device = match place {
        Place::Cpu => engine_burn::Device::Cpu,
        Place::Cuda(0) => engine_burn::Device::Cuda,
        Place::Cuda(_) => return Err(unavailable(place, "the engine `burn` takes the first GPU alone")),
    };
    engine_burn::build(shape, device)
}

#[cfg(not(feature = "burn"))]
fn burn(_: &ModelShape, place: Place) -> Built {
    Err(unavailable(place, "this binary was built without the engine `burn`"))
}

fn unavailable(place: Place, reason: &str) -> EngineError {
    EngineError::DeviceUnavailable { device: place.to_string(), reason: reason.into() }
}

/// An engine on a GPU that is waited for after each kernel, and the times that these take.
pub(crate) fn build_timed(
    shape: &ModelShape,
    ordinal: u32,
    precision: Precision,
) -> Result<(Box<dyn Engine>, KernelTimes), EngineError> {
    engine_cuda::build_timed(shape, &Machine::open(ordinal, &kernel_cache())?, precision)
}

/// Each kernel of a GPU against its twin in f64; in bfloat16 against one that rounds where the device does, and attention on tensor
/// cores against its plain kernels; of TF32, which is but another way to multiply, products.
pub(crate) fn prove_gpu(ordinal: u32, precision: Precision) -> Result<Vec<Agreement>, EngineError> {
    let machine = Machine::open(ordinal, &kernel_cache())?;
    let device = Cuda::on(machine.queue(precision)?);
    let devices = std::slice::from_ref(&device);
    let agreements = match precision {
        Precision::Fp32 => proof::kernels(devices),
        Precision::Tf32 => proof::positive_products(devices),
        Precision::Bf16 => {
            let oracle = Cuda::with_plain_attention(machine.queue(precision)?);
            let mut agreements = proof::kernels_in_bf16(devices);
            agreements.extend(proof::attention_beside(&oracle, devices));
            oracle.health()?;
            agreements
        }
    };
    device.health().map(|()| agreements)
}

/// What each engine says of each kind of place where it can compute: the device, or why it is not there.
pub(crate) fn devices() -> Vec<(&'static str, &'static str, Result<String, EngineError>)> {
    let (shape, gpu) = (engine::contract::tiny_shape(), Gpu::new());
    let all = EngineName::value_variants()
        .iter()
        .flat_map(|&engine| places(engine).iter().map(move |&(kind, place)| (engine, kind, place)));
    let ask = |engine, place| {
        build(&shape, Precision::Fp32, engine, place, &gpu).map(|engine| engine.info().device)
    };
    all.map(|(engine, kind, place)| (engine.as_flag(), kind, ask(engine, place))).collect()
}

/// Where an engine can compute, by the first of each kind.
fn places(engine: EngineName) -> &'static [(&'static str, Place)] {
    match engine {
        EngineName::Native | EngineName::Burn => &[("cpu", Place::Cpu), ("cuda", Place::Cuda(0))],
        EngineName::Reference => &[("cpu", Place::Cpu)],
    }
}
