//! The driver for NVIDIA's GPUs against stand-ins for CUDA's libraries, which are loaded in their place: whether it
//! makes its calls in a sound order, with the right sizes, and gives back all that it takes. What NVIDIA's own
//! libraries answer is not shown by this.
#![allow(unsafe_code)]

/// The kernels' sources as a library for the processor.
mod compiled;
/// Calls that come again and again, as graphs.
#[path = "stand_in/graphs.rs"]
mod graphs;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use engine::{Clocks, Energy, EngineError, Execution, Precision, contract};
use engine_cuda::driver::Number;
use engine_cuda::nvidia::{Cache, Machine};
use engine_cuda::sources::{self, Source};
use engine_cuda::{Cuda, Driver, build};
use engine_native::{Kernels, proof};
use libloading::Library;

/// A library that is loaded already is found by its name, wherever it lies.
struct StandIns {
    cuda: Library,
    others: [Library; 3],
}

static STAND_INS: OnceLock<Result<StandIns, String>> = OnceLock::new();
/// Handles and memory are counted for the process as a whole.
static TURN: Mutex<()> = Mutex::new(());

/// `None`, with a word on standard error, where there is no g++.
fn turn() -> Option<(&'static StandIns, MutexGuard<'static, ()>)> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match STAND_INS.get_or_init(load) {
        Ok(stand_ins) => Some((stand_ins, turn)),
        Err(missing) => {
            compiled::skip("g++", missing);
            None
        }
    }
}

fn load() -> Result<StandIns, String> {
    let names = compiled::NUMBERS.into_iter().flat_map(|number| {
        let kernels = sources::of(number).flat_map(Source::kernels);
        kernels.map(move |name| format!("{name}_{}", compiled::suffix(number)))
    });
    let entries: String =
        names.map(|name| format!("{{\"{name}\", {{run_{name}, sizes_{name}}}}},\n")).collect();
    let driver = format!(
        "#include \"stand_in/cuda.h\"\nconst std::map<std::string, cuda::Entry> cuda::kernels = {{\n{entries}}};\n"
    );
    let cuda = compiled::library("libcuda.so", &driver)?;
    let others = [("cublaslt", "libcublasLt.so"), ("nvrtc", "libnvrtc.so"), ("nvml", "libnvidia-ml.so.1")];
    Ok(StandIns { cuda, others: others.map(|(source, name)| other(source, name)) })
}

fn other(source: &str, name: &str) -> Library {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/stand_in/{source}.cpp"));
    let mut compiler = Command::new("g++");
    compiler.args(["-std=c++17", "-O2", "-shared", "-fPIC", &format!("-Wl,-soname,{name}"), "-o", name]);
    let status = compiler.arg(source).current_dir(folder.path()).status().expect("g++ was there just now");
    assert!(status.success(), "{name} does not compile");
    // SAFETY: it was just made of our own source, and initialises nothing but itself.
    unsafe { Library::new(folder.path().join(name)) }.expect("what g++ has just linked can be loaded")
}

impl StandIns {
    /// Handles and pieces of memory that were not given back.
    fn handles(&self) -> i32 {
        let all = self.others.iter().chain([&self.cuda]);
        all.map(|library| StandIns::ask(library, b"stand_in_handles\0")).sum()
    }

    fn launches(&self) -> i32 {
        StandIns::ask(&self.cuda, b"stand_in_launches\0")
    }

    fn ask(library: &Library, what: &[u8]) -> i32 {
        // SAFETY: all stand-ins' questions have this signature.
        unsafe { library.get::<unsafe extern "C" fn() -> i32>(what).expect("it is defined")() }
    }

    fn products_in_tf32(&self) -> i32 {
        StandIns::ask(&self.others[0], b"stand_in_products_in_tf32\0")
    }

    /// Whether captures fail.
    fn refuse_graphs(&self, refuses: bool) {
        StandIns::set(&self.cuda, b"stand_in_refuse_graphs\0", refuses);
    }

