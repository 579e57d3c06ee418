//! Sums and functions of f32 in a form that compilers turn into vector instructions of any width.
//!
//! Not here: dispatch; everything is inlined into kernels that are compiled for each level. The order of
//! every sum is fixed by its length.

use std::f64::consts::{FRAC_2_SQRT_PI, LN_2, SQRT_2};

/// Accumulators of a sum: enough to keep two of the widest registers busy.
const LANES: usize = 32;

/// `a b + c`, in one instruction where there is one.
#[inline(always)]
pub(crate) fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
pub(crate) fn sum(x: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|&x| of(x)).sum();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += of(x);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[inline(always)]
pub(crate) fn dot<const FMA: bool>(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in xs.zip(ys) {
        for i in 0..LANES {
            lanes[i] = madd::<FMA>(x[i], y[i], lanes[i]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The largest element, or negative infinity of none.
#[inline(always)]
pub(crate) fn largest(x: &[f32]) -> f32 {
    let more = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, more);
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = more(*lane, x);
        }
    }
    lanes.iter().copied().fold(rest, more)
}

/// `e^x` within 2 units in the last place for results that are normal numbers; the rest saturates.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `2^n` is written into the exponent and `e^r` is its Taylor
/// series, whose first term left out is below 1e-8.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding this leaves the nearest whole number in the low bits.
    const WHOLE: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has so few digits that n times it is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = (LN_2 - LN_2_HIGH as f64) as f32;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = madd::<FMA>(x, std::f32::consts::LOG2_E, WHOLE);
    let n = shifted - WHOLE;
    let r = madd::<FMA>(n, -LN_2_LOW, madd::<FMA>(n, -LN_2_HIGH, x));
    let mut series = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = madd::<FMA>(series, r, term);
    }
    series * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()))
}

/// The tanh form of GELU and its slope: with `u = sqrt(2 / pi) (x + 0.044715 x^3)` it is `x s(2 u)`, where
/// `s` is the logistic function.
#[inline(always)]
pub(crate) fn gelu_and_slope<const FMA: bool>(x: f32) -> (f32, f32) {
    let (logistic, slope_of_argument) = logistic_and_slope::<FMA>(x);
    let gelu = x * logistic;
    (gelu, madd::<FMA>(gelu * (1.0 - logistic), slope_of_argument, logistic))
}

#[inline(always)]
pub(crate) fn gelu<const FMA: bool>(x: f32) -> f32 {
    x * logistic_and_slope::<FMA>(x).0
}

/// `s(2 u)` and the slope of `2 u`.
#[inline(always)]
fn logistic_and_slope<const FMA: bool>(x: f32) -> (f32, f32) {
    const TWICE_ROOT: f32 = (FRAC_2_SQRT_PI * SQRT_2) as f32; // 2 sqrt(2 / pi)
    const CUBE: f32 = 0.044_715;
    let square = x * x;
    let argument = TWICE_ROOT * x * madd::<FMA>(CUBE, square, 1.0);
    let logistic = 1.0 / (1.0 + exp::<FMA>(-argument));
    (logistic, TWICE_ROOT * madd::<FMA>(3.0 * CUBE, square, 1.0))
}
