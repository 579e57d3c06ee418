//! [`Driver`] on a GPU: memory and calls in one queue, in the order in which they are asked for. Calls are kept back until they are
//! submitted, to begin them together. Not here: what becomes of a sequence of calls (graphs.rs).
#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::result;
use engine::{Clocks, EngineError, GraphCounts, Precision};

use super::calls::{Call, Function};
use super::graphs::Graphs;
use super::machine::{Machine, failed};
use super::product::{Addresses, Extents, Products, WORKSPACE_BYTES};
use super::staging::Staging;
use super::stream::{Piece, Pinned, Stream};
use crate::driver::{After, Argument, Driver, Grid, Number, Place, PlaceMut, Product, Then, Words};

/// What is larger is copied to the GPU from where it lies: weights, which are written while nothing runs.
const MOST_STAGED_BYTES: usize = 8 << 20;

/// The driver.
pub struct Nvidia {
    queue: Arc<Queue>,
    precision: Precision,
}

impl Nvidia {
    pub(super) fn new(machine: Arc<Machine>, precision: Precision) -> Result<Nvidia, EngineError> {
        let stream = Stream::new(machine)?;
        let products = Products::new(&stream, precision)?;
        let (calls, graphs, staging) = (Vec::new(), Graphs::new(), Staging::default());
        let state = Mutex::new(State { calls, graphs, staging, products });
        Ok(Nvidia { queue: Arc::new(Queue { state, stream }), precision })
    }
}

/// A stream, and what it was not asked yet.
struct Queue {
    state: Mutex<State>,
    stream: Stream,
}

struct State {
    /// Since the last submission.
    calls: Vec<Call>,
    graphs: Graphs,
    staging: Staging,
    products: Products,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, call: Call) {
        self.state().calls.push(call);
    }

    fn submit(&self) -> Result<(), EngineError> {
        let State { calls, graphs, products, .. } = &mut *self.state();
        if calls.is_empty() {
            return Ok(());
        }
        self.stream.enter()?;
        graphs.run(std::mem::take(calls), &self.stream, products)
    }

    fn finish(&self) -> Result<(), EngineError> {
        let submitted = self.submit();
        self.stream.enter()?;
        let waited = self.stream.wait();
        submitted.and(waited)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // What the state has made is destroyed next: the context is current then, and nothing is under way.
        let _ = self.finish();
    }
}

/// A piece of the GPU's memory.
pub struct Memory {
    /// There until this is dropped.
    piece: Option<Piece>,
    queue: Arc<Queue>,
}

impl Memory {
    fn address(&self, first_byte: usize, bytes: usize) -> Result<u64, EngineError> {
        let gone = || EngineError::Device("a piece of memory was given back".into());
        self.piece.as_ref().ok_or_else(gone)?.address(first_byte, bytes)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What is under way, or kept back, may still use it. A device that has failed takes its memory with it.
        if self.queue.finish().is_err() {
            std::mem::forget(self.piece.take());
        }
    }
}

/// Bytes on their way to the host.
pub struct Later {
    /// There until this is dropped.
    pinned: Option<Pinned>,
    queue: Arc<Queue>,
}

impl Drop for Later {
    fn drop(&mut self) {
        if let Some(pinned) = self.pinned.take() {
            self.queue.state().staging.give_back(pinned);
        }
    }
}

impl Driver for Nvidia {
    type Memory = Memory;
    type Later = Later;

