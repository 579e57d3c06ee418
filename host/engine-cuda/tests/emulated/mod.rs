//! A driver without a GPU: the very same sources of kernels, compiled by g++ against a shim and run on the
//! processor thread by thread; matrix products by plain loops. Slow, strict, and only for tests.
//!
//! Strict: arguments have to be of the kernel's types, no kernel may write beside what it was given, and threads can
//! be run in either order, so that a missing barrier changes what comes out.
#![allow(unsafe_code)]

mod memory;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

use engine::{EngineError, Precision};
use engine_cuda::driver::{
    After, Argument, Driver, Grid, Lie, Number, Place, PlaceMut, Product, Then, Words,
};
use half::bf16;

use crate::compiled;

pub(crate) use memory::Memory;

/// In which order the threads of a block, and the blocks of a grid, take their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The first comes first.
    Rising,
    /// The last does.
    Falling,
}

/// The driver.
pub(crate) struct Emulated {
    order: Order,
    precision: Precision,
    /// Whether it does what follows a product together with it.
    fuses: bool,
}

type Entry = unsafe extern "C" fn(*const u32, *const c_char, *const *mut c_void, bool) -> c_int;

/// The kernels, compiled once for all tests; `Err` says what the compiler is missing.
static LIBRARY: OnceLock<Result<libloading::Library, String>> = OnceLock::new();
/// Shared memory and fibers exist once in the library.
static TURN: Mutex<()> = Mutex::new(());

impl Emulated {
    /// `None`, with a word on standard error, where there is no g++; a failure where `SAPWOOD_REQUIRE` names it.
    pub(crate) fn new(order: Order) -> Option<Emulated> {
        Emulated::of(order, Precision::Fp32)
    }

    /// In that precision.
    pub(crate) fn of(order: Order, precision: Precision) -> Option<Emulated> {
        let Err(missing) = LIBRARY.get_or_init(|| compiled::library("libkernels.so", "")) else {
            return Some(Emulated { order, precision, fuses: true });
        };
        compiled::skip("g++", missing);
        None
    }

    /// The same without a way to do with a product what follows it.
    pub(crate) fn without_fusion(self) -> Emulated {
        Emulated { fuses: false, ..self }
    }

    fn library() -> &'static libloading::Library {
        LIBRARY.get().and_then(|library| library.as_ref().ok()).expect("a driver was made only with it")
    }
}

impl Driver for Emulated {
    type Memory = Memory;
    type Later = Vec<u8>;

