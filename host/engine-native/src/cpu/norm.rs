//! Layer norm of rows, forward and backward. Not here: the residual stream around it.

use rayon::prelude::*;

use super::{
    buffer::Buffer,
    level::{Available, vectorised},
    math::{dot, madd, sum},
};
use crate::kernels::{Form, Norm, NormGradients, Sink, Write};

/// Rows that one task takes forward.
const ROWS: usize = 16;
/// Rows whose share in the gradients of gain and shift is summed first: the shape of that sum.
const ROWS_OF_A_PARTIAL: usize = 64;

pub(crate) fn forward(
    available: Available,
    form: &Form,
    x: &[f32],
    norm: &Norm<'_, Buffer>,
    out: &mut [f32],
    moments: &mut [f32],
) {
    let (width, rows) = (form.width, form.rows());
    let x = x[..rows * width].par_chunks(ROWS * width);
    let out = out.par_chunks_mut(ROWS * width).zip(moments.par_chunks_mut(2 * ROWS));
    x.zip(out).for_each(|(x, (out, moments))| {
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(moments.chunks_exact_mut(2));
        for ((x, out), moments) in rows {
            norm_row(available, x, norm.gain, norm.shift, form.epsilon as f32, out, moments);
        }
    });
}

/// Elements of the partial sums that [`backward`] forms.
pub(crate) fn partials(form: &Form) -> usize {
    form.rows().div_ceil(ROWS_OF_A_PARTIAL) * 2 * form.width
}

#[expect(clippy::too_many_arguments, reason = "a kernel: what it reads, where it writes")]
pub(crate) fn backward(
    available: Available,
    form: &Form,
    x: &[f32],
    moments: &[f32],
    norm: &Norm<'_, Buffer>,
    gradient: &[f32],
    out: NormGradients<'_, Buffer>,
    partials: &mut Vec<f32>,
) {
    let (width, rows) = (form.width, form.rows());
    let NormGradients { input, normed, gain, shift } = out;
    let sums = gain.is_some() || shift.is_some();
    let tasks = rows.div_ceil(ROWS_OF_A_PARTIAL);
    if partials.len() < self::partials(form) {
        partials.resize(self::partials(form), 0.0);
    }
    let add = input.as_ref().is_some_and(|sink| sink.write == Write::Add);
    let chunk = ROWS_OF_A_PARTIAL * width;
    let mut input = cut(input.map(|sink| sink.buffer), chunk, tasks);
    let mut normed = cut(normed, chunk, tasks);
    let inputs = input.par_iter_mut().zip(normed.par_iter_mut());
    let partials_of = partials.par_chunks_mut(2 * width).take(tasks);
    inputs.zip(partials_of).enumerate().for_each(|(task, ((input, normed), partial))| {
        let first = task * ROWS_OF_A_PARTIAL;
        partial.fill(0.0);
        let (gain_sum, shift_sum) = partial.split_at_mut(width);
        for row in first..rows.min(first + ROWS_OF_A_PARTIAL) {
            let (at, local) =
                (row * width..(row + 1) * width, (row - first) * width..(row - first + 1) * width);
            let moments = [moments[2 * row], moments[2 * row + 1]];
            let (x, dy) = (&x[at.clone()], &gradient[at]);
            if sums {
                add_parameter_gradients(available, x, moments, dy, gain_sum, shift_sum);
            }
            if let Some(normed) = normed.as_deref_mut() {
                apply(available, x, moments, norm.gain, norm.shift, &mut normed[local.clone()]);
            }
            if let Some(input) = input.as_deref_mut() {
                input_row(available, x, moments, norm.gain, dy, add, &mut input[local]);
            }
        }
    });
    for (half, sink) in [(0, gain), (1, shift)] {
        let Some(Sink { buffer, write }) = sink else { continue };
        if write == Write::Replace {
            buffer.fill(0.0);
        }
        for partial in partials.chunks_exact(2 * width).take(tasks) {
            for (to, from) in buffer.iter_mut().zip(&partial[half * width..(half + 1) * width]) {
                *to += from;
            }
        }
    }
}

