//! The rate at which this machine multiplies matrices, by the library that the CPU device uses: what the rate of a
//! whole step is compared with. Not here: the step.

use std::time::Instant;

use crate::cpu::{Cpu, multiply};

/// Rows, columns and depth of the product: one that fits the caches of any processor of today.
const MEASURES: [usize; 3] = [1024, 256, 1024];
/// Products of one sample on each thread.
const PRODUCTS: usize = 10;
const SAMPLES: usize = 5;

/// The best of a few samples of f32 products, one on each thread of the current rayon pool at once, in GFLOP/s.
pub fn sgemm_gflops_per_second() -> f64 {
    let [m, n, k] = MEASURES;
    let cpu = Cpu::new();
    let sample = || {
        let flops = 2.0 * (m * n * k * PRODUCTS * rayon::current_num_threads()) as f64;
        let begun = Instant::now();
        rayon::broadcast(|_| {
            let (a, b, mut c) = (vec![0.5f32; m * k], vec![0.5f32; k * n], vec![0f32; m * n]);
            for _ in 0..PRODUCTS {
                multiply(&cpu, MEASURES, &a, &b, &mut c);
            }
            std::hint::black_box(c);
        });
        flops / begun.elapsed().as_secs_f64() / 1e9
    };
    (0..SAMPLES).map(|_| sample()).fold(0.0, f64::max)
}
