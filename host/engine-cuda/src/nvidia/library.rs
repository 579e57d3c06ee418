//! The libraries of CUDA's that are needed at run time: whether each is there, and what brings it. Not here: any call
//! into them.
#![allow(unsafe_code)]

use std::fmt;

use cudarc::{cublaslt, driver, nvrtc};
use engine::EngineError;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// Runs what there is on the GPU.
    Driver,
    /// Compiles kernels.
    Nvrtc,
    /// Multiplies matrices.
    CublasLt,
}

impl Library {
    /// In the order in which they are needed.
    pub const ALL: [Library; 3] = [Library::Driver, Library::Nvrtc, Library::CublasLt];

    /// Whether it can be loaded: to be asked before anything in it is called, which would panic.
    pub fn is_there(self) -> bool {
        // SAFETY: loading NVIDIA's libraries runs nothing but their own initialisation.
        unsafe {
            match self {
                Library::Driver => driver::sys::is_culib_present(),
                Library::Nvrtc => nvrtc::sys::is_culib_present(),
                Library::CublasLt => cublaslt::sys::is_culib_present(),
            }
        }
    }

    /// What has to be installed, by whatever name each source has it.
    pub fn package(self) -> &'static str {
        match self {
            Library::Driver => "NVIDIA's driver; a container has to be started with the GPU",
            Library::Nvrtc => "nvidia-cuda-nvrtc-cu12 of PyPI, or cuda-nvrtc-12-8 of NVIDIA's repository",
            Library::CublasLt => "nvidia-cublas-cu12 of PyPI, or libcublas-12-8 of NVIDIA's repository",
        }
    }

    /// An error that names all that are missing.
    pub(crate) fn demand(device: &str) -> Result<(), EngineError> {
        let missing: Vec<Library> = Library::ALL.into_iter().filter(|library| !library.is_there()).collect();
        match missing[..] {
            [] => Ok(()),
            _ => Err(EngineError::DeviceUnavailable { device: device.into(), reason: reason(&missing) }),
        }
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Library::Driver => "libcuda.so.1",
            Library::Nvrtc => "libnvrtc.so.12",
            Library::CublasLt => "libcublasLt.so.12",
        })
    }
}

fn reason(missing: &[Library]) -> String {
    let each = |library: &Library| format!("{library} cannot be loaded (install {})", library.package());
    let mut all: Vec<String> = missing.iter().map(each).collect();
    if missing != [Library::Driver] {
        all.push("the folders of what comes from PyPI go into LD_LIBRARY_PATH".into());
    }
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_brings_it() {
        let said = reason(&[Library::Nvrtc, Library::CublasLt]);
        for word in ["libnvrtc.so.12", "nvidia-cuda-nvrtc-cu12", "libcublasLt.so.12", "LD_LIBRARY_PATH"] {
            assert!(said.contains(word), "{said}");
        }
    }
}
