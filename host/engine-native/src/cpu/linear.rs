//! Linear maps with what follows them fused into each tile of the product, forward and backward.
//!
//! Not here: the products themselves.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::{
    buffer::Buffer,
    level::{Available, vectorised},
    math::{gelu, gelu_and_slope},
    parts::Parts,
    product::{Grid, Matrix, Target, Tile, product},
    transpose::transpose,
};
use crate::kernels::{Epilogue, Linear, Sink, Write};

pub(crate) fn forward(
    available: Available,
    Linear { rows, inputs, outputs }: Linear,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    epilogue: Epilogue<'_, Buffer>,
    out: &mut [f32],
) {
    let (x, weight) = (Matrix::rows(x, inputs), Matrix::rows(weight, outputs));
    let out = Parts::new(out);
    let (mut before, mut residual, mut is_gelu) = (None, None, false);
    match epilogue {
        Epilogue::Bias => {}
        Epilogue::Gelu(keep) => (before, is_gelu) = (keep.map(|buffer| Parts::new(buffer)), true),
        Epilogue::Residual { stream, gate } => residual = Some((&stream[..], gate)),
    }
    Grid::new([rows, outputs, inputs]).for_each(|tile: Tile| {
        let first = tile.row * outputs + tile.column;
        let target = Target { parts: out, first, stride: outputs, add: false };
        let (x, weight) = (x.from(tile.row, 0), weight.from(0, tile.column));
        // SAFETY: tiles do not overlap.
        unsafe { product(available, [tile.rows, tile.columns, inputs], target, 1.0, x, weight) };
        let bias = &bias[tile.column..tile.column + tile.columns];
        for row in tile.row..tile.row + tile.rows {
            let first = row * outputs + tile.column;
            // SAFETY: this row of the tile, in both buffers, belongs to this task.
            let (y, before) = unsafe {
                (out.part(first, tile.columns), before.as_ref().map(|kept| kept.part(first, tile.columns)))
            };
            match (is_gelu, residual) {
                (true, _) => bias_gelu(available, y, bias, before),
                (false, Some((residual, gate))) => {
                    bias_residual(available, y, bias, &residual[first..], gate)
                }
                (false, None) => add(available, y, bias),
            }
        }
    });
}

/// `out = dy W^T`, and through a GELU where `gelu` has its input and a place for its output.
pub(crate) fn input_gradient(
    available: Available,
    Linear { rows, inputs, outputs }: Linear,
    gradient: &[f32],
    weight: &[f32],
    gelu: Option<(&[f32], Option<&mut Buffer>)>,
    out: &mut [f32],
    transposed: &mut Vec<f32>,
) {
    if transposed.len() < inputs * outputs {
        transposed.resize(inputs * outputs, 0.0);
    }
    transpose(available, inputs, outputs, weight, transposed);
    let (gradient, weight) = (Matrix::rows(gradient, outputs), Matrix::rows(transposed, inputs));
    let out = Parts::new(out);
    let gelu = gelu.map(|(before, activated)| (before, activated.map(|buffer| Parts::new(buffer))));
    Grid::new([rows, inputs, outputs]).for_each(|tile: Tile| {
        let target =
            Target { parts: out, first: tile.row * inputs + tile.column, stride: inputs, add: false };
        let (gradient, weight) = (gradient.from(tile.row, 0), weight.from(0, tile.column));
        // SAFETY: tiles do not overlap.
        unsafe { product(available, [tile.rows, tile.columns, outputs], target, 1.0, gradient, weight) };
        let Some((before, activated)) = &gelu else { return };
        for row in tile.row..tile.row + tile.rows {
            let first = row * inputs + tile.column;
            // SAFETY: this row of the tile, in both buffers, belongs to this task.
            let (dx, activated) = unsafe {
                (out.part(first, tile.columns), activated.as_ref().map(|to| to.part(first, tile.columns)))
            };
            gelu_backward(available, dx, &before[first..], activated);
        }
    });
}

/// Columns whose sum over rows one task forms.
const BIAS_COLUMNS: usize = 256;
/// Rows that are summed first, so that rounding does not grow with all of them.
const ROWS_OF_A_PARTIAL: usize = 64;