    /// Whether cuBLASLt has no algorithm that does more than a product.
    fn refuse_epilogues(&self, refuses: bool) {
        StandIns::set(&self.others[0], b"stand_in_refuse_epilogues\0", refuses);
    }

    /// Products that cuBLASLt has done more than.
    fn fused(&self) -> i32 {
        StandIns::ask(&self.others[0], b"stand_in_fused\0")
    }

    /// Whether the GPU is cut into instances.
    fn cut(&self, is_cut: bool) {
        StandIns::set(&self.others[2], b"stand_in_cut\0", is_cut);
    }

    fn set(library: &Library, what: &[u8], value: bool) {
        // SAFETY: all that can be set has this signature.
        unsafe { library.get::<unsafe extern "C" fn(bool)>(what).expect("it is defined")(value) };
    }

    fn limit_memory(&self, bytes: usize) {
        // SAFETY: it has this signature.
        unsafe {
            self.cuda.get::<unsafe extern "C" fn(usize)>(b"stand_in_memory\0").expect("it is defined")(bytes);
        }
    }
}

#[test]
fn its_kernels_do_what_their_twins_do_and_everything_is_given_back() {
    let Some((stand_ins, _turn)) = turn() else { return };
    let machine = Machine::open(0, &Cache::default()).expect("the stand-in is there");
    let queue = machine.queue(Precision::Fp32).expect("it has queues");
    assert_eq!(queue.words(), "cuda:0 (f32, Stand-in, compute capability 9.0)");
    let device = Cuda::on(queue);
    for proof::Agreement { what, place, deviation } in proof::kernels(std::slice::from_ref(&device)) {
        assert!(deviation <= 1e-5, "{what}, {place}: off by {deviation:e}, {:?}", device.health());
    }
    assert_eq!(device.health(), Ok(()));
    assert!(device.memory_peak_bytes().is_some_and(|bytes| bytes > 1 << 20));
    assert!(stand_ins.launches() > 500 && stand_ins.handles() > 10);
    drop((device, machine));
    assert_eq!(stand_ins.handles(), 0);
}

#[test]
fn so_do_those_in_bf16_with_products_of_bf16_and_tf32_is_asked_for_by_its_name() {
    let Some((stand_ins, _turn)) = turn() else { return };
    let machine = Machine::open(0, &Cache::default()).expect("the stand-in is there");
    let device = Cuda::on(machine.queue(Precision::Bf16).expect("it has queues"));
    assert_eq!(device.words(), "cuda:0 (bf16, Stand-in, compute capability 9.0)");
    for proof::Agreement { what, place, deviation } in proof::kernels_in_bf16(std::slice::from_ref(&device)) {
        assert!(deviation <= 1.0 / 128.0, "{what}, {place}: off by {deviation:e}, {:?}", device.health());
    }
    let fused = stand_ins.fused();
    assert!(fused > 20);
    stand_ins.refuse_epilogues(true);
    let other = Cuda::on(machine.queue(Precision::Bf16).expect("it has queues"));
    for proof::Agreement { what, place, deviation } in proof::kernels_in_bf16(std::slice::from_ref(&other)) {
        assert!(deviation <= 1.0 / 128.0, "{what}, {place}: off by {deviation:e}, {:?}", other.health());
    }
    assert_eq!(stand_ins.fused(), fused);
    stand_ins.refuse_epilogues(false);
    drop(other);
    let in_tf32 = Cuda::on(machine.queue(Precision::Tf32).expect("it has queues"));
    assert!(stand_ins.products_in_tf32() == 0);
    drop(proof::kernels(std::slice::from_ref(&in_tf32)));
    assert!(stand_ins.products_in_tf32() > 100);
    drop((device, in_tf32, machine));
    assert_eq!(stand_ins.handles(), 0);
}

