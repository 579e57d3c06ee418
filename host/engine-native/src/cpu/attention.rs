//! Causal attention by blocks of queries: the scores of one block against all keys up to it exist at once,
//! and are computed again in the backward pass. Not here: the linear maps around it.
#![allow(unsafe_code)]

use std::cell::RefCell;

use rayon::prelude::*;

use super::{
    level::{Available, vectorised},
    math::{dot, exp, largest, sum},
    parts::Parts,
    product::{Matrix, Target, product},
};
use crate::kernels::{Attended, Form};

/// Queries in a block.
const BLOCK: usize = 64;

thread_local! {
    /// Scores of a block and their gradients; grows to the longest sequence that the thread has seen.
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head {
    /// Its sequence's first row.
    row: usize,
    head: usize,
    /// Its first column in `[N, A]`.
    column: usize,
}

fn head(form: &Form, index: usize) -> Head {
    let head = index % form.heads;
    Head { row: index / form.heads * form.length, head, column: head * form.head_width }
}

/// Queries, keys and values of a head, each `[T, head width]`.
fn views<'a>(form: &Form, head: Head, qkv: &'a [f32]) -> [Matrix<'a>; 3] {
    let whole = Matrix::rows(qkv, 3 * form.attention_width());
    [0, 1, 2].map(|third| whole.from(head.row, third * form.attention_width() + head.column))
}

pub(crate) fn forward(
    available: Available,
    form: &Form,
    qkv: &[f32],
    mixed: &mut [f32],
    normalizers: &mut [f32],
) {
    let blocks = form.length.div_ceil(BLOCK);
    let (mixed, normalizers) = (Parts::new(mixed), Parts::new(normalizers));
    (0..form.sequences * form.heads * blocks).into_par_iter().for_each(|task| {
        // Later blocks have more keys: they come first, so that threads end together.
        let (head, block) = (head(form, task / blocks), blocks - 1 - task % blocks);
        let first = block * BLOCK;
        with_scores(BLOCK * form.length, |scores| {
            forward_block(available, form, head, first, qkv, mixed, normalizers, scores);
        });
    });
}

#[expect(clippy::too_many_arguments, reason = "a kernel: what it reads, where it writes")]
fn forward_block(
    available: Available,
    form: &Form,
    head: Head,
    first: usize,
    qkv: &[f32],
    mixed: Parts<'_>,
    normalizers: Parts<'_>,
    scores: &mut [f32],
) {
    let (queries, width) = (BLOCK.min(form.length - first), form.head_width);
    let keys = first + queries;
    let [q, k, v] = views(form, head, qkv);
    let scale = 1.0 / (width as f32).sqrt();
    let target = Target { parts: Parts::new(scores), first: 0, stride: keys, add: false };
    // SAFETY: the scores are this thread's.
    unsafe { product(available, [queries, keys, width], target, scale, q.from(first, 0), k.transposed()) };
    for (query, row) in scores.chunks_exact_mut(keys).take(queries).enumerate() {
        let (seen, unseen) = row.split_at_mut(first + query + 1);
        unseen.fill(0.0);
        let normalizer = softmax(available, seen);
        let at = 2 * ((head.row + first + query) * form.heads + head.head);
        // SAFETY: two elements for this query and head, which belong to this task.
        unsafe { normalizers.part(at, 2).copy_from_slice(&normalizer) };
    }
    let (at, stride) = ((head.row + first) * form.attention_width() + head.column, form.attention_width());
    let target = Target { parts: mixed, first: at, stride, add: false };
    // SAFETY: rows and columns of this task's queries and head.
    unsafe { product(available, [queries, width, keys], target, 1.0, Matrix::rows(scores, keys), v) };
}

pub(crate) fn backward(
    available: Available,
    form: &Form,
    forward: [&[f32]; 3],
    gradient: &[f32],
    out: &mut [f32],
) {
    let out = Parts::new(out);
    (0..form.sequences * form.heads).into_par_iter().for_each(|task| {
        let head = head(form, task);
        for row in head.row..head.row + form.length {
            for third in 1..3 {
                let first = row * 3 * form.attention_width() + third * form.attention_width() + head.column;
                // SAFETY: rows and columns of this task's head; keys and values start at zero.
                unsafe { out.part(first, form.head_width).fill(0.0) };
            }
        }
        with_scores(2 * BLOCK * form.length, |scores| {
            for first in (0..form.length).step_by(BLOCK) {
                backward_block(available, form, head, first, forward, gradient, out, scores);
            }
        });
    });
}