pub(crate) fn parameter_gradients(
    available: Available,
    Linear { rows, inputs, outputs }: Linear,
    x: &[f32],
    gradient: &[f32],
    weight: Option<Sink<'_, Buffer>>,
    bias: Option<Sink<'_, Buffer>>,
) {
    if let Some(Sink { buffer, write }) = weight {
        let (x, dy) = (Matrix::rows(x, inputs).transposed(), Matrix::rows(gradient, outputs));
        let out = Parts::new(buffer);
        Grid::new([inputs, outputs, rows]).for_each(|tile: Tile| {
            let first = tile.row * outputs + tile.column;
            let target = Target { parts: out, first, stride: outputs, add: write == Write::Add };
            let (x, dy) = (x.from(tile.row, 0), dy.from(0, tile.column));
            // SAFETY: tiles do not overlap.
            unsafe { product(available, [tile.rows, tile.columns, rows], target, 1.0, x, dy) };
        });
    }
    if let Some(Sink { buffer, write }) = bias {
        let gradient = &gradient[..rows * outputs];
        buffer.par_chunks_mut(BIAS_COLUMNS).enumerate().for_each(|(i, out)| {
            if write == Write::Replace {
                out.fill(0.0);
            }
            sum_columns(available, out, &gradient[i * BIAS_COLUMNS..], outputs);
        });
    }
}

/// Elements that one task takes through the GELU.
const GELU_CHUNK: usize = 1 << 13;

pub(crate) fn gelu_forward(available: Available, before: &[f32], out: &mut [f32]) {
    let chunks = out.par_chunks_mut(GELU_CHUNK).zip(before.par_chunks(GELU_CHUNK));
    chunks.for_each(|(out, before)| gelu_row(available, out, before));
}

vectorised! {
    fn add(y: &mut [f32], x: &[f32]) = add_body
}
vectorised! {
    fn bias_residual(y: &mut [f32], bias: &[f32], residual: &[f32], gate: f32) = bias_residual_body
}
vectorised! {
    fn bias_gelu(y: &mut [f32], bias: &[f32], before: Option<&mut [f32]>) = bias_gelu_body
}
vectorised! {
    fn gelu_row(out: &mut [f32], before: &[f32]) = gelu_row_body
}
vectorised! {
    /// `dx *= gelu'(before)`, and what the GELU gave.
    fn gelu_backward(dx: &mut [f32], before: &[f32], activated: Option<&mut [f32]>) = gelu_backward_body
}
vectorised! {
    /// Adds the rows of a matrix, of which only the first columns are summed.
    fn sum_columns(out: &mut [f32], rows: &[f32], stride: usize) = sum_columns_body
}

#[inline(always)]
fn add_body<const FMA: bool>(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

#[inline(always)]
fn bias_residual_body<const FMA: bool>(y: &mut [f32], bias: &[f32], residual: &[f32], gate: f32) {
    for ((y, bias), x) in y.iter_mut().zip(bias).zip(residual) {
        *y = gate * (*y + bias) + x;
    }
}

#[inline(always)]
fn bias_gelu_body<const FMA: bool>(y: &mut [f32], bias: &[f32], before: Option<&mut [f32]>) {
    match before {
        None => {
            for (y, bias) in y.iter_mut().zip(bias) {
                *y = gelu::<FMA>(*y + bias);
            }
        }
        Some(before) => {
            for ((y, bias), before) in y.iter_mut().zip(bias).zip(before) {
                *before = *y + bias;
                *y = gelu::<FMA>(*before);
            }
        }
    }
}

#[inline(always)]
fn gelu_row_body<const FMA: bool>(out: &mut [f32], before: &[f32]) {
    for (out, before) in out.iter_mut().zip(before) {
        *out = gelu::<FMA>(*before);
    }
}

#[inline(always)]
fn gelu_backward_body<const FMA: bool>(dx: &mut [f32], before: &[f32], activated: Option<&mut [f32]>) {
    match activated {
        None => {
            for (dx, before) in dx.iter_mut().zip(before) {
                *dx *= gelu_and_slope::<FMA>(*before).1;
            }
        }
        Some(activated) => {
            for ((dx, before), activated) in dx.iter_mut().zip(before).zip(activated) {
                let (gelu, slope) = gelu_and_slope::<FMA>(*before);
                *activated = gelu;
                *dx *= slope;
            }
        }
    }
}

#[inline(always)]
fn sum_columns_body<const FMA: bool>(out: &mut [f32], rows: &[f32], stride: usize) {
    for rows in rows.chunks(ROWS_OF_A_PARTIAL * stride) {
        let mut partial = [0f32; BIAS_COLUMNS];
        for row in rows.chunks(stride) {
            for (sum, x) in partial.iter_mut().zip(&row[..out.len()]) {
                *sum += x;
            }
        }
        for (out, sum) in out.iter_mut().zip(&partial) {
            *out += sum;
        }
    }
}
