//! Each kernel of the CPU against its twin in f64, at every level of vector instructions that there is.

use std::collections::BTreeSet;

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

/// What is asked of a device beside kernels: what it is, and its buffers, without which no case could be run.
const NO_KERNELS: [&str; 19] = [
    "activation_bytes",
    "activations",
    "bytes",
    "clocks",
    "download",
    "elements_at_once",
    "energy",
    "engine_name",
    "factor_bytes",
    "graphs",
    "health",
    "memory_peak_bytes",
    "runs_ahead",
    "scratch_bytes",
    "submit",
    "upload",
    "wait",
    "words",
    "zeros",
];

/// One that comes to the trait gets a case of the proof with it, by which every device is tried.
#[test]
fn every_kernel_of_the_trait_has_a_case() {
    let (_, declared) =
        include_str!("../../src/kernels.rs").split_once("pub trait Kernels").expect("it stands there");
    let names = declared.split("    fn ").skip(1).filter_map(|method| method.split('(').next());
    let kernels: BTreeSet<&str> = names.filter(|name| !NO_KERNELS.contains(name)).collect();
    assert!(kernels.contains("adamw") && kernels.len() > 20, "{kernels:?}");
    let cases = include_str!("../../src/proof/kernels.rs");
    let missing: Vec<&&str> =
        kernels.iter().filter(|kernel| !cases.contains(&format!("kernels.{kernel}("))).collect();
    assert!(missing.is_empty(), "proof/kernels.rs runs no {missing:?}");
}
