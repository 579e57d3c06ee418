//! What a queue is asked for, kept as values until it begins: two calls that are equal do the same. Not here: when they begin.
#![allow(unsafe_code)]

use cudarc::driver::result;
use cudarc::driver::sys;
use engine::EngineError;

use super::machine::failed;
use super::product::{Addresses, Key, Products};
use super::stream::Stream;
use crate::driver::{Grid, Words};

/// A call; addresses are those of memory that was looked at when it was made, and that is not given back before it is done.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Launch { kernel: &'static str, function: Function, grid: Grid, arguments: Words },
    Multiply { key: Key, at: Addresses },
    Clear { address: sys::CUdeviceptr, bytes: usize },
    Copy { from: sys::CUdeviceptr, to: sys::CUdeviceptr, bytes: usize },
}

/// A kernel on the GPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Function(pub(super) sys::CUfunction);

// SAFETY: a handle of the driver's may be used by any thread in which its context is current.
unsafe impl Send for Function {}

impl Call {
    /// Asks the stream for it; the context has to be current.
    pub(super) fn issue(&self, stream: &Stream, products: &Products) -> Result<(), EngineError> {
        match self {
            Call::Launch { kernel, function, grid, arguments } => {
                let Grid { blocks: [x, y], threads } = *grid;
                let mut pointers = arguments.pointers();
                // SAFETY: the arguments are those of the kernel's source in number and type (the emulated driver refuses
                // others), each from the lowest bytes of a word on.
                let launched = unsafe {
                    result::launch_kernel(
                        function.0,
                        (x, y, 1),
                        (threads, 1, 1),
                        0,
                        stream.raw(),
                        &mut pointers,
                    )
                };
                launched.map_err(|error| failed(kernel, error))
            }
            Call::Multiply { key, at } => products.run(key, at, stream),
            Call::Clear { address, bytes } => {
                // SAFETY: so many bytes lie there.
                let cleared = unsafe { result::memset_d8_async(*address, 0, *bytes, stream.raw()) };
                cleared.map_err(|error| failed("clear memory", error))
            }
            Call::Copy { from, to, bytes } => {
                // SAFETY: so many bytes lie at both, in two pieces: one was borrowed to be read, the other to be written.
                let copied = unsafe { result::memcpy_dtod_async(*to, *from, *bytes, stream.raw()) };
                copied.map_err(|error| failed("copy on the GPU", error))
            }
        }
    }
}
