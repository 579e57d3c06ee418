//! Transposed copies of weights: the matrix library reads a factor whose rows are contiguous twice as fast.
//!
//! Not here: the products that read them.

use rayon::prelude::*;

use super::level::{Available, vectorised};

/// A tile whose rows and columns both fit vector registers.
const TILE: usize = 16;
/// Rows of the result that one task writes.
const ROWS: usize = 4 * TILE;

/// `to[columns, rows] = from[rows, columns]^T`, on the threads of the current pool.
pub(crate) fn transpose(available: Available, rows: usize, columns: usize, from: &[f32], to: &mut [f32]) {
    let from = &from[..rows * columns];
    to[..rows * columns].par_chunks_mut(ROWS * rows).enumerate().for_each(|(task, to)| {
        transpose_part(available, rows, columns, &from[task * ROWS..], to);
    });
}

vectorised! {
    /// Writes as many rows of the transpose as `to` has, from the first columns of `from`.
    fn transpose_part(rows: usize, columns: usize, from: &[f32], to: &mut [f32]) = transpose_part_body
}

#[inline(always)]
fn transpose_part_body<const FMA: bool>(rows: usize, columns: usize, from: &[f32], to: &mut [f32]) {
    for (strip, to) in to.chunks_mut(TILE * rows).enumerate() {
        let from = &from[strip * TILE..];
        let width = to.len() / rows;
        for first in (0..rows).step_by(TILE) {
            let height = TILE.min(rows - first);
            if width == TILE && height == TILE {
                whole_tile(rows, columns, &from[first * columns..], &mut to[first..]);
                continue;
            }
            for j in 0..width {
                for i in first..first + height {
                    to[j * rows + i] = from[i * columns + j];
                }
            }
        }
    }
}

#[inline(always)]
fn whole_tile(rows: usize, columns: usize, from: &[f32], to: &mut [f32]) {
    let mut tile = [[0f32; TILE]; TILE];
    for (i, row) in tile.iter_mut().enumerate() {
        row.copy_from_slice(&from[i * columns..][..TILE]);
    }
    for j in 0..TILE {
        let column: [f32; TILE] = std::array::from_fn(|i| tile[i][j]);
        to[j * rows..][..TILE].copy_from_slice(&column);
    }
}
