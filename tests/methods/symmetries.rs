//! Heads and neurons of a block have no order that means anything: in another one it computes the same. What is made of
//! blocks in other orders should compute the same, too.

use engine::ModelShape;
use serde_json::{Value, json};

use super::bed::Bed;
use super::function::{batch_of, loss};
use super::goldens::{Block, block, made, model};

/// Nats: f64, summed in another order.
const ROUNDING: f64 = 1e-13;

/// A block with its heads swapped and its neurons shuffled. Two heads four wide, 32 neurons.
fn in_another_order(block: &Block) -> Block {
    let column = |column: usize, columns: usize| match columns {
        24 => column / 8 * 8 + (column + 4) % 8,
        32 => (11 * column + 7) % 32,
        _ => column,
    };
    let columns = |from: &[f32], columns: usize| -> Vec<f32> {
        (0..from.len()).map(|i| from[i / columns * columns + column(i % columns, columns)]).collect()
    };
    let rows = |from: &[f32], row: &dyn Fn(usize) -> usize| -> Vec<f32> {
        (0..from.len()).map(|i| from[8 * row(i / 8) + i % 8]).collect()
    };
    let mut other = block.clone();
    (other[2], other[3]) = (columns(&block[2], 24), columns(&block[3], 24));
    other[4] = rows(&block[4], &|row| (row + 4) % 8);
    (other[8], other[9]) = (columns(&block[8], 32), columns(&block[9], 32));
    other[10] = rows(&block[10], &|row| column(row, 32));
    other
}

/// The golden model's loss with that stack.
fn loss_of(shape: &ModelShape, stack: &[&Block]) -> f64 {
    loss(shape, &mut *model(shape, stack), &batch_of(shape, |i| 5 * i * i + 3 * i))
}

/// What an initializer makes between two blocks of the lower one.
fn between(shape: &ModelShape, case: &Value, below: &Block, above: &Block) -> Block {
    made(shape, &[below.clone(), above.clone()], case)
}

/// How far the loss of a grown model moves when the block below the new one is in another order, and the one above.
fn jumps(id: &str, config: &str) -> [f64; 2] {
    let bed = Bed::small();
    let (shape, [below, above]) = (bed.shape(), [4, 16].map(|first| block(bed.shape(), first)));
    let case = json!({ "id": id, "config": config, "source": 0 });
    let loss_with = |new: &Block| loss_of(shape, &[&below, new, &above]);
    let usual = loss_with(&between(shape, &case, &below, &above));
    let others = [
        between(shape, &case, &in_another_order(&below), &above),
        between(shape, &case, &below, &in_another_order(&above)),
    ];
    others.map(|new| (loss_with(&new) - usual).abs())
}

#[test]
fn a_block_computes_the_same_in_another_order() {
    let bed = Bed::small();
    let (shape, [below, above]) = (bed.shape(), [4, 16].map(|first| block(bed.shape(), first)));
    let other = in_another_order(&below);
    let moved = other.iter().zip(&below).filter(|(other, below)| other != below).count();
    assert_eq!(moved, 6, "all of heads and neurons");
    let change = loss_of(shape, &[&other, &above]) - loss_of(shape, &[&below, &above]);
    assert!(change.abs() <= ROUNDING, "{change:e}");
}

#[test]
fn blocks_that_are_matched_first_may_come_in_any_order_and_others_may_not() {
    let matched = jumps("sapwood/ot-average", r#"{ "heads": 2, "zero_out": false }"#);
    assert!(matched.iter().all(|&jump| jump <= ROUNDING), "{matched:?}");
    let plain = jumps("sapwood/lerp", "{}");
    assert!(plain.iter().all(|&jump| jump > 1e-3), "{plain:?}");
    // One head of the whole width cannot be matched apart.
    let too_few = jumps("sapwood/ot-average", r#"{ "heads": 1, "zero_out": false }"#);
    assert!(too_few.iter().all(|&jump| jump > 1e-3), "{too_few:?}");
}

/// The order of the block above is the new one's, bit for bit.
#[test]
fn a_matched_block_has_the_order_of_the_block_above() {
    let bed = Bed::small();
    let (shape, [below, above]) = (bed.shape(), [4, 16].map(|first| block(bed.shape(), first)));
    for zero_out in [true, false] {
        let config = json!({ "heads": 2, "zero_out": zero_out }).to_string();
        let case = json!({ "id": "sapwood/ot-average", "config": &config, "source": 0 });
        let usual = between(shape, &case, &below, &above);
        assert!(between(shape, &case, &in_another_order(&below), &above) == usual, "{config}");
        let moved = between(shape, &case, &below, &in_another_order(&above));
        assert!(moved == in_another_order(&usual) && moved != usual, "{config}");
    }
    // A block in another order is the same block: what lies between is it, too.
    let case = json!({
        "id": "sapwood/ot-average", "config": r#"{ "heads": 2, "zero_out": false }"#, "source": 0
    });
    assert!(between(shape, &case, &in_another_order(&above), &above) == above);
}
