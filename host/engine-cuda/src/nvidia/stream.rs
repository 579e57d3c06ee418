//! A stream of a GPU's, and memory as the driver gives it. Not here: who asks the stream for what, and when.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError, event, stream};
use cudarc::driver::sys;
use engine::EngineError;

use super::machine::{Machine, failed};

/// A stream.
pub(super) struct Stream {
    machine: Arc<Machine>,
    raw: sys::CUstream,
}

// SAFETY: a stream may be used by any thread in which its context is current, which `enter` sees to.
unsafe impl Send for Stream {}
// SAFETY: as above; the driver itself orders calls on a stream.
unsafe impl Sync for Stream {}

impl Stream {
    pub(super) fn new(machine: Arc<Machine>) -> Result<Stream, EngineError> {
        machine.enter()?;
        let raw = stream::create(stream::StreamKind::NonBlocking);
        Ok(Stream { raw: raw.map_err(|error| failed("make a stream", error))?, machine })
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Makes its context the calling thread's.
    pub(super) fn enter(&self) -> Result<(), EngineError> {
        self.machine.enter()
    }

    pub(super) fn raw(&self) -> sys::CUstream {
        self.raw
    }

    /// Until all that it was asked is done.
    pub(super) fn wait(&self) -> Result<(), EngineError> {
        // SAFETY: the stream is there until this is dropped.
        unsafe { stream::synchronize(self.raw) }.map_err(|error| failed("finish its work", error))
    }

    /// Memory that nobody has written to.
    pub(super) fn allocate(&self, bytes: usize) -> Result<Piece, EngineError> {
        self.enter()?;
        // SAFETY: whoever asks writes to it before it is read.
        let address = unsafe { result::malloc_sync(bytes) }.map_err(|error| self.refused(bytes, error))?;
        Ok(Piece { address, bytes })
    }

    fn refused(&self, bytes: usize, error: DriverError) -> EngineError {
        if error.0 != sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return failed("allocate", error);
        }
        let what = result::mem_get_info().map_or_else(
            |_| format!("{} wanted", in_words(bytes)),
            |(free, all)| format!("{} wanted, {} of {} free", in_words(bytes), in_words(free), in_words(all)),
        );
        EngineError::OutOfMemory { device: self.machine.name().into(), what }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.enter().is_ok() {
            // SAFETY: nobody else has it; work that is under way is finished first by the driver.
            let _ = unsafe { stream::destroy(self.raw) };
        }
    }
}

/// Memory of the GPU's, given back when it is dropped: by then the context is current, and nothing under way uses it.
pub(super) struct Piece {
    address: sys::CUdeviceptr,
    bytes: usize,
}

impl Piece {
    /// The address of a byte, with so many behind it.
    pub(super) fn address(&self, first_byte: usize, bytes: usize) -> Result<sys::CUdeviceptr, EngineError> {
        let inside = first_byte.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        let beyond = || {
            let Piece { bytes: all, .. } = self;
            EngineError::Device(format!("{bytes} bytes from {first_byte} on lie beyond a piece of {all}"))
        };
        inside.then(|| self.address + first_byte as u64).ok_or_else(beyond)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: it was allocated once. A device that has failed takes its memory with it.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Memory of the host's that the GPU reads and writes by itself, and when it was last at it. Dropped as a [`Piece`] is.
pub(super) struct Pinned {
    address: *mut u8,
    bytes: usize,
    last_use: sys::CUevent,
}

// SAFETY: it is used by one thread at a time.
unsafe impl Send for Pinned {}
// SAFETY: who shares it reads alone, once the GPU has written.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// The context has to be current, here and below.
    pub(super) fn new(bytes: usize) -> Result<Pinned, EngineError> {
        let last_use = event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
        let last_use = last_use.map_err(|error| failed("make an event", error))?;
        // SAFETY: whoever reads it has written it, or had the GPU write it, before.
        match unsafe { result::malloc_host(bytes, 0) } {
            Ok(address) => Ok(Pinned { address: address.cast(), bytes, last_use }),
            Err(error) => {
                // SAFETY: it was just made.
                let _ = unsafe { event::destroy(last_use) };
                Err(failed("pin memory", error))
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the GPU is done with it.
    pub(super) fn is_idle(&self) -> bool {
        // SAFETY: the event is there until this is dropped.
        unsafe { event::query(self.last_use) }.is_ok()
    }

    /// Until the GPU is done with it.
    pub(super) fn wait(&self) -> Result<(), EngineError> {
        // SAFETY: as above.
        unsafe { event::synchronize(self.last_use) }.map_err(|error| failed("finish a copy", error))
    }

    /// Has these bytes, which fit, copied to the GPU.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        to: sys::CUdeviceptr,
        stream: &Stream,
    ) -> Result<(), EngineError> {
        assert!(bytes.len() <= self.bytes, "the caller has seen to it that they fit");
        // SAFETY: there is room for them, and the GPU is done with what was there.
        let own = unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address, bytes.len());
            std::slice::from_raw_parts(self.address, bytes.len())
        };
        // SAFETY: the caller has looked that so many bytes lie there; nobody writes here before the event has passed.
        let copied = unsafe { result::memcpy_htod_async(to, own, stream.raw()) };
        copied.and_then(|()| self.mark(stream)).map_err(|error| failed("copy to the GPU", error))
    }

    /// Has so many bytes, which fit, copied from the GPU.
    pub(super) fn fetch(
        &mut self,
        from: sys::CUdeviceptr,
        bytes: usize,
        stream: &Stream,
    ) -> Result<(), EngineError> {
        assert!(bytes <= self.bytes, "the caller has seen to it that they fit");
        // SAFETY: there is room for them, the GPU is done with what was there, and nobody reads before the event has passed.
        let copied = unsafe {
            sys::cuMemcpyDtoHAsync_v2(self.address.cast::<c_void>(), from, bytes, stream.raw()).result()
        };
        copied.and_then(|()| self.mark(stream)).map_err(|error| failed("copy from the GPU", error))
    }

    /// What was fetched, once it is there.
    pub(super) fn read(&self, to: &mut [u8]) -> Result<(), EngineError> {
        assert!(to.len() <= self.bytes, "no more is asked for than was fetched");
        self.wait()?;
        // SAFETY: the GPU has written so many bytes, and is done.
        unsafe { std::ptr::copy_nonoverlapping(self.address, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn mark(&self, stream: &Stream) -> Result<(), DriverError> {
        // SAFETY: event and stream are there.
        unsafe { event::record(self.last_use, stream.raw()) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.wait();
        // SAFETY: both were made once, and the GPU is done with them.
        unsafe {
            let _ = event::destroy(self.last_use);
            let _ = result::free_host(self.address.cast());
        }
    }
}

fn in_words(bytes: usize) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}