#[test]
fn engines_on_it_keep_the_contract() {
    let Some((stand_ins, _turn)) = turn() else { return };
    let machine = Machine::open(0, &Cache::default()).expect("the stand-in is there");
    contract::check(&|shape| build(shape, &machine, Precision::Fp32).expect("the shape is good"));
    drop(machine);
    assert_eq!(stand_ins.handles(), 0);
}

#[test]
fn kernels_that_were_compiled_before_are_not_compiled_again() {
    let Some((_, _turn)) = turn() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let cache = Cache::at(folder.path().into());
    let changed = || -> Vec<_> {
        let entries = folder.path().read_dir().expect("it is there").flatten();
        let metadata = entries.map(|entry| entry.metadata().expect("a file"));
        metadata.map(|file| file.modified().expect("this system knows")).collect()
    };
    let open = |precision| {
        Machine::open(0, &cache)
            .and_then(|machine| machine.queue(precision))
            .map(drop)
            .expect("the stand-in is there");
    };
    open(Precision::Fp32);
    let first = changed();
    assert_eq!(first.len(), sources::of(Number::F32).count());
    open(Precision::Tf32);
    assert_eq!(changed(), first);
}

#[test]
fn a_gpu_without_room_says_how_much_is_wanted_and_how_much_there_is() {
    let Some((stand_ins, _turn)) = turn() else { return };
    let machine = Machine::open(0, &Cache::default()).expect("the stand-in is there");
    stand_ins.limit_memory(40 << 20);
    let device = Cuda::on(machine.queue(Precision::Fp32).expect("there is room for a workspace"));
    drop(device.zeros(4 << 20));
    stand_ins.limit_memory(1 << 40);
    let what = "0.02 GiB wanted, 0.01 GiB of 0.04 GiB free".into();
    assert_eq!(device.health(), Err(EngineError::OutOfMemory { device: "cuda:0".into(), what }));
    drop((device, machine));
    assert_eq!(stand_ins.handles(), 0);
}

#[test]
fn a_gpu_that_is_not_there_is_told_from_one_that_is() {
    let Some((_, _turn)) = turn() else { return };
    let reason = "the GPUs that the driver knows are 1, counted from 0".into();
    let expected = EngineError::DeviceUnavailable { device: "cuda:1".into(), reason };
    assert_eq!(Machine::open(1, &Cache::default()).map(drop), Err(expected));
}

#[test]
fn energy_and_clocks_are_the_gpus_own_and_not_told_of_one_that_is_cut() {
    let Some((stand_ins, _turn)) = turn() else { return };
    let open = || {
        let machine = Machine::open(0, &Cache::default()).expect("the stand-in is there");
        build(&contract::tiny_shape(), &machine, Precision::Fp32).expect("the shape is good")
    };
    let engine = open();
    assert_eq!([engine.energy(), engine.energy()], [6500, 8000].map(Energy::Millijoules));
    let clocks = Clocks { processor_megahertz: 1755, most_processor_megahertz: 1980, memory_megahertz: 2619 };
    assert_eq!(engine.info().clocks, Some(clocks));
    drop(engine);
    stand_ins.cut(true);
    let engine = open();
    assert_eq!((engine.energy(), engine.info().clocks), (Energy::Untold, None));
    stand_ins.cut(false);
    drop(engine);
    assert_eq!(stand_ins.handles(), 0);
}

#[test]
fn an_engine_works_on_another_thread_than_it_was_made_on() {
    let Some((_, _turn)) = turn() else { return };
    let machine = Machine::open(0, &Cache::default()).expect("the stand-in is there");
    let mut engine = build(&contract::tiny_shape(), &machine, Precision::Fp32).expect("the shape is good");
    let losses = std::thread::spawn(move || engine.evaluate(&contract::tiny_batch(), &Execution::WholeStack));
    let losses = losses.join().expect("it does not panic").expect("the device is healthy");
    // Shared tensors at zero: all tokens are as likely.
    let expected = (contract::tiny_shape().vocabulary as f32).ln();
    assert!(losses.iter().all(|loss| (loss - expected).abs() < 1e-6), "{losses:?}");
}
