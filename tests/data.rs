//! Texts become tokens, tokens are looked at, a run reads them: from the command line alone.

use expect_test::expect;
use std::fs;

use crate::support::{Bench, json, refused, text};

/// Documents of some hundred bytes, of which every tenth or so is for validation.
fn documents() -> String {
    let characters: Vec<char> = text(40_000).chars().collect();
    let documents = characters.chunks(400).map(|document| document.iter().collect::<String>());
    documents.map(|document| format!("{}\n", serde_json::json!({ "text": document }))).collect()
}

const TOKENIZE: [&str; 9] =
    ["data", "tokenize", "in.jsonl", "--tokenizer", "bytes", "--validation", "0.1", "--out", "tokens"];

#[test]
fn texts_become_tokens_that_a_study_reads_and_its_model_goes_home_with_their_tokenizer() {
    let bench = Bench::with(&[
        (
            "source = \"text\"\npath = \"text.txt\"\nvalidation_fraction = 0.1",
            "source = \"shards\"\ntrain = [\"tokens\"]\nvalidation = [\"tokens\"]",
        ),
        ("seeds = [1, 2]", "seeds = [1]"),
    ]);
    bench.write("in.jsonl", documents());
    let said = bench.sapwood(&TOKENIZE).good();
    assert!(said.starts_with("tokens: tokens of bytes\n"), "{said}");
    let again = bench.sapwood(&TOKENIZE);
    assert!(again.stderr.contains("tokens was there already, made of the same"), "{}", again.said());
    assert_eq!(again.good(), said);

    let inspected = bench.sapwood(&["data", "inspect", "tokens", "--json"]).good();
    let inspected: serde_json::Value = serde_json::from_str(&inspected).expect("JSON was asked for");
    let parts = ["training", "validation"].map(|part| inspected["manifest"][part]["tokens"].as_u64());
    assert_eq!(parts.iter().flatten().sum::<u64>(), text(40_000).len() as u64);
    assert!(bench.sapwood(&["data", "verify", "tokens"]).good().starts_with("good     train_00000.npy: "));

    // Bytes: a stretch is a stretch of the text.
    let sample = ["data", "sample", "tokens", "--count", "1", "--tokens", "30", "--json"];
    let sample: serde_json::Value = serde_json::from_str(&bench.sapwood(&sample).good()).expect("JSON");
    assert!(text(40_000).contains(sample[0]["text"].as_str().expect("a text")), "{sample}");

    bench.sapwood(&["train", "study.toml", "--arm", "stack", "--seed", "1", "--out", "out"]).good();
    let run = "out/runs/stack/compute/seed-1";
    assert_eq!(json(&bench.path(&format!("{run}/run.json")))["made_by"]["tokenizer"]["name"], "bytes");
    assert!(bench.sapwood(&["sample", run, "--prompt", "the ", "--tokens", "5"]).good().starts_with("the "));
    bench.sapwood(&["export", run, "--out", "home"]).good();
    assert!(bench.path("home/tokenizer.json").exists());
}

#[test]
fn what_cannot_be_made_into_tokens_is_told_with_its_line_and_what_to_do() {
    let bench = Bench::new();
    bench.write("in.jsonl", "{\"text\": \"good\"}\n{\"body\": \"bad\"}\n");
    refused(
        &bench,
        &bench.sapwood(&TOKENIZE),
        &expect![[r#"
        error: line 2 of in.jsonl has no `text`
        hint: mend it, or leave such documents out and have them counted: `--skip-bad`
        exit 4
    "#]],
    );
    let skipped = bench.sapwood(&[&TOKENIZE[..6], &["0", "--out", "skipped", "--skip-bad"]].concat()).good();
    assert!(skipped.ends_with("left out, since they could not be read: 1 documents\n"), "{skipped}");
    let more =
        ["data", "tokenize", "in.jsonl", "--tokenizer", "gpt2", "--validation", "0", "--out", "skipped"];
    refused(
        &bench,
        &bench.sapwood(&more),
        &expect![[r#"
        error: skipped holds tokens that were made otherwise: by another tokenizer
        hint: name another folder in `--out`, or remove this one
        exit 3
    "#]],
    );
}

#[test]
fn a_shard_that_was_altered_is_found_and_no_run_reads_it() {
    let bench = Bench::with(&[(
        "source = \"text\"\npath = \"text.txt\"\nvalidation_fraction = 0.1",
        "source = \"shards\"\ntrain = [\"tokens\"]\nvalidation = [\"tokens\"]",
    )]);
    bench.write("in.jsonl", documents());
    bench.sapwood(&TOKENIZE).good();
    let shard = bench.path("tokens/train_00000.npy");
    let mut bytes = fs::read(&shard).expect("a shard");
    bytes[1000] ^= 1;
    fs::write(&shard, bytes).expect("room");
    let verified = bench.sapwood(&["data", "verify", "tokens"]);
    assert!(
        verified.code == Some(4)
            && verified.stdout.contains("damaged  tokens/train_00000.npy has the sha256 ")
    );
    let trained = bench.sapwood(&["train", "study.toml", "--arm", "stack", "--seed", "1", "--out", "out"]);
    let told = trained.code == Some(4) && trained.stderr.contains("train_00000.npy has the sha256 ");
    assert!(told, "{}", trained.said());
}