#[expect(clippy::too_many_arguments, reason = "a kernel: what it reads, where it writes")]
fn backward_block(
    available: Available,
    form: &Form,
    head: Head,
    first: usize,
    [qkv, mixed, normalizers]: [&[f32]; 3],
    gradient: &[f32],
    out: Parts<'_>,
    scratch: &mut [f32],
) {
    let (queries, width) = (BLOCK.min(form.length - first), form.head_width);
    let keys = first + queries;
    let [q, k, v] = views(form, head, qkv);
    let q = q.from(first, 0);
    let dy = Matrix::rows(gradient, form.attention_width()).from(head.row + first, head.column);
    let scale = 1.0 / (width as f32).sqrt();
    let (p, ds) = scratch[..2 * queries * keys].split_at_mut(queries * keys);
    let into = |first, add| Target { parts: out, first, stride: 3 * form.attention_width(), add };
    let third = |third: usize, row: usize| {
        (head.row + row) * 3 * form.attention_width() + third * form.attention_width() + head.column
    };

    // SAFETY: scores and their gradients are this thread's.
    unsafe {
        let target = Target { parts: Parts::new(p), first: 0, stride: keys, add: false };
        product(available, [queries, keys, width], target, scale, q, k.transposed());
        let target = Target { parts: Parts::new(ds), first: 0, stride: keys, add: false };
        product(available, [queries, keys, width], target, 1.0, dy, v.transposed());
    }
    for query in 0..queries {
        let row = head.row + first + query;
        let (p, ds) = (&mut p[query * keys..][..keys], &mut ds[query * keys..][..keys]);
        let at =
            row * form.attention_width() + head.column..row * form.attention_width() + head.column + width;
        let at_normalizer = 2 * (row * form.heads + head.head);
        let normalizer = [normalizers[at_normalizer], normalizers[at_normalizer + 1]];
        score_gradients(
            available,
            p,
            ds,
            first + query + 1,
            normalizer,
            &gradient[at.clone()],
            &mixed[at],
            scale,
        );
    }
    let (p, ds) = (Matrix::rows(p, keys), Matrix::rows(ds, keys));
    // SAFETY: rows and columns of this task's head in the gradients of queries, keys and values.
    unsafe {
        product(available, [keys, width, queries], into(third(2, 0), true), 1.0, p.transposed(), dy);
        product(available, [queries, width, keys], into(third(0, first), false), 1.0, ds, k);
        product(available, [keys, width, queries], into(third(1, 0), true), 1.0, ds.transposed(), q);
    }
}

/// What the forward pass left, as slices.
pub(crate) fn slices<'a, B: std::ops::Deref<Target = [f32]>>(forward: &Attended<'a, B>) -> [&'a [f32]; 3] {
    [forward.qkv, forward.mixed, forward.normalizers].map(|buffer| &**buffer)
}

fn with_scores(len: usize, work: impl FnOnce(&mut [f32])) {
    SCORES.with_borrow_mut(|scores| {
        if scores.len() < len {
            scores.resize(len, 0.0);
        }
        work(&mut scores[..len]);
    });
}

vectorised! {
    /// In place; the largest score and one over the sum of exponentials.
    fn softmax(row: &mut [f32]) -> [f32; 2] = softmax_body
}
vectorised! {
    /// From scores to probabilities in `p`, and from their gradients to those of the scores in `ds`; the
    /// first `seen` keys count.
    fn score_gradients(
        p: &mut [f32], ds: &mut [f32], seen: usize, normalizer: [f32; 2], dy: &[f32], y: &[f32], scale: f32,
    ) = score_gradients_body
}

#[inline(always)]
fn softmax_body<const FMA: bool>(row: &mut [f32]) -> [f32; 2] {
    let most = largest(row);
    for x in row.iter_mut() {
        *x = exp::<FMA>(*x - most);
    }
    let total = sum(row, |x| x);
    let factor = 1.0 / total;
    for x in row.iter_mut() {
        *x *= factor;
    }
    [most, factor]
}

#[inline(always)]
fn score_gradients_body<const FMA: bool>(
    p: &mut [f32],
    ds: &mut [f32],
    seen: usize,
    [most, factor]: [f32; 2],
    dy: &[f32],
    y: &[f32],
    scale: f32,
) {
    let mean = dot::<FMA>(dy, y);
    for (p, ds) in p[..seen].iter_mut().zip(&mut ds[..seen]) {
        *p = exp::<FMA>(*p - most) * factor;
        *ds = *p * (*ds - mean) * scale;
    }
    p[seen..].fill(0.0);
    ds[seen..].fill(0.0);
}
