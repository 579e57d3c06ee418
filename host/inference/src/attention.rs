//! Causal attention of tokens that are read now over those in a cache and over each other. `A` = width of all heads,
//! `D` = width of one; a row of queries, keys and values is `[3 A]`.

use engine::ModelShape;
use rayon::prelude::*;

use crate::cache::Piece;

/// Writes `mixed`, `[rows, A]`; rows of all pieces stand one below the other.
pub(crate) fn attend(shape: &ModelShape, pieces: &[Piece<'_>], block: usize, qkv: &[f32], mixed: &mut [f32]) {
    let attention = shape.attention_width();
    let mut places = Vec::with_capacity(qkv.len() / (3 * attention));
    let mut first = 0;
    for piece in pieces {
        places.extend((0..piece.tokens.len()).map(|row| (piece, first, row)));
        first += piece.tokens.len();
    }
    mixed.par_chunks_mut(attention).zip(places).for_each(|(out, (piece, first, row))| {
        let own = &qkv[first * 3 * attention..(first + row + 1) * 3 * attention];
        let cached = piece.prefix.and_then(|cache| cache.blocks.get(block));
        let cached = cached.map_or([&[][..], &[][..]], |kept| kept.each_ref().map(Vec::as_slice));
        for (head, out) in out.chunks_exact_mut(shape.head_width()).enumerate() {
            one_head(attention, head * out.len(), cached, own, out);
        }
    });
}

/// One query's head, which begins at `start` of a row: the last row of `own` asks.
fn one_head(attention: usize, start: usize, [keys, values]: [&[f32]; 2], own: &[f32], out: &mut [f32]) {
    let (width, range) = (out.len(), start..start + out.len());
    let asking = &own[own.len() - 3 * attention..][range.clone()];
    let rows = || own.chunks_exact(3 * attention);
    let all_keys = keys.chunks_exact(attention).chain(rows().map(|row| &row[attention..]));
    let scale = 1.0 / (width as f32).sqrt();
    let mut scores: Vec<f32> = all_keys.map(|key| scale * dot(asking, &key[range.clone()])).collect();
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f32;
    for score in &mut scores {
        *score = (*score - largest).exp();
        sum += *score;
    }
    out.fill(0.0);
    let all_values = values.chunks_exact(attention).chain(rows().map(|row| &row[2 * attention..]));
    for (weight, value) in scores.iter().zip(all_values) {
        let share = weight / sum;
        out.iter_mut().zip(&value[range.clone()]).for_each(|(out, value)| *out += share * value);
    }
}

/// Eight sums side by side, which the compiler makes vectors of.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f32>() + rest
}
