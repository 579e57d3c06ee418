//! Kernels to machine code of one architecture, by NVRTC, which needs no GPU for it. Not here: where that is kept.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};

use cudarc::nvrtc::{result, sys};
use engine::EngineError;

use super::Library;
use crate::driver::Number;
use crate::sources::Source;

/// Beside the architecture: nothing that changes results.
pub(crate) const OPTIONS: [&str; 1] = ["--std=c++17"];

/// The machine code of a source's kernels for activations of such numbers and an architecture, such as `sm_90`: an ELF file.
///
/// # Errors
/// NVRTC is not there, does not know the architecture, or refuses the source; then what it says.
pub fn cubin(source: &Source, activations: Number, architecture: &str) -> Result<Vec<u8>, EngineError> {
    Library::Nvrtc.is_there().then_some(()).ok_or_else(|| failed("load", &"it is not there"))?;
    let text = CString::new(source.program(activations)).expect("no source has a zero in it");
    let name = CString::new(source.file).expect("no name has a zero in it");
    let program = result::create_program(&text, Some(&name)).map_err(|error| failed("begin", &error))?;
    let program = Program(program);
    let architecture = format!("--gpu-architecture={architecture}");
    let options: Vec<&str> = OPTIONS.into_iter().chain([&*architecture]).collect();
    // SAFETY: the program was just made and is destroyed only when this function ends.
    if let Err(error) = unsafe { result::compile_program(program.0, &options) } {
        return Err(failed(&format!("compile {} with {architecture}", source.file), &program.log(&error)));
    }
    program.cubin().map_err(|error| failed("give machine code", &error))
}

/// Its version, as in 12.8; `None` where it is not there.
pub fn version() -> Option<(i32, i32)> {
    Library::Nvrtc.is_there().then_some(())?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is there, and writes two numbers.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }.result().ok()?;
    Some((major, minor))
}

/// A program of NVRTC's, until it is dropped.
struct Program(sys::nvrtcProgram);

impl Program {
    fn cubin(&self) -> Result<Vec<u8>, result::NvrtcError> {
        let mut len = 0;
        // SAFETY: the program is there, and a number is written.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &raw mut len) }.result()?;
        let mut cubin = vec![0u8; len];
        // SAFETY: there is room for as many bytes as NVRTC has just said.
        unsafe { sys::nvrtcGetCUBIN(self.0, cubin.as_mut_ptr().cast::<c_char>()) }.result()?;
        Ok(cubin)
    }

    /// What the compiler said; else the error itself.
    fn log(&self, error: &result::NvrtcError) -> String {
        // SAFETY: the program is there.
        let Ok(log) = (unsafe { result::get_program_log(self.0) }) else { return error.to_string() };
        let bytes: Vec<u8> = log.into_iter().map(|c| c.cast_unsigned()).collect();
        let said = CStr::from_bytes_until_nul(&bytes).map(CStr::to_string_lossy).unwrap_or_default();
        if said.is_empty() { error.to_string() } else { said.into_owned() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: nobody else has it. Where NVRTC fails to give it back, nothing can be done.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn failed(action: &str, said: &dyn std::fmt::Display) -> EngineError {
    EngineError::Device(format!("NVRTC cannot {action}: {said}"))
}