    fn words(&self) -> String {
        let numbers = match self.precision {
            Precision::Fp32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        };
        format!("cuda, emulated ({numbers})")
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn allocate(&self, bytes: usize) -> Result<Memory, EngineError> {
        Ok(Memory::zeros(bytes))
    }

    fn clear(&self, memory: &mut Memory, bytes: usize) -> Result<(), EngineError> {
        memory.bytes_mut()[..bytes].fill(0);
        Ok(())
    }

    fn upload(&self, bytes: &[u8], to: &mut Memory) -> Result<(), EngineError> {
        to.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn download(&self, from: &Memory, to: &mut [u8]) -> Result<(), EngineError> {
        let len = to.len();
        to.copy_from_slice(&from.bytes()[..len]);
        Ok(())
    }

    fn download_later(&self, from: &Memory, bytes: usize) -> Result<Vec<u8>, EngineError> {
        Ok(from.bytes()[..bytes].to_vec())
    }

    fn arrived(&self, later: &Vec<u8>, to: &mut [u8]) -> Result<(), EngineError> {
        to.copy_from_slice(later);
        Ok(())
    }

    fn copy(
        &self,
        from: Place<'_, Memory>,
        to: PlaceMut<'_, Memory>,
        bytes: usize,
    ) -> Result<(), EngineError> {
        let from = &from.memory.bytes()[from.first_byte..][..bytes];
        to.memory.bytes_mut()[to.first_byte..][..bytes].copy_from_slice(from);
        Ok(())
    }

    fn launch(
        &self,
        kernel: &'static str,
        grid: Grid,
        arguments: &[Argument<'_, Memory>],
    ) -> Result<(), EngineError> {
        let kinds: String = arguments.iter().map(kind).collect();
        let kinds = CString::new(kinds).expect("letters");
        let words = Words::of(arguments, |memory, first_byte| Ok(memory.address() + first_byte as u64))?;
        let numbers = [grid.blocks[0], grid.blocks[1], grid.threads];
        let answer = self.enter(kernel, &numbers, &kinds, &words.pointers())?;
        let wrong = match answer {
            0 => return check_guards(kernel, arguments),
            1 => "is given arguments of other types than its own",
            2 => "has threads that wait for others for ever",
            3 => "has blocks of no whole number of warps",
            _ => "copies from or to an address that is not aligned",
        };
        Err(EngineError::Device(format!("{kernel} {wrong}: {kinds:?}")))
    }

    fn multiply(
        &self,
        product: &Product,
        a: Place<'_, Memory>,
        b: Place<'_, Memory>,
        c: PlaceMut<'_, Memory>,
        then: Then<'_, Memory>,
    ) -> Result<bool, EngineError> {
        let Product { m, n, k, leading_c, adds, factors, result, after, .. } = *product;
        assert_eq!(after, then.kind());
        if after != After::Nothing && !self.fuses {
            return Ok(false);
        }
        let (a, b) = (self.factor(a, factors), self.factor(b, factors));
        let end = if n == 0 { 0 } else { (n - 1) * leading_c + m };
        let mut all = numbers(Place { memory: &*c.memory, first_byte: c.first_byte }, result);
        for column in 0..n {
            let c = &mut all[column * leading_c..][..m];
            if !adds {
                c.fill(0.0);
            }
            // Terms are summed in chunks, as a library does, so that rounding does not grow with all of them.
            for first in (0..k).step_by(CHUNK) {
                let mut sums = vec![0f32; m];
                for term in first..k.min(first + CHUNK) {
                    let factor = b[at(product.b, term, column)];
                    for (row, sum) in sums.iter_mut().enumerate() {
                        *sum += a[at(product.a, row, term)] * factor;
                    }
                }
                c.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum);
            }
        }
        follow(&mut all[..end], product, then);
        write(&all[..end], result, &mut c.memory.bytes_mut()[c.first_byte..]);
        Ok(true)
    }
}

/// What follows a product; `c` begins every `leading_c` numbers anew.
fn follow(c: &mut [f32], product: &Product, then: Then<'_, Memory>) {
    let Product { m, leading_c, result, .. } = *product;
    let of_row = |place: Place<'_, Memory>| numbers(place, result);
    let places = || (0..product.n).flat_map(|column| (0..m).map(move |row| (column, row)));
    match then {
        Then::Nothing => {}
        Then::Bias(bias) => {
            let bias = of_row(bias);
            places().for_each(|(column, row)| c[column * leading_c + row] += bias[row]);
        }
        Then::BiasAndMatrix { bias, matrix } => {
            let (bias, matrix) = (of_row(bias), of_row(matrix));
            for (column, row) in places() {
                let at = column * leading_c + row;
                c[at] = c[at] + bias[row] + matrix[at];
            }
        }
        Then::BiasGelu { bias, before } => {
            let bias = of_row(bias);
            places().for_each(|(column, row)| c[column * leading_c + row] += bias[row]);
            if let Some(before) = before {
                let kept: Vec<f32> = places().map(|(column, row)| c[column * leading_c + row]).collect();
                write(&kept, result, before.bytes_mut());
            }
            places().for_each(|(column, row)| {
                let x = &mut c[column * leading_c + row];
                *x *= 0.5 * (1.0 + gelu_tanh(*x));
            });
        }
        Then::GeluSlope(before) => {
            let before = of_row(before);
            for (column, row) in places() {
                let (x, tanh) = (before[column * m + row], gelu_tanh(before[column * m + row]));
                let inner = GELU_FACTOR * (1.0 + 3.0 * GELU_CUBIC * x * x);
                c[column * leading_c + row] *= 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner;
            }
        }
    }
}

const GELU_CUBIC: f32 = 0.044_715;
/// The root of 2 / pi.
const GELU_FACTOR: f32 = 0.797_884_6;

fn gelu_tanh(x: f32) -> f32 {
    (GELU_FACTOR * (x + GELU_CUBIC * x * x * x)).tanh()
}

fn write(values: &[f32], number: Number, to: &mut [u8]) {
    let to = &mut to[..values.len() * number.bytes()];
    match number {
        Number::F32 => to.copy_from_slice(bytemuck::cast_slice(values)),
        Number::Bf16 => {
            let rounded: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
            to.copy_from_slice(bytemuck::cast_slice(&rounded));
        }
    }
}

/// Terms of a product's sum that are added first.
const CHUNK: usize = 128;

/// Where the element of a factor stands that the product sees in that row and column.
fn at(lie: Lie, row: usize, column: usize) -> usize {
    if lie.transposed { column + row * lie.leading } else { row + column * lie.leading }
}

/// From there to the end of the piece.
fn numbers(place: Place<'_, Memory>, number: Number) -> Vec<f32> {
    let bytes = &place.memory.bytes()[place.first_byte..];
    match number {
        Number::F32 => bytemuck::cast_slice(bytes).to_vec(),
        Number::Bf16 => bytemuck::cast_slice::<u8, bf16>(bytes).iter().map(|value| value.to_f32()).collect(),
    }
}

/// The nearest number with ten bits behind the point.
fn tf32(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff)
}

impl Emulated {
    /// As the product reads it.
    fn factor(&self, place: Place<'_, Memory>, number: Number) -> Vec<f32> {
        let values = numbers(place, number);
        match self.precision {
            Precision::Tf32 => values.into_iter().map(tf32).collect(),
            Precision::Fp32 | Precision::Bf16 => values,
        }
    }

