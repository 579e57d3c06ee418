//! NVIDIA's management library, which comes with the driver: its version, and the energy that a GPU has used. Loaded
//! by hand, because cudarc does not know it. Not here: what is made of the figures.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint};

use libloading::Library;

const FILE: &str = "libnvidia-ml.so.1";
/// Room for a version in words, as NVIDIA advises.
const WORDS: usize = 96;

type Init = unsafe extern "C" fn() -> c_int;
type DriverVersion = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;

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

impl Drop for Nvml {
    fn drop(&mut self) {
        // SAFETY: it was started once, and the function takes and leaves nothing.
        let _ = unsafe { self.library.get::<Init>(b"nvmlShutdown\0").map(|shutdown| shutdown()) };
    }
}