/// One piece for each task, or as many times nothing.
fn cut(buffer: Option<&mut Buffer>, chunk: usize, tasks: usize) -> Vec<Option<&mut [f32]>> {
    match buffer {
        Some(buffer) => buffer.chunks_mut(chunk).take(tasks).map(Some).collect(),
        None => (0..tasks).map(|_| None).collect(),
    }
}

vectorised! {
    fn norm_row(x: &[f32], gain: &[f32], shift: &[f32], epsilon: f32, out: &mut [f32], moments: &mut [f32]) = norm_row_body
}
vectorised! {
    fn apply(x: &[f32], moments: [f32; 2], gain: &[f32], shift: &[f32], out: &mut [f32]) = apply_body
}
vectorised! {
    fn add_parameter_gradients(x: &[f32], moments: [f32; 2], dy: &[f32], gain: &mut [f32], shift: &mut [f32]) = add_parameter_gradients_body
}
vectorised! {
    fn input_row(x: &[f32], moments: [f32; 2], gain: &[f32], dy: &[f32], add: bool, dx: &mut [f32]) = input_row_body
}

#[inline(always)]
fn norm_row_body<const FMA: bool>(
    x: &[f32],
    gain: &[f32],
    shift: &[f32],
    epsilon: f32,
    out: &mut [f32],
    moments: &mut [f32],
) {
    let mean = sum(x, |x| x) / x.len() as f32;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / x.len() as f32;
    let scale = 1.0 / (variance + epsilon).sqrt();
    apply_body::<FMA>(x, [mean, scale], gain, shift, out);
    moments.copy_from_slice(&[mean, scale]);
}

#[inline(always)]
fn apply_body<const FMA: bool>(
    x: &[f32],
    [mean, scale]: [f32; 2],
    gain: &[f32],
    shift: &[f32],
    out: &mut [f32],
) {
    for (((out, x), gain), shift) in out.iter_mut().zip(x).zip(gain).zip(shift) {
        *out = madd::<FMA>((x - mean) * scale, *gain, *shift);
    }
}

#[inline(always)]
fn add_parameter_gradients_body<const FMA: bool>(
    x: &[f32],
    [mean, scale]: [f32; 2],
    dy: &[f32],
    gain: &mut [f32],
    shift: &mut [f32],
) {
    for (((x, dy), gain), shift) in x.iter().zip(dy).zip(gain).zip(shift) {
        *gain = madd::<FMA>((x - mean) * scale, *dy, *gain);
        *shift += dy;
    }
}

/// With `u` the unit-variance row and `g = dy gain`: `dx = scale (g - mean(g) - u mean(g u))`.
#[inline(always)]
fn input_row_body<const FMA: bool>(
    x: &[f32],
    [mean, scale]: [f32; 2],
    gain: &[f32],
    dy: &[f32],
    add: bool,
    dx: &mut [f32],
) {
    let width = x.len() as f32;
    let gradient = dot::<FMA>(dy, gain);
    let projection = dot_of_product::<FMA>(dy, gain, x, mean) * scale;
    let (a, b) = (gradient / width, projection / width);
    for (((dx, x), dy), gain) in dx.iter_mut().zip(x).zip(dy).zip(gain) {
        let unit = (x - mean) * scale;
        let value = madd::<FMA>(-unit, b, madd::<FMA>(*dy, *gain, -a)) * scale;
        *dx = if add { *dx + value } else { value };
    }
}

/// The sum of `dy gain (x - mean)`.
#[inline(always)]
fn dot_of_product<const FMA: bool>(dy: &[f32], gain: &[f32], x: &[f32], mean: f32) -> f32 {
    const LANES: usize = 32;
    let mut lanes = [0f32; LANES];
    let whole = x.len() / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        let (dy, gain, x) =
            (&dy[first..first + LANES], &gain[first..first + LANES], &x[first..first + LANES]);
        for i in 0..LANES {
            lanes[i] = madd::<FMA>(dy[i] * gain[i], x[i] - mean, lanes[i]);
        }
    }
    let rest: f32 = (whole..x.len()).map(|i| dy[i] * gain[i] * (x[i] - mean)).sum();
    lanes.iter().sum::<f32>() + rest
}