    fn words(&self) -> String {
        self.queue.stream.machine().words(self.precision)
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn millijoules(&self) -> Option<u64> {
        self.queue.stream.machine().meter()?.millijoules()
    }

    fn clocks(&self) -> Option<Clocks> {
        self.queue.stream.machine().meter()?.clocks()
    }

    fn graphs(&self) -> Option<GraphCounts> {
        Some(self.queue.state().graphs.counts())
    }

    fn own_bytes(&self) -> u64 {
        WORKSPACE_BYTES as u64
    }

    fn allocate(&self, bytes: usize) -> Result<Memory, EngineError> {
        let piece = self.queue.stream.allocate(bytes)?;
        let mut memory = Memory { piece: Some(piece), queue: Arc::clone(&self.queue) };
        self.clear(&mut memory, bytes)?;
        Ok(memory)
    }

    fn clear(&self, memory: &mut Memory, bytes: usize) -> Result<(), EngineError> {
        let address = memory.address(0, bytes)?;
        self.queue.add(Call::Clear { address, bytes });
        Ok(())
    }

    fn submit(&self) -> Result<(), EngineError> {
        self.queue.submit()
    }

    fn wait(&self) -> Result<(), EngineError> {
        self.queue.finish()
    }

    fn upload(&self, bytes: &[u8], to: &mut Memory) -> Result<(), EngineError> {
        let address = to.address(0, bytes.len())?;
        self.queue.submit()?;
        let stream = &self.queue.stream;
        stream.enter()?;
        if bytes.len() <= MOST_STAGED_BYTES {
            let staging = &mut self.queue.state().staging;
            let mut pinned = staging.take(bytes.len())?;
            let sent = pinned.send(bytes, address, stream);
            staging.give_back(pinned);
            return sent;
        }
        // SAFETY: so many bytes lie there, and the host's are not given back before the copy is done.
        let copied = unsafe { result::memcpy_htod_async(address, bytes, stream.raw()) };
        let waited = stream.wait();
        copied.map_err(|error| failed("copy to the GPU", error)).and(waited)
    }

    fn download(&self, from: &Memory, to: &mut [u8]) -> Result<(), EngineError> {
        let address = from.address(0, to.len())?;
        self.queue.submit()?;
        let stream = &self.queue.stream;
        stream.enter()?;
        // SAFETY: so many bytes lie there, and the host's are not looked at before the copy is done.
        let copied = unsafe { result::memcpy_dtoh_async(to, address, stream.raw()) };
        let waited = stream.wait();
        copied.map_err(|error| failed("copy from the GPU", error)).and(waited)
    }

    fn download_later(&self, from: &Memory, bytes: usize) -> Result<Later, EngineError> {
        let address = from.address(0, bytes)?;
        self.queue.submit()?;
        let stream = &self.queue.stream;
        stream.enter()?;
        let mut pinned = self.queue.state().staging.take(bytes)?;
        let fetched = pinned.fetch(address, bytes, stream);
        let later = Later { pinned: Some(pinned), queue: Arc::clone(&self.queue) };
        fetched.map(|()| later)
    }

    fn arrived(&self, later: &Later, to: &mut [u8]) -> Result<(), EngineError> {
        self.queue.stream.enter()?;
        later.pinned.as_ref().map_or(Ok(()), |pinned| pinned.read(to))
    }

    fn copy(
        &self,
        from: Place<'_, Memory>,
        to: PlaceMut<'_, Memory>,
        bytes: usize,
    ) -> Result<(), EngineError> {
        let from = from.memory.address(from.first_byte, bytes)?;
        let to = to.memory.address(to.first_byte, bytes)?;
        self.queue.add(Call::Copy { from, to, bytes });
        Ok(())
    }

    fn launch(
        &self,
        kernel: &'static str,
        grid: Grid,
        arguments: &[Argument<'_, Memory>],
    ) -> Result<(), EngineError> {
        let machine = self.queue.stream.machine();
        let function = Function(machine.function(kernel, Number::of_activations(self.precision))?);
        let arguments = Words::of(arguments, |memory, first_byte| memory.address(first_byte, 0))?;
        self.queue.add(Call::Launch { kernel, function, grid, arguments });
        Ok(())
    }

    fn multiply(
        &self,
        product: &Product,
        a: Place<'_, Memory>,
        b: Place<'_, Memory>,
        c: PlaceMut<'_, Memory>,
        then: Then<'_, Memory>,
    ) -> Result<bool, EngineError> {
        if product.m == 0 || product.n == 0 {
            return Ok(true);
        }
        let extents = Extents::of(product);
        let within = |place: Place<'_, Memory>, bytes| place.memory.address(place.first_byte, bytes);
        let (mut bias_at, mut before_at, mut matrix_at) = (0, 0, 0);
        match then {
            Then::Nothing => {}
            Then::Bias(bias) => bias_at = within(bias, extents.bias)?,
            Then::BiasAndMatrix { bias, matrix } => {
                bias_at = within(bias, extents.bias)?;
                matrix_at = within(matrix, extents.c)?;
            }
            Then::BiasGelu { bias, before } => {
                bias_at = within(bias, extents.bias)?;
                before_at = before.map_or(Ok(0), |before| before.address(0, extents.before))?;
            }
            Then::GeluSlope(before) => before_at = within(before, extents.before)?,
        }
        let c = c.memory.address(c.first_byte, extents.c)?;
        let at = Addresses {
            a: within(a, extents.a)?,
            b: within(b, extents.b)?,
            onto: if product.after == After::BiasAndMatrix { matrix_at } else { c },
            c,
            bias: bias_at,
            before: before_at,
        };
        self.queue.stream.enter()?;
        let state = &mut *self.queue.state();
        let Some(key) = state.products.prepare(product, &at)? else { return Ok(false) };
        state.calls.push(Call::Multiply { key, at });
        Ok(true)
    }
}
