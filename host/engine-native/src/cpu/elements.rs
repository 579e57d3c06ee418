//! Element by element: scaling, copying of whole sequences, and sums over two arrays. Not here: anything that a
//! model has a name for.

use rayon::prelude::*;

use super::level::{Available, vectorised};
use crate::kernels::Comparison;

/// Elements that one task takes, and the shape of a sum.
const CHUNK: usize = 1 << 15;

pub(crate) fn scale(available: Available, factor: f32, from: &[f32], to: &mut [f32]) {
    let chunks = to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK));
    chunks.for_each(|(to, from)| scale_chunk(available, factor, from, to));
}

/// The rows of `len` elements with these numbers, in a row.
pub(crate) fn gather(len: usize, rows: &[usize], from: &[f32], to: &mut [f32]) {
    let rows = to.par_chunks_exact_mut(len).zip(rows);
    rows.for_each(|(to, &row)| to.copy_from_slice(&from[row * len..][..len]));
}

/// Back to where they were.
pub(crate) fn scatter(len: usize, rows: &[usize], from: &[f32], to: &mut [f32]) {
    // Rows are named in rising order, so that each is found in what is left behind the one before.
    let mut rest = to;
    let mut passed = 0;
    for (from, &row) in from.chunks_exact(len).zip(rows) {
        let (here, behind) = rest.split_at_mut((row + 1 - passed) * len);
        here[(row - passed) * len..].copy_from_slice(from);
        (rest, passed) = (behind, row + 1);
    }
}

pub(crate) fn compare(available: Available, a: &[f32], b: &[f32]) -> Comparison {
    let chunks = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK));
    let sums: Vec<Comparison> = chunks.map(|(a, b)| compare_chunk(available, a, b)).collect();
    let mut all = Comparison::default();
    sums.into_iter().for_each(|sum| all += sum);
    all
}

vectorised! {
    fn scale_chunk(factor: f32, from: &[f32], to: &mut [f32]) = scale_body
}
vectorised! {
    fn compare_chunk(a: &[f32], b: &[f32]) -> Comparison = compare_body
}

#[inline(always)]
fn scale_body<const FMA: bool>(factor: f32, from: &[f32], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = factor * from;
    }
}

#[inline(always)]
fn compare_body<const FMA: bool>(a: &[f32], b: &[f32]) -> Comparison {
    const LANES: usize = 16;
    let mut lanes = [Comparison::default(); LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += Comparison::of((*a).into(), (*b).into());
        }
    }
    let mut all = Comparison::default();
    lanes.into_iter().for_each(|lane| all += lane);
    all
}
