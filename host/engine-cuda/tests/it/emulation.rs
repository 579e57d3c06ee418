//! Whether the emulated driver is as strict as the proofs that rest on it need.

use engine::EngineError;
use engine_cuda::driver::{Argument, Driver, Grid, Place};

use crate::emulated::{Emulated, Memory, Order};

const GRID: Grid = Grid { blocks: [1, 1], threads: 256 };

/// `to = 0.5 from` on `len` elements, of pieces that hold 100; `tail` comes after the pointers.
fn scale(tail: impl Fn(u64) -> Vec<Argument<'static, Memory>>, len: u64) -> Option<Result<(), EngineError>> {
    let driver = Emulated::new(Order::Rising)?;
    let allocate = || driver.allocate(400).expect("there is memory");
    let (from, mut to) = (allocate(), allocate());
    let mut arguments =
        vec![Argument::Read(Place { memory: &from, first_byte: 0 }), Argument::Write(&mut to)];
    arguments.extend(tail(len));
    Some(driver.launch("scale", GRID, &arguments))
}

fn check(outcome: Option<Result<(), EngineError>>, expected: &str) {
    if let Some(outcome) = outcome {
        let said = outcome.map_or_else(|error| error.to_string(), |()| "it ran".into());
        assert!(said.contains(expected), "{said}, not: {expected}");
    }
}

#[test]
fn what_is_right_runs() {
    check(scale(|len| vec![Argument::F32(0.5), Argument::U64(len)], 100), "it ran");
}

#[test]
fn what_writes_beside_its_memory_is_found() {
    check(scale(|len| vec![Argument::F32(0.5), Argument::U64(len)], 101), "writes beside its argument 1");
}

#[test]
fn arguments_of_other_types_are_refused() {
    check(scale(|len| vec![Argument::F32(0.5), Argument::U32(len as u32)], 100), "arguments of other types");
    check(scale(|_| vec![Argument::F32(0.5)], 100), "arguments of other types");
}

#[test]
fn a_kernel_that_is_not_there_is_refused() {
    let Some(driver) = Emulated::new(Order::Rising) else { return };
    check(Some(driver.launch("scole", GRID, &[])), "there is no kernel scole");
}
