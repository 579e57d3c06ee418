//! What is measured in a step when somebody subscribed: sums over micro-batches, and norms around an update.
//!
//! Not here: the sums over elements, which are kernels.

use engine::{BlockStatistics, LayerId, TensorId, TensorStatistics};

use crate::{
    kernels::{Comparison, Kernels, Update},
    plan::Plan,
};

/// What every run of a block has done to the stream so far.
pub(crate) struct Watch {
    entries: Vec<Seen>,
}

struct Seen {
    layer: LayerId,
    sums: Comparison,
    elements: usize,
}

impl Watch {
    pub(crate) fn new(plan: &Plan) -> Watch {
        let seen = |layer| Seen { layer, sums: Comparison::default(), elements: 0 };
        Watch { entries: plan.entries.iter().map(|entry| seen(entry.entry.layer)).collect() }
    }

    /// The stream below and above a run of a block, in one micro-batch.
    pub(crate) fn add(&mut self, entry: usize, sums: Comparison, elements: usize) {
        self.entries[entry].sums += sums;
        self.entries[entry].elements += elements;
    }

    pub(crate) fn blocks(&self) -> Vec<BlockStatistics> {
        let of = |Seen { layer, sums, elements }: &Seen| BlockStatistics {
            layer: *layer,
            activation_rms: (sums.squares_b / (*elements).max(1) as f64).sqrt(),
            cosine: cosine(sums),
            contribution: ratio(sums.squares_of_difference.sqrt(), sums.squares_a.sqrt()),
        };
        self.entries.iter().map(of).collect()
    }
}

/// One tensor's update with its norms; `scratch` holds at least as many elements as the tensor.
pub(crate) fn update_watched<K: Kernels>(
    kernels: &K,
    id: TensorId,
    with: &engine::AdamW,
    tally: &K::Tally,
    update: Update<'_, K::Buffer>,
    scratch: &mut K::Buffer,
) -> (TensorId, TensorStatistics) {
    let Update { len, weights, gradient, first, second, updates, decays, rate_factor } = update;
    let direction = kernels.compare(gradient, first, len);
    kernels.copy_some(weights, scratch, len);
    let again = Update { len, weights: &mut *weights, gradient, first, second, updates, decays, rate_factor };
    kernels.adamw(with, tally, vec![again]);
    let moved = kernels.compare(scratch, weights, len);
    let statistics = TensorStatistics {
        gradient_norm: direction.squares_a.sqrt(),
        weight_norm: moved.squares_a.sqrt(),
        update_norm: moved.squares_of_difference.sqrt(),
        gradient_direction: cosine(&direction),
    };
    (id, statistics)
}

fn cosine(sums: &Comparison) -> f64 {
    ratio(sums.product, (sums.squares_a * sums.squares_b).sqrt())
}

/// 0 where there is nothing to divide by.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}
