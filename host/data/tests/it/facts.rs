//! Does it say what was read? Hashes were made with `sha256sum`.

use std::fs;

use data::{CorpusFacts, Order, Split};

use super::files::{Files, shards, text};

fn facts(files: &Files, train: &[&str], validation: &[&str]) -> CorpusFacts {
    let config = shards(train, validation, Order::Sequential);
    files.open(&config, 4).expect("shards").describe().expect("readable shards")
}

#[test]
fn a_file_is_hashed_as_sha256sum_does() {
    let files = Files::new().text("text", 30);
    let corpus = files.open(&text(0.3, Order::Sequential), 4).expect("30 bytes");
    let facts = corpus.describe().expect("a readable file");
    assert_eq!(facts.bytes_per_token, Some(1.0));
    assert_eq!(facts.files.len(), 1);
    let file = &facts.files[0];
    assert_eq!((file.split, file.bytes), (Split::Both, 30));
    // printf 012345678901234567890123456789 | sha256sum
    assert_eq!(file.sha256, "276fadfc9edc49f5f9af96d97636731def7525d4bfa16bc07699534873a474cc");
    // printf 'both %s\n' HASH | sha256sum
    assert_eq!(facts.sha256, "a5c7151ab60cd1a02a24715b0d7be7003736abca2892f2d4b55006fe20e5c490");
    let json = serde_json::to_string(&facts).expect("plain values");
    assert_eq!(serde_json::from_str::<CorpusFacts>(&json).expect("what was written"), facts);
}

#[test]
fn the_hash_is_of_content_order_and_use_and_not_of_names() {
    let files = Files::new()
        .shard("a", 0, 20)
        .shard("b", 20, 40)
        .shard("c", 40, 60)
        .shard("moved/x", 0, 20)
        .shard("moved/y", 20, 40)
        .shard("moved/z", 40, 60);
    let hash = |train: &[&str], validation: &[&str]| facts(&files, train, validation).sha256;
    let original = hash(&["a", "b"], &["c"]);
    assert_eq!(original, hash(&["moved/x", "moved/y"], &["moved/z"]));
    assert_ne!(original, hash(&["b", "a"], &["c"]));
    assert_ne!(original, hash(&["a"], &["b", "c"]));
}

#[test]
fn content_is_hashed_once() {
    let files = Files::new().text("text", 30);
    let corpus = files.open(&text(0.3, Order::Sequential), 4).expect("30 bytes");
    let first = corpus.describe().expect("a readable file");
    fs::write(files.path().join("text"), b"changed").expect("our own file");
    assert_eq!(corpus.describe().expect("the answer that is known"), first);
}
