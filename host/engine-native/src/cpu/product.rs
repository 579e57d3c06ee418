//! Matrix products: one tile at a time on one thread, over a grid of tiles whose shape does not depend on
//! how many threads there are. Not here: what happens to a tile before and after.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::{
    level::{Available, vectorised},
    math::madd,
    parts::Parts,
};

/// A matrix to read: the element `[i, j]` stands at `i * row + j * column`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major, `width` elements from row to row.
    pub(crate) fn rows(values: &'a [f32], width: usize) -> Matrix<'a> {
        Matrix { values, row: width, column: 1 }
    }

    /// The transpose.
    pub(crate) fn transposed(self) -> Matrix<'a> {
        Matrix { row: self.column, column: self.row, ..self }
    }

    /// Without the rows and columns before these.
    pub(crate) fn from(self, row: usize, column: usize) -> Matrix<'a> {
        Matrix { values: &self.values[row * self.row + column * self.column..], ..self }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row + (columns - 1) * self.column < self.values.len()
    }
}

/// Where a product goes: a tile of a row-major matrix.
pub(crate) struct Target<'a> {
    pub(crate) parts: Parts<'a>,
    /// Of the tile's first element.
    pub(crate) first: usize,
    /// Elements from row to row.
    pub(crate) stride: usize,
    /// Whether the product is added to what is there.
    pub(crate) add: bool,
}

/// `target[rows, columns] = scale a[rows, depth] b[depth, columns]`, on the calling thread.
///
/// # Safety
/// No other thread uses the elements of the target meanwhile.
pub(crate) unsafe fn product(
    available: Available,
    [rows, columns, depth]: [usize; 3],
    target: Target<'_>,
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(a.holds(rows, depth) && b.holds(depth, columns), "the factors are as large as their measures");
    let start = target.parts.tile(target.first, rows, columns, target.stride);
    if !available.is_best() {
        let gather = |matrix: Matrix<'_>, rows: usize, columns: usize| -> Vec<f32> {
            let at = |i: usize| matrix.values[i / columns * matrix.row + i % columns * matrix.column];
            (0..rows * columns).map(at).collect()
        };
        let (a, b) = (gather(a, rows, depth), gather(b, depth, columns));
        for (i, a) in a.chunks_exact(depth).enumerate() {
            // SAFETY: the tile lies within the target, and the caller promises that nobody else is there.
            let out = unsafe { std::slice::from_raw_parts_mut(start.add(i * target.stride), columns) };
            product_row(available, out, target.add, scale, a, &b);
        }
        return;
    }
    // SAFETY: both factors were checked to hold every element that is read and the target to hold every one
    // that is written; nobody else writes there by the caller's promise.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            start,
            1,
            target.stride as isize,
            target.add,
            a.values.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.values.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `c = a b` on the calling thread, all three row-major.
pub(crate) fn whole(available: Available, measures: [usize; 3], a: &[f32], b: &[f32], c: &mut [f32]) {
    let [_, columns, depth] = measures;
    let target = Target { parts: Parts::new(c), first: 0, stride: columns, add: false };
    // SAFETY: the target is borrowed for this call alone.
    unsafe { product(available, measures, target, 1.0, Matrix::rows(a, depth), Matrix::rows(b, columns)) };
}

vectorised! {
    /// One row of a product, for levels that the library does not offer.
    fn product_row(out: &mut [f32], add: bool, scale: f32, a: &[f32], b: &[f32]) = product_row_body
}

/// Sums over blocks of the depth, so that rounding does not grow with all of it.
#[inline(always)]
fn product_row_body<const FMA: bool>(out: &mut [f32], add: bool, scale: f32, a: &[f32], b: &[f32]) {
    const COLUMNS: usize = 64;
    const DEPTH: usize = 256;
    let columns = out.len();
    for (block, out) in out.chunks_mut(COLUMNS).enumerate() {
        if !add {
            out.fill(0.0);
        }
        for (a, b) in a.chunks(DEPTH).zip(b.chunks(DEPTH * columns)) {
            let mut sums = [0f32; COLUMNS];
            for (a, b) in a.iter().zip(b.chunks_exact(columns)) {
                for (sum, b) in sums.iter_mut().zip(&b[block * COLUMNS..]) {
                    *sum = madd::<FMA>(*a, *b, *sum);
                }
            }
            for (out, sum) in out.iter_mut().zip(&sums) {
                *out = madd::<FMA>(scale, *sum, *out);
            }
        }
    }
}

/// A tile of an output.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// A fixed cut of an output into tiles.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    rows: usize,
    columns: usize,
    tile_rows: usize,
    tile_columns: usize,
}

/// Fewer multiplications than this are not worth another thread.
const LEAST_WORK: usize = 1 << 18;

impl Grid {
    /// For a product of these measures.
    pub(crate) fn new([rows, columns, depth]: [usize; 3]) -> Grid {
        let (mut tile_rows, mut tile_columns) = (128, 512);
        // Small outputs are cut finer, so that a few threads find something to do.
        while rows.div_ceil(tile_rows) * columns.div_ceil(tile_columns) < 8
            && tile_rows * tile_columns * depth > LEAST_WORK
        {
            if tile_columns > tile_rows { tile_columns /= 2 } else { tile_rows /= 2 }
        }
        Grid { rows, columns, tile_rows, tile_columns }
    }

    /// Calls `work` for every tile, on the threads of the current pool.
    pub(crate) fn for_each(self, work: impl Fn(Tile) + Sync + Send) {
        let across = self.columns.div_ceil(self.tile_columns);
        let tiles = self.rows.div_ceil(self.tile_rows) * across;
        (0..tiles).into_par_iter().for_each(|i| {
            let (row, column) = (i / across * self.tile_rows, i % across * self.tile_columns);
            let rows = self.tile_rows.min(self.rows - row);
            work(Tile { row, column, rows, columns: self.tile_columns.min(self.columns - column) });
        });
    }
}
