//! A product of matrices as a driver is asked for it, and what may follow while its result is at hand. Not here: who multiplies.

use crate::driver::{Number, Place};

/// `c = op(a) op(b)`, or `c += op(a) op(b)`, as BLAS says it: all matrices lie column by column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// Rows of `op(a)` and of `c`.
    pub m: usize,
    /// Columns of `op(b)` and of `c`.
    pub n: usize,
    /// Columns of `op(a)` and rows of `op(b)`.
    pub k: usize,
    /// How `a` lies in memory.
    pub a: Lie,
    /// How `b` does.
    pub b: Lie,
    /// Numbers from a column of `c` to the next.
    pub leading_c: usize,
    /// Whether the product is added.
    pub adds: bool,
    /// What both factors are made of.
    pub factors: Number,
    /// What `c`, and all that [`Then`] brings, is made of.
    pub result: Number,
    /// What follows.
    pub after: After,
}

/// How a factor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lie {
    /// Whether `op` transposes it.
    pub transposed: bool,
    /// Numbers from a column to the next.
    pub leading: usize,
}

/// What follows a product, one of the kinds of [`Then`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum After {
    /// Nothing.
    Nothing,
    /// A bias.
    Bias,
    /// A bias, and another matrix.
    BiasAndMatrix,
    /// A bias, then a GELU whose input is kept or is not.
    BiasGelu {
        /// Whether it is.
        keeps: bool,
    },
    /// The slope of a GELU.
    GeluSlope,
}

/// What follows a product before its result is rounded and written, with what it reads and writes beside.
#[derive(Debug)]
pub enum Then<'a, M> {
    /// Nothing.
    Nothing,
    /// `bias[m]` is added to each column.
    Bias(Place<'a, M>),
    /// So is `matrix[m, n]`, which lies as `c` does.
    BiasAndMatrix {
        /// The bias.
        bias: Place<'a, M>,
        /// The matrix.
        matrix: Place<'a, M>,
    },
    /// The tanh form of GELU follows the bias; `before[m, n]`, whose columns follow each other, takes what it was applied to.
    BiasGelu {
        /// The bias.
        bias: Place<'a, M>,
        /// Where its input goes.
        before: Option<&'a mut M>,
    },
    /// Each number is multiplied by the slope of that GELU at `before[m, n]`, whose columns follow each other.
    GeluSlope(Place<'a, M>),
}

impl<M> Then<'_, M> {
    /// Its kind.
    pub fn kind(&self) -> After {
        match self {
            Then::Nothing => After::Nothing,
            Then::Bias(_) => After::Bias,
            Then::BiasAndMatrix { .. } => After::BiasAndMatrix,
            Then::BiasGelu { before, .. } => After::BiasGelu { keeps: before.is_some() },
            Then::GeluSlope(_) => After::GeluSlope,
        }
    }
}
