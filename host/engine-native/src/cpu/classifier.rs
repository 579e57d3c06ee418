//! The tied head with its loss, by chunks of rows: the logits of a chunk become their own gradient in place.
//!
//! Not here: how many rows a chunk has; the scratch buffer decides.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::{
    buffer::Buffer,
    level::{Available, vectorised},
    math::{exp, largest},
    parts::Parts,
    product::{Grid, Matrix, Target, Tile, product},
};
use crate::kernels::{ClassifierGradients, Form, Sink, Write};

#[expect(clippy::too_many_arguments, reason = "a kernel: what it reads, where it writes")]
pub(crate) fn losses(
    available: Available,
    form: &Form,
    x: &[f32],
    table: &[f32],
    targets: &[u32],
    scratch: &mut [f32],
    losses: &mut [f32],
    mut gradients: Option<ClassifierGradients<'_, Buffer>>,
) {
    let (width, vocabulary) = (form.width, form.vocabulary);
    let rows_at_once = scratch.len() / vocabulary;
    for (chunk, targets) in targets.chunks(rows_at_once).enumerate() {
        let (first, rows) = (chunk * rows_at_once, targets.len());
        let x = &x[first * width..(first + rows) * width];
        let logits = &mut scratch[..rows * vocabulary];
        self::logits(available, form, x, table, logits);
        let scale = gradients.as_ref().map(|gradients| gradients.scale as f32);
        let rows_of_logits = logits.par_chunks_exact_mut(vocabulary).zip(&mut losses[first..first + rows]);
        rows_of_logits.zip(targets).for_each(|((logits, loss), &target)| {
            *loss = loss_of_row(available, logits, target as usize, scale);
        });
        let Some(gradients) = &mut gradients else { continue };
        if let Some(input) = &mut gradients.input {
            let out = &mut input[first * width..(first + rows) * width];
            matrix_product(
                available,
                [rows, width, vocabulary],
                out,
                false,
                Matrix::rows(logits, vocabulary),
                Matrix::rows(table, width),
            );
        }
        if let Some(Sink { buffer, write }) = &mut gradients.weight {
            let add = chunk > 0 || *write == Write::Add;
            let logits = Matrix::rows(logits, vocabulary).transposed();
            matrix_product(available, [vocabulary, width, rows], buffer, add, logits, Matrix::rows(x, width));
        }
    }
}

/// The logits of all rows of `x`.
pub(crate) fn logits(available: Available, form: &Form, x: &[f32], table: &[f32], out: &mut [f32]) {
    let measures = [x.len() / form.width, form.vocabulary, form.width];
    let (x, table) = (Matrix::rows(x, form.width), Matrix::rows(table, form.width).transposed());
    matrix_product(available, measures, out, false, x, table);
}

fn matrix_product(
    available: Available,
    measures: [usize; 3],
    out: &mut [f32],
    add: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    let [_, columns, depth] = measures;
    let parts = Parts::new(out);
    Grid::new(measures).for_each(|tile: Tile| {
        let target = Target { parts, first: tile.row * columns + tile.column, stride: columns, add };
        let (a, b) = (a.from(tile.row, 0), b.from(0, tile.column));
        // SAFETY: tiles do not overlap.
        unsafe { product(available, [tile.rows, tile.columns, depth], target, 1.0, a, b) };
    });
}

vectorised! {
    /// The loss of a row of logits; with a scale, the row becomes the gradient of the loss times it.
    fn loss_of_row(logits: &mut [f32], target: usize, scale: Option<f32>) -> f32 = loss_of_row_body
}

#[inline(always)]
fn loss_of_row_body<const FMA: bool>(logits: &mut [f32], target: usize, scale: Option<f32>) -> f32 {
    const LANES: usize = 32;
    let (most, aimed) = (largest(logits), logits[target]);
    let mut lanes = [0f32; LANES];
    let mut chunks = logits.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp::<FMA>(*x - most);
            *lane += *x;
        }
    }
    let mut total = lanes.iter().sum::<f32>();
    for x in chunks.into_remainder() {
        *x = exp::<FMA>(*x - most);
        total += *x;
    }
    if let Some(scale) = scale {
        let factor = scale / total;
        for x in logits.iter_mut() {
            *x *= factor;
        }
        logits[target] -= scale;
    }
    (total.ln() + most) - aimed
}
