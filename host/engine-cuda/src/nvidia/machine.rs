//! A GPU with its kernels, loaded when an engine first needs them: what all engines on it share. Not here: memory and
//! launches, which each engine has a queue of its own for.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{Arc, OnceLock};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use engine::{EngineError, Precision};

use super::compile::OPTIONS;
use super::{Cache, Library, Meter, Nvidia, cubin, nvrtc_version};
use crate::driver::Number;
use crate::sources::{self, Source};

/// Room for the name of a place on the bus, with its zero; NVIDIA asks for 13.
const WORDS_OF_A_BUS: usize = 32;

/// A GPU, opened.
pub struct Machine {
    device: sys::CUdevice,
    context: sys::CUcontext,
    found: Found,
    cache: Cache,
    /// `None` where NVML knows nothing of it.
    meter: OnceLock<Option<Meter>>,
    /// For activations in f32, and in bfloat16.
    kernels: [OnceLock<Result<LoadedKernels, EngineError>>; 2],
    name: String,
}

/// Kernels on the GPU, by name.
#[derive(Default)]
struct LoadedKernels {
    modules: Vec<sys::CUmodule>,
    functions: HashMap<&'static str, sys::CUfunction>,
}

// SAFETY: handles of the driver's may be used by any thread in which their context is current; every use makes it so
// first (`Machine::enter`).
unsafe impl Send for Machine {}
// SAFETY: as above; kernels are loaded once, behind a lock.
unsafe impl Sync for Machine {}

/// A GPU that the driver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What its maker calls it.
    pub name: String,
    /// Its compute capability, as in 9.0.
    pub capability: (i32, i32),
    /// Its memory.
    pub memory_bytes: usize,
    /// Where it is plugged in, as in `0000:17:00.0`: by this NVML knows it.
    pub bus: String,
}

impl Machine {
    /// The GPU of that number; kernels that were compiled before come from the cache.
    ///
    /// # Errors
    /// [`EngineError::DeviceUnavailable`] with all that is missing.
    pub fn open(ordinal: u32, cache: &Cache) -> Result<Arc<Machine>, EngineError> {
        let name = format!("cuda:{ordinal}");
        Library::demand(&name)?;
        let mut found = devices().map_err(|reason| unavailable(&name, reason))?;
        if ordinal as usize >= found.len() {
            let reason = match found.len() {
                0 => "the driver knows no GPU; `CUDA_VISIBLE_DEVICES` may hide it".into(),
                count => format!("the GPUs that the driver knows are {count}, counted from 0"),
            };
            return Err(unavailable(&name, reason));
        }
        let found = found.swap_remove(ordinal as usize);
        let context = result::device::get(ordinal.cast_signed()).and_then(|device| {
            // SAFETY: the driver has just given the device.
            unsafe { result::primary_ctx::retain(device) }.map(|context| (device, context))
        });
        let (device, context) = context.map_err(|error| unavailable(&name, error))?;
        let (cache, meter, kernels) = (cache.clone(), OnceLock::new(), Default::default());
        Ok(Arc::new(Machine { device, context, found, cache, meter, kernels, name }))
    }

    /// A driver with a queue of its own, and all kernels of that precision.
    ///
    /// # Errors
    /// A failing device; or kernels that cannot be compiled or loaded.
    pub fn queue(self: &Arc<Machine>, precision: Precision) -> Result<Nvidia, EngineError> {
        self.kernels(Number::of_activations(precision))?;
        Nvidia::new(Arc::clone(self), precision)
    }

    fn kernels(&self, activations: Number) -> Result<&LoadedKernels, EngineError> {
        let loaded = &self.kernels[usize::from(activations == Number::Bf16)];
        loaded.get_or_init(|| self.load(activations)).as_ref().map_err(Clone::clone)
    }

    fn load(&self, activations: Number) -> Result<LoadedKernels, EngineError> {
        let images = images(&self.found, &self.cache, activations)?;
        let mut kernels = LoadedKernels::default();
        sources::of(activations)
            .zip(&images)
            .try_for_each(|(source, image)| self.load_file(&mut kernels, image, source))?;
        Ok(kernels)
    }

    /// Puts a file of machine code onto the GPU.
    fn load_file(&self, to: &mut LoadedKernels, image: &[u8], source: &Source) -> Result<(), EngineError> {
        self.enter()?;
        // SAFETY: the image is a whole ELF file, which says itself how long it is.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) };
        let module = module.map_err(|error| failed("load kernels", error))?;
        to.modules.push(module);
        for kernel in source.kernels() {
            let name = CString::new(kernel).expect("no name has a zero in it");
            // SAFETY: the module was just loaded and stays as long as the machine.
            let function = unsafe { result::module::get_function(module, name) };
            to.functions.insert(kernel, function.map_err(|error| failed(kernel, error))?);
        }
        Ok(())
    }

