//! What doubling a stack block by block does to the function, as what blocks add gets smaller: whole copies change it in
//! proportion, halves by the square.

use engine::{ModelShape, TensorRole};
use serde_json::json;

use super::bed::Bed;
use super::function::{batch_of, loss};
use super::goldens::{Block, block, made, model};

/// Factors of what every block adds.
const SIZES: [f32; 4] = [8e-3, 4e-3, 2e-3, 1e-3];

/// The golden model's two blocks, what they add multiplied.
fn blocks(shape: &ModelShape, size: f32) -> [Block; 2] {
    [4, 16].map(|first| {
        let mut block = block(shape, first);
        for (spec, values) in shape.block_tensors().iter().zip(&mut block) {
            if matches!(spec.role, TensorRole::BranchOutputWeight | TensorRole::BranchOutputBias) {
                values.iter_mut().for_each(|value| *value *= size);
            }
        }
        block
    })
}

/// How far the loss moves when each block becomes two in its place, by an initializer that also makes the sources, or
/// leaves them.
fn jump(shape: &ModelShape, size: f32, id: &str, config: &str, renews: bool) -> f64 {
    let old = blocks(shape, size);
    let new =
        [0, 1].map(|source| made(shape, &old, &json!({ "id": id, "config": config, "source": source })));
    let sources = if renews { &new } else { &old };
    let rows = batch_of(shape, |i| 5 * i * i + 3 * i);
    let loss_of = |stack: &[&Block]| loss(shape, &mut *model(shape, stack), &rows);
    (loss_of(&[&sources[0], &new[0], &sources[1], &new[1]]) - loss_of(&[&old[0], &old[1]])).abs()
}

/// Slope of the logarithm of the jump over that of the size, by least squares.
fn order(id: &str, config: &str, renews: bool) -> f64 {
    let bed = Bed::small();
    let points = SIZES.map(|size| (f64::from(size).ln(), jump(bed.shape(), size, id, config, renews).ln()));
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let sum =
        |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|point| of(point.0 - x, point.1 - y)).sum::<f64>();
    sum(&|dx, dy| dx * dy) / sum(&|dx, _| dx * dx)
}

#[test]
fn halves_change_the_function_by_the_square_of_what_blocks_add_and_copies_in_proportion() {
    let halves = order("sapwood/split-residual", r#"{ "copies": 2 }"#, true);
    assert!((halves - 2.0).abs() < 0.1, "order {halves}");
    let copies = order("sapwood/copy", "{}", false);
    assert!((copies - 1.0).abs() < 0.1, "order {copies}");
    // Halves beside sources that were left whole are no halves.
    let beside_whole_ones = order("sapwood/split-residual", r#"{ "copies": 2 }"#, false);
    assert!((beside_whole_ones - 1.0).abs() < 0.1, "order {beside_whole_ones}");
}
