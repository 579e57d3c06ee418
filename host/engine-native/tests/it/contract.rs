//! The checks that every engine passes.

use engine::contract;
use engine_native::{Device, build};

#[test]
fn the_cpu_keeps_the_contract() {
    contract::check(&|shape| crate::build(shape).expect("the CPU is there"));
}

#[test]
fn threads_of_its_own_keep_the_contract() {
    let threads = std::num::NonZero::new(2);
    contract::check(&|shape| build(shape, Device::Cpu { threads }).expect("the CPU is there"));
}

#[test]
fn the_reference_keeps_the_contract() {
    contract::check(&|shape| build(shape, Device::Reference).expect("it needs nothing"));
}