    /// Makes its context the calling thread's.
    pub(super) fn enter(&self) -> Result<(), EngineError> {
        // SAFETY: the context is retained until the machine is dropped.
        unsafe { result::ctx::set_current(self.context) }.map_err(|error| failed("use the context", error))
    }

    pub(super) fn function(&self, kernel: &str, activations: Number) -> Result<sys::CUfunction, EngineError> {
        let function = self.kernels(activations)?.functions.get(kernel).copied();
        function.ok_or_else(|| EngineError::Device(format!("there is no kernel {kernel}")))
    }

    /// What tells of its energy and clocks; opened when somebody first asks.
    pub(super) fn meter(&self) -> Option<&Meter> {
        self.meter.get_or_init(|| Meter::of(&self.found.bus)).as_ref()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn words(&self, precision: Precision) -> String {
        let Found { name, capability: (major, minor), .. } = &self.found;
        let numbers = match precision {
            Precision::Fp32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        };
        format!("{} ({numbers}, {name}, compute capability {major}.{minor})", self.name)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        let loaded = self.kernels.iter().filter_map(|kernels| kernels.get()?.as_ref().ok());
        for &module in loaded.flat_map(|kernels| &kernels.modules) {
            // SAFETY: it was loaded once, and no queue is left that could run it. A failure leaves nothing to do.
            let _ = unsafe { result::module::unload(module) };
        }
        // SAFETY: it was retained once.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// Machine code for a GPU, source by source; all are compiled at once.
fn images(found: &Found, cache: &Cache, activations: Number) -> Result<Vec<Vec<u8>>, EngineError> {
    let (major, minor) = found.capability;
    let architecture = format!("sm_{major}{minor}");
    let versions = format!("driver {:?}, NVRTC {:?}", driver_version(), nvrtc_version());
    let (architecture, versions) = (&architecture, &versions);
    let image = |source: &Source| {
        let program = source.program(activations);
        let of = [&program, architecture, versions, OPTIONS[0]];
        cache.get(&of, || cubin(source, activations, architecture))
    };
    std::thread::scope(|scope| {
        let compiling: Vec<_> =
            sources::of(activations).map(|source| scope.spawn(|| image(source))).collect();
        let ended = compiling.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(EngineError::Device("a compilation has panicked".into())))
        });
        ended.collect()
    })
}

/// All GPUs that the driver knows.
///
/// # Errors
/// Why it knows none: it is not there, or fails to start.
pub fn devices() -> Result<Vec<Found>, String> {
    if !Library::Driver.is_there() {
        return Err(format!("{} cannot be loaded", Library::Driver));
    }
    let said = |error: DriverError| format!("the driver does not start: {error:?}");
    result::init().map_err(said)?;
    let count = result::device::get_count().map_err(said)?;
    (0..count).map(|ordinal| found(ordinal).map_err(said)).collect()
}

fn found(ordinal: i32) -> Result<Found, DriverError> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let device = result::device::get(ordinal)?;
    // SAFETY: the driver has just given the device.
    let (capability, memory_bytes) = unsafe {
        let capability =
            (result::device::get_attribute(device, MAJOR)?, result::device::get_attribute(device, MINOR)?);
        (capability, result::device::total_mem(device)?)
    };
    Ok(Found { name: result::device::get_name(device)?, capability, memory_bytes, bus: bus(device)? })
}

fn bus(device: sys::CUdevice) -> Result<String, DriverError> {
    let mut words = [0u8; WORDS_OF_A_BUS];
    // SAFETY: the driver is told how much room there is, and ends what it writes with a zero.
    unsafe { sys::cuDeviceGetPCIBusId(words.as_mut_ptr().cast(), WORDS_OF_A_BUS as i32, device) }.result()?;
    let words = CStr::from_bytes_until_nul(&words).map(CStr::to_string_lossy).unwrap_or_default();
    Ok(words.into_owned())
}

/// The newest CUDA that the driver knows, as in 12.8; `None` where it is not there.
pub fn driver_version() -> Option<(i32, i32)> {
    Library::Driver.is_there().then_some(())?;
    let mut version = 0;
    // SAFETY: the library is there, and writes a number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().ok()?;
    Some((version / 1000, version % 1000 / 10))
}

pub(super) fn failed(action: &str, error: DriverError) -> EngineError {
    EngineError::Device(format!("CUDA cannot {action}: {error:?}"))
}

fn unavailable(device: &str, reason: impl std::fmt::Display) -> EngineError {
    EngineError::DeviceUnavailable { device: device.into(), reason: reason.to_string() }
}
