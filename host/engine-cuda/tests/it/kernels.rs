//! Each kernel, emulated, against its twin in f64; and against itself with threads in the other order.

use engine_cuda::Cuda;
use engine_native::{Kernels, proof};

use crate::emulated::{Emulated, Order};

const TOLERANCE: f64 = 1e-5;

#[test]
fn every_kernel_does_what_its_twin_does() {
    let orders = [Order::Rising, Order::Falling].map(Emulated::new);
    let [Some(rising), Some(falling)] = orders else { return };
    let devices = [Cuda::on(rising), Cuda::on(falling)];
    let agreements = proof::kernels(&devices);
    for device in &devices {
        assert_eq!(device.health(), Ok(()));
    }
    let mut kernels: Vec<&str> = agreements.iter().map(|agreement| agreement.what.as_str()).collect();
    kernels.sort_unstable();
    kernels.dedup();
    let all = ["attention", "classifier", "elements", "embedding", "layer norm", "linear", "optimizer"];
    assert_eq!(kernels, all);
    for proof::Agreement { what, place, deviation } in &agreements {
        assert!(*deviation <= TOLERANCE, "{what}, {place}: off by {deviation:e}");
    }
}
