//! Embedding of tokens and positions, and the sum of gradients over equal tokens. Not here: the tied head.

use rayon::prelude::*;

use super::{buffer::Buffer, parts::Parts};
use crate::kernels::{Form, Sink, Write};

/// Rows that one task embeds.
const ROWS: usize = 32;
/// Columns that one task sums: it walks all tokens in the order of the batch.
const COLUMNS: usize = 64;

pub(crate) fn forward(form: &Form, tokens: &[u32], wte: &[f32], wpe: &[f32], out: &mut [f32]) {
    let width = form.width;
    let tasks = out.par_chunks_mut(ROWS * width).zip(tokens.par_chunks(ROWS)).enumerate();
    tasks.for_each(|(task, (out, tokens))| {
        for (i, (out, &token)) in out.chunks_exact_mut(width).zip(tokens).enumerate() {
            let position = (task * ROWS + i) % form.length;
            let (token, position) = (&wte[token as usize * width..], &wpe[position * width..]);
            for ((out, a), b) in out.iter_mut().zip(token).zip(position) {
                *out = a + b;
            }
        }
    });
}

pub(crate) fn backward(
    form: &Form,
    tokens: &[u32],
    gradient: &[f32],
    token_table: Option<Sink<'_, Buffer>>,
    position_table: Option<Sink<'_, Buffer>>,
) {
    let rows = tokens.iter().enumerate();
    if let Some(sink) = token_table {
        add_rows(form.width, gradient, sink, rows.clone().map(|(row, &token)| (row, token as usize)));
    }
    if let Some(sink) = position_table {
        add_rows(form.width, gradient, sink, rows.map(|(row, _)| (row, row % form.length)));
    }
}

#[allow(unsafe_code)]
fn add_rows(
    width: usize,
    gradient: &[f32],
    Sink { buffer, write }: Sink<'_, Buffer>,
    rows: impl Iterator<Item = (usize, usize)> + Clone + Sync + Send,
) {
    if write == Write::Replace {
        buffer.fill(0.0);
    }
    let table = Parts::new(buffer);
    (0..width.div_ceil(COLUMNS)).into_par_iter().for_each(|task| {
        let first = task * COLUMNS;
        let columns = COLUMNS.min(width - first);
        for (from, to) in rows.clone() {
            // SAFETY: these columns of every row belong to this task.
            let to = unsafe { table.part(to * width + first, columns) };
            for (to, from) in to.iter_mut().zip(&gradient[from * width + first..]) {
                *to += from;
            }
        }
    });
}
