//! Each kernel of the CPU against its twin in f64, at every level of vector instructions that there is.

use engine_native::{Cpu, Level, proof};

const TOLERANCE: f64 = 1e-5;

#[test]
fn every_kernel_does_what_its_twin_does() {
    let levels = [Level::Avx512, Level::Avx2, Level::Baseline].map(Cpu::at_most);
    let agreements = proof::kernels(&levels);
    let mut kernels: Vec<&str> = agreements.iter().map(|agreement| agreement.what.as_str()).collect();
    kernels.sort_unstable();
    kernels.dedup();
    let all = ["attention", "classifier", "elements", "embedding", "layer norm", "linear", "optimizer"];
    assert_eq!(kernels, all);
    for proof::Agreement { what, place, deviation } in &agreements {
        assert!(*deviation <= TOLERANCE, "{what}, {place}: off by {deviation:e}");
    }
}
