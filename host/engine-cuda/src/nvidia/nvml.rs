//! NVIDIA's management library, which comes with the driver: its version, the energy that a GPU has used, and its clocks. Loaded
//! by hand, because cudarc does not know it. Not here: what is made of the figures.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};

use engine::Clocks;
use libloading::Library;

const FILE: &str = "libnvidia-ml.so.1";
/// Room for a version in words, as NVIDIA advises.
const WORDS: usize = 96;

type Init = unsafe extern "C" fn() -> c_int;
type DriverVersion = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;
type HandleByBus = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
type MigMode = unsafe extern "C" fn(*mut c_void, *mut c_uint, *mut c_uint) -> c_int;
type TotalEnergy = unsafe extern "C" fn(*mut c_void, *mut c_ulonglong) -> c_int;
type ClockInfo = unsafe extern "C" fn(*mut c_void, c_int, *mut c_uint) -> c_int;

/// Of the multiprocessors, as `nvmlClockType_t` counts.
const CLOCK_SM: c_int = 1;
/// Of the memory.
const CLOCK_MEMORY: c_int = 2;

/// The library, started.
pub struct Nvml {
    library: Library,
}

impl Nvml {
    /// Loads and starts it.
    ///
    /// # Errors
    /// Why it is of no use, in words.
    pub fn open() -> Result<Nvml, String> {
        // SAFETY: loading it runs nothing but its own initialisation.
        let library = unsafe { Library::new(FILE) };
        let library =
            library.map_err(|_| format!("{FILE} cannot be loaded; it comes with NVIDIA's driver"))?;
        let nvml = Nvml { library };
        // SAFETY: the function has that signature in every version of the library.
        let started = unsafe { nvml.library.get::<Init>(b"nvmlInit_v2\0").map(|init| init()) };
        match started {
            Ok(0) => Ok(nvml),
            Ok(code) => Err(format!("{FILE} does not start (error {code})")),
            Err(_) => Err(format!("{FILE} is too old")),
        }
    }

    /// The driver's own version, as in `550.54.15`.
    pub fn driver_version(&self) -> Option<String> {
        let mut words = [0u8; WORDS];
        // SAFETY: the function has that signature, and is told how much room there is.
        let code = unsafe {
            let ask = self.library.get::<DriverVersion>(b"nvmlSystemGetDriverVersion\0").ok()?;
            ask(words.as_mut_ptr().cast(), WORDS as c_uint)
        };
        let text = CStr::from_bytes_until_nul(&words).ok().filter(|_| code == 0)?;
        Some(text.to_string_lossy().into_owned())
    }
}

/// What NVML tells of one GPU.
pub struct Meter {
    nvml: Nvml,
    /// NVML's own, there as long as it is started.
    device: *mut c_void,
}

// SAFETY: NVML may be called by any thread, also by several at once.
unsafe impl Send for Meter {}
// SAFETY: as above.
unsafe impl Sync for Meter {}

impl Meter {
    /// Of the GPU in that place on the bus; `None` where NVML is not there or does not know it, or where the GPU is cut into
    /// instances, for all of which together it tells.
    pub fn of(bus: &str) -> Option<Meter> {
        let (nvml, bus) = (Nvml::open().ok()?, CString::new(bus).ok()?);
        let mut device = std::ptr::null_mut();
        // SAFETY: the function has that signature; the name ends with a zero.
        let found = unsafe {
            let ask = nvml.library.get::<HandleByBus>(b"nvmlDeviceGetHandleByPciBusId_v2\0").ok()?;
            ask(bus.as_ptr(), &raw mut device)
        };
        let meter = Meter { nvml, device };
        (found == 0 && !meter.is_cut()).then_some(meter)
    }

    fn is_cut(&self) -> bool {
        let (mut now, mut pending) = (0, 0);
        // SAFETY: the function has that signature. GPUs that cannot be cut answer with an error.
        let code = unsafe {
            let ask = self.nvml.library.get::<MigMode>(b"nvmlDeviceGetMigMode\0");
            ask.map(|ask| ask(self.device, &raw mut now, &raw mut pending))
        };
        matches!(code, Ok(0)) && now != 0
    }

    /// Since the driver was loaded.
    pub fn millijoules(&self) -> Option<u64> {
        let mut used = 0;
        // SAFETY: the function has that signature.
        let code = unsafe {
            let ask = self.nvml.library.get::<TotalEnergy>(b"nvmlDeviceGetTotalEnergyConsumption\0").ok()?;
            ask(self.device, &raw mut used)
        };
        (code == 0).then_some(used)
    }

    /// At this moment.
    pub fn clocks(&self) -> Option<Clocks> {
        Some(Clocks {
            processor_megahertz: self.clock(b"nvmlDeviceGetClockInfo\0", CLOCK_SM)?,
            most_processor_megahertz: self.clock(b"nvmlDeviceGetMaxClockInfo\0", CLOCK_SM)?,
            memory_megahertz: self.clock(b"nvmlDeviceGetClockInfo\0", CLOCK_MEMORY)?,
        })
    }

    fn clock(&self, ask: &[u8], which: c_int) -> Option<u32> {
        let mut megahertz = 0;
        // SAFETY: both functions have that signature.
        let code =
            unsafe { self.nvml.library.get::<ClockInfo>(ask).ok()?(self.device, which, &raw mut megahertz) };
        (code == 0).then_some(megahertz)
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        // SAFETY: it was started once, and the function takes and leaves nothing.
        let _ = unsafe { self.library.get::<Init>(b"nvmlShutdown\0").map(|shutdown| shutdown()) };
    }
}
