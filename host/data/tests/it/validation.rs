//! Is the validation part fixed and apart?

use data::Order;
use engine::TokenBatch;

use super::files::{Files, shards, text};

fn first_ids(batches: &[TokenBatch], context: usize) -> Vec<u32> {
    batches.iter().flat_map(|batch| batch.rows().chunks(context + 1).map(|row| row[0])).collect()
}

#[test]
fn windows_are_spread_over_the_whole_part() {
    let files = Files::new().shard("t_train.npy", 0, 9).shard("v_val.npy", 1000, 1041);
    let corpus = files.open(&shards(&["."], &["."], Order::Shuffled), 4).expect("two shards");
    let batches = corpus.validation_batches(5, 2).expect("ten windows");
    assert_eq!(first_ids(&batches, 4), [1000, 1008, 1016, 1024, 1032]);
    assert_eq!(batches.iter().map(TokenBatch::sequences).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(batches, corpus.validation_batches(5, 2).expect("the same again"));

    let three = corpus.validation_batches(3, 8).expect("ten windows");
    assert_eq!(first_ids(&three, 4), [1000, 1012, 1024]);
}

#[test]
fn all_windows_where_there_are_fewer_than_asked_for() {
    let files = Files::new().shard("t", 0, 9).shard("v", 0, 14);
    let corpus = files.open(&shards(&["t"], &["v"], Order::Sequential), 4).expect("two shards");
    let batches = corpus.validation_batches(1000, 1000).expect("three windows");
    assert_eq!(first_ids(&batches, 4), [0, 4, 8]);
}

#[test]
fn the_end_of_a_text_is_kept_from_training() {
    let files = Files::new().text("text", 101);
    let corpus = files.open(&text(0.2, Order::Sequential), 10).expect("101 bytes");
    let facts = corpus.describe().expect("a readable file");
    assert_eq!((facts.train_tokens.0, facts.validation_tokens.0, facts.epoch_tokens.0), (80, 21, 70));
    let batches = corpus.validation_batches(9, 9).expect("two windows");
    assert_eq!(batches[0].sequences(), 2);
    assert_eq!(batches[0].rows()[0], u32::from(b'0'), "byte 80 of the text");
}