    fn enter(
        &self,
        kernel: &'static str,
        grid: &[u32; 3],
        kinds: &CStr,
        values: &[*mut c_void],
    ) -> Result<c_int, EngineError> {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("run_{kernel}_{}\0", compiled::suffix(Number::of_activations(self.precision)));
        // SAFETY: every `run_` function of the library has this signature.
        let entry = unsafe { Emulated::library().get::<Entry>(name.as_bytes()) };
        let entry = entry.map_err(|_| EngineError::Device(format!("there is no kernel {kernel}")))?;
        // SAFETY: the function compares the kinds with the kernel's own before it reads a value; pointers among
        // them are to memory that outlives the call, and what is written beside it is found right after.
        Ok(unsafe { entry(grid.as_ptr(), kinds.as_ptr(), values.as_ptr(), self.order == Order::Falling) })
    }
}

/// As the shim names it.
fn kind(argument: &Argument<'_, Memory>) -> char {
    match argument {
        Argument::Read(_) | Argument::Write(_) | Argument::Nothing => 'p',
        Argument::U32(_) => 'u',
        Argument::U64(_) => 'l',
        Argument::F32(_) => 'f',
        Argument::F64(_) => 'd',
        Argument::ReadEach(_) | Argument::WriteEach(_) => 'P',
        Argument::U32Each(_) => 'U',
        Argument::U64Each(_) => 'L',
        Argument::F32Each(_) => 'F',
    }
}

fn check_guards(kernel: &str, arguments: &[Argument<'_, Memory>]) -> Result<(), EngineError> {
    for (i, argument) in arguments.iter().enumerate() {
        let intact = match argument {
            Argument::Read(place) => place.memory.is_intact(),
            Argument::Write(memory) => memory.is_intact(),
            Argument::ReadEach(places) => places.iter().all(|place| place.memory.is_intact()),
            Argument::WriteEach(pieces) => pieces.iter().flatten().all(|memory| memory.is_intact()),
            _ => true,
        };
        if !intact {
            return Err(EngineError::Device(format!("{kernel} writes beside its argument {i}")));
        }
    }
    Ok(())
}
