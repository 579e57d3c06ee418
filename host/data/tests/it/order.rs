//! Which tokens does which step read? Shards of consecutive ids show it: a row's first id is its place.

use std::sync::Arc;
use std::thread;

use data::{Corpus, Needs, Order, ReadAhead, open};
use engine::{TokenBatch, Tokens};

use super::files::{Files, shards, text};

const CONTEXT: usize = 4;

/// 41 ids, 0 to 40, in three files: 10 windows of 4 targets.
fn corpus(order: Order) -> (Files, Corpus) {
    let files = Files::new()
        .shard("edufineweb_train_000002.npy", 7, 30)
        .shard("edufineweb_train_000001.npy", 0, 7)
        .shard("edufineweb_train_000010.npy", 30, 41)
        .shard("edufineweb_val_000000.npy", 100, 120);
    let corpus = files.open(&shards(&["."], &["."], order), CONTEXT).expect("a folder of shards");
    (files, corpus)
}

fn read(corpus: &Corpus, seed: u64, cursor: u64, sequences: usize) -> TokenBatch {
    corpus.training_batch(seed, Tokens(cursor), sequences).expect("a batch of the epoch")
}

/// The number of each row's window.
fn windows(batch: &TokenBatch) -> Vec<u32> {
    batch.rows().chunks(CONTEXT + 1).map(|row| row[0] / CONTEXT as u32).collect()
}

#[test]
fn sequences_run_across_shard_borders_as_one_stream() {
    let (_files, corpus) = corpus(Order::Sequential);
    let batch = read(&corpus, 0, 0, 10);
    let expected: Vec<u32> = (0..10).flat_map(|window| 4 * window..=4 * window + 4).collect();
    assert_eq!(batch.rows(), expected);
}

#[test]
fn a_shard_shorter_than_a_window_is_read_through() {
    let files = Files::new().shard("a", 0, 3).shard("b", 3, 4).shard("c", 4, 9);
    let corpus = files.open(&shards(&["a", "b", "c"], &[], Order::Sequential), 8).expect("9 ids");
    assert_eq!(read(&corpus, 0, 0, 1).rows(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn sequential_begins_again_and_says_so() {
    let (_files, corpus) = corpus(Order::Sequential);
    assert_eq!(windows(&read(&corpus, 0, 32, 4)), [8, 9, 0, 1]);
    assert_eq!(windows(&read(&corpus, 5, 400, 2)), [0, 1]);
    assert_eq!(corpus.epochs_at(Tokens(0)), 0.0);
    assert_eq!(corpus.epochs_at(Tokens(40)), 1.0);
    assert_eq!(corpus.epochs_at(Tokens(60)), 1.5);
}

#[test]
fn micro_batches_do_not_change_the_stream() {
    for order in [Order::Sequential, Order::Shuffled] {
        let (_files, corpus) = corpus(order);
        let whole = windows(&read(&corpus, 3, 16, 9));
        let parts: Vec<u32> = [(16, 2), (24, 3), (36, 4)]
            .iter()
            .flat_map(|&(at, n)| windows(&read(&corpus, 3, at, n)))
            .collect();
        assert_eq!(whole, parts);
    }
}

#[test]
fn shuffled_reads_every_window_once_an_epoch() {
    let (_files, corpus) = corpus(Order::Shuffled);
    let mut orders = Vec::new();
    for epoch in 0..3 {
        let order = windows(&read(&corpus, 1, 40 * epoch, 10));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<u32>>());
        orders.push(order);
    }
    assert_ne!(orders[0], orders[1]);
    assert_ne!(orders[1], orders[2]);
}

#[test]
fn seeds_read_in_different_orders() {
    let (_files, corpus) = corpus(Order::Shuffled);
    assert_ne!(read(&corpus, 1, 0, 10), read(&corpus, 2, 0, 10));
}

#[test]
fn a_batch_depends_on_the_question_and_not_on_what_was_asked_before() {
    for order in [Order::Sequential, Order::Shuffled] {
        let (_files, corpus) = corpus(order);
        let (_other_files, other) = self::corpus(order);
        let questions: Vec<(u64, u64)> =
            (0..12).flat_map(|seed| [0, 8, 36, 44, 400].map(|cursor| (seed, cursor))).collect();
        let forward: Vec<_> = questions.iter().map(|&(seed, at)| read(&corpus, seed, at, 3)).collect();
        let mut backward: Vec<_> =
            questions.iter().rev().map(|&(seed, at)| read(&other, seed, at, 3)).collect();
        backward.reverse();
        assert_eq!(forward, backward);
    }
}

#[test]
fn parallel_runs_share_a_corpus() {
    let (_files, corpus) = corpus(Order::Shuffled);
    let corpus = Arc::new(corpus);
    let alone: Vec<_> = (0..4).map(|seed| read(&corpus, seed, 40, 10)).collect();
    let threads: Vec<_> = (0..4)
        .map(|seed| {
            let corpus = corpus.clone();
            thread::spawn(move || read(&corpus, seed, 40, 10))
        })
        .collect();
    let together: Vec<_> =
        threads.into_iter().map(|thread| thread.join().expect("a thread that reads")).collect();
    assert_eq!(alone, together);
}

#[test]
fn the_bytes_of_a_text_are_its_tokens() {
    let files = Files::new().bytes("text", "Émile".as_bytes());
    let corpus = files.open(&text(0.0, Order::Sequential), 5).expect("six bytes");
    assert_eq!(read(&corpus, 0, 0, 1).rows(), [0xc3, 0x89, b'm', b'i', b'l', b'e'].map(u32::from));
}

#[test]
fn what_is_read_ahead_is_what_is_asked_for() {
    for order in [Order::Sequential, Order::Shuffled] {
        let (_files, corpus) = corpus(order);
        let mut ahead = ReadAhead::new(&corpus, 3);
        // On and on, then from an earlier place again, then with another size.
        let asked = (0..200).map(|step| (8 * step, 2)).chain((5..90).map(|step| (8 * step, 2)));
        for (cursor, sequences) in asked.chain((10..100).map(|step| (12 * step, 3))) {
            let batch = ahead.batch(Tokens(cursor), sequences).expect("a batch of the epoch");
            assert_eq!(batch, read(&corpus, 3, cursor, sequences), "{sequences} at {cursor}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_told_where_it_is_asked_for_and_not_before() {
    let files = Files::new().bytes("text", b"abcdabcdabcdabcdabcd\xffbcdabcd");
    let needs = Needs { context: 4, vocabulary: 128 };
    let corpus = open(&text(0.0, Order::Sequential), files.path(), needs).expect("seven windows");
    let mut ahead = ReadAhead::new(&corpus, 0);
    for window in 0..4 {
        ahead.batch(Tokens(4 * window), 1).expect("ids below 128");
    }
    for _ in 0..2 {
        let error = ahead.batch(Tokens(16), 1).expect_err("its last target is 255");
        assert!(error.to_string().contains("has the id 255"), "{error}");
    }
    ahead.batch(Tokens(0), 1).expect("ids below 128");
}
