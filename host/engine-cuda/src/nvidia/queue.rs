//! [`Driver`] on a GPU: memory and launches in one queue, in the order in which they are asked for. Not here: products
//! of matrices.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError, stream};
use cudarc::driver::sys;
use engine::{EngineError, Precision};

use super::machine::{Machine, failed};
use super::product::{Products, WORKSPACE_BYTES};
use crate::driver::{Argument, Driver, Grid, Number, Place, PlaceMut, Product};

/// The driver.
pub struct Nvidia {
    products: RefCell<Products>,
    queue: Arc<Queue>,
    precision: Precision,
}

impl Nvidia {
    pub(super) fn new(machine: Arc<Machine>, precision: Precision) -> Result<Nvidia, EngineError> {
        let queue = Arc::new(Queue::new(machine)?);
        let products = RefCell::new(Products::new(Arc::clone(&queue), precision)?);
        Ok(Nvidia { products, queue, precision })
    }
}

/// A stream of a machine's.
pub(super) struct Queue {
    machine: Arc<Machine>,
    stream: sys::CUstream,
}

// SAFETY: a stream may be used by any thread in which its context is current, which `enter` sees to.
unsafe impl Send for Queue {}
// SAFETY: as above; the driver itself orders calls on a stream.
unsafe impl Sync for Queue {}

impl Queue {
    fn new(machine: Arc<Machine>) -> Result<Queue, EngineError> {
        machine.enter()?;
        let stream = stream::create(stream::StreamKind::NonBlocking);
        Ok(Queue { stream: stream.map_err(|error| failed("make a stream", error))?, machine })
    }

    pub(super) fn enter(&self) -> Result<(), EngineError> {
        self.machine.enter()
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    pub(super) fn wait(&self) -> Result<(), EngineError> {
        // SAFETY: the stream is there until the queue is dropped.
        unsafe { stream::synchronize(self.stream) }.map_err(|error| failed("finish its work", error))
    }

    /// Memory that nobody has written to.
    pub(super) fn allocate(self: &Arc<Queue>, bytes: usize) -> Result<Memory, EngineError> {
        self.enter()?;
        // SAFETY: whoever asks writes to it before it is read.
        let address = unsafe { result::malloc_sync(bytes) }.map_err(|error| self.refused(bytes, error))?;
        Ok(Memory { address, bytes, queue: Arc::clone(self) })
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

impl Drop for Queue {
    fn drop(&mut self) {
        if self.enter().is_ok() {
            // SAFETY: nobody else has it; work that is under way is finished first by the driver.
            let _ = unsafe { stream::destroy(self.stream) };
        }
    }
}

/// A piece of the GPU's memory.
pub struct Memory {
    address: sys::CUdeviceptr,
    bytes: usize,
    queue: Arc<Queue>,
}

impl Memory {
    /// The address of a byte, with so many behind it.
    pub(super) fn address(&self, first_byte: usize, bytes: usize) -> Result<sys::CUdeviceptr, EngineError> {
        let inside = first_byte.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        let beyond = || {
            let Memory { bytes: all, .. } = self;
            EngineError::Device(format!("{bytes} bytes from {first_byte} on lie beyond a piece of {all}"))
        };
        inside.then(|| self.address + first_byte as u64).ok_or_else(beyond)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What is under way may still use it. A device that has failed takes its memory with it.
        if self.queue.enter().is_ok() && self.queue.wait().is_ok() {
            // SAFETY: it was allocated once, and nothing uses it any more.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

impl Driver for Nvidia {
    type Memory = Memory;

    fn words(&self) -> String {
        self.queue.machine.words(self.precision)
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn own_bytes(&self) -> u64 {
        WORKSPACE_BYTES as u64
    }

    fn allocate(&self, bytes: usize) -> Result<Memory, EngineError> {
        let mut memory = self.queue.allocate(bytes)?;
        self.clear(&mut memory, bytes)?;
        Ok(memory)
    }

    fn clear(&self, memory: &mut Memory, bytes: usize) -> Result<(), EngineError> {
        let address = memory.address(0, bytes)?;
        self.queue.enter()?;
        // SAFETY: so many bytes lie there.
        let cleared = unsafe { result::memset_d8_async(address, 0, bytes, self.queue.stream) };
        cleared.map_err(|error| failed("clear memory", error))
    }

    fn upload(&self, bytes: &[u8], to: &mut Memory) -> Result<(), EngineError> {
        let address = to.address(0, bytes.len())?;
        self.queue.enter()?;
        // SAFETY: so many bytes lie there, and the host's are not given back before the copy is done.
        let copied = unsafe { result::memcpy_htod_async(address, bytes, self.queue.stream) };
        let waited = self.queue.wait();
        copied.map_err(|error| failed("copy to the GPU", error)).and(waited)
    }

    fn download(&self, from: &Memory, to: &mut [u8]) -> Result<(), EngineError> {
        let address = from.address(0, to.len())?;
        self.queue.enter()?;
        // SAFETY: as above.
        let copied = unsafe { result::memcpy_dtoh_async(to, address, self.queue.stream) };
        let waited = self.queue.wait();
        copied.map_err(|error| failed("copy from the GPU", error)).and(waited)
    }

    fn copy(
        &self,
        from: Place<'_, Memory>,
        to: PlaceMut<'_, Memory>,
        bytes: usize,
    ) -> Result<(), EngineError> {
        let from = from.memory.address(from.first_byte, bytes)?;
        let to = to.memory.address(to.first_byte, bytes)?;
        self.queue.enter()?;
        // SAFETY: so many bytes lie at both, in two pieces: one is borrowed to be read, the other to be written.
        let copied = unsafe { result::memcpy_dtod_async(to, from, bytes, self.queue.stream) };
        copied.map_err(|error| failed("copy on the GPU", error))
    }

    fn launch(
        &self,
        kernel: &'static str,
        Grid { blocks: [x, y], threads }: Grid,
        arguments: &[Argument<'_, Memory>],
    ) -> Result<(), EngineError> {
        let function = self.queue.machine.function(kernel, Number::of_activations(self.precision))?;
        let mut values = arguments.iter().map(value).collect::<Result<Vec<u64>, _>>()?;
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| (&raw mut *value).cast()).collect();
        self.queue.enter()?;
        // SAFETY: the arguments are those of the kernel's source in number and type (the emulated driver refuses
        // others), each in the lowest bytes of eight; memory is given back only once the queue is idle.
        let launched = unsafe {
            result::launch_kernel(function, (x, y, 1), (threads, 1, 1), 0, self.queue.stream, &mut pointers)
        };
        launched.map_err(|error| failed(kernel, error))
    }

    fn multiply(
        &self,
        product: &Product,
        a: Place<'_, Memory>,
        b: Place<'_, Memory>,
        c: PlaceMut<'_, Memory>,
    ) -> Result<(), EngineError> {
        self.products.borrow_mut().multiply(product, a, b, c)
    }
}

/// The bits of an argument, in the lowest bytes: CUDA runs on little-endian machines alone.
fn value(argument: &Argument<'_, Memory>) -> Result<u64, EngineError> {
    Ok(match argument {
        Argument::Read(place) => place.memory.address(place.first_byte, 0)?,
        Argument::Write(memory) => memory.address(0, 0)?,
        Argument::Nothing => 0,
        Argument::U32(value) => u64::from(*value),
        Argument::U64(value) => *value,
        Argument::F32(value) => u64::from(value.to_bits()),
    })
}

fn in_words(bytes: usize) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}
