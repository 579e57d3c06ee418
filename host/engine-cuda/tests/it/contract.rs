//! The checks that every engine passes, on the emulated device.

use engine::contract;
use engine_cuda::Cuda;
use engine_native::Step;

use crate::emulated::{Emulated, Order};

#[test]
fn the_device_keeps_the_contract() {
    if Emulated::new(Order::Rising).is_none() {
        return;
    }
    contract::check(&|shape| {
        let driver = Emulated::new(Order::Rising).expect("it was there a moment ago");
        Box::new(Step::new(shape, Cuda::on(driver)).expect("the shape is good"))
    });
}
