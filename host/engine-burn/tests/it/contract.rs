//! The checks that every engine passes.

use engine::contract;
use engine_burn::{Device, build};

#[test]
fn keeps_the_contract() {
    contract::check(&|shape| build(shape, Device::Cpu).expect("the CPU is there"));
}
