//! A model that writes: same seed, same text; what cannot be read is refused.

use crate::support::{Bench, root};

#[test]
fn the_same_seed_writes_the_same_text_and_greed_needs_none() {
    let bench = Bench::with(&[("seeds = [1, 2]", "seeds = [1]")]);
    bench.study().good();
    let run = "out/runs/stack/compute/seed-1";
    let write = |more: &[&str]| {
        let args = ["sample", run, "--prompt", "the slow ", "--tokens", "60"];
        bench.sapwood(&[&args[..], more].concat())
    };
    let text = write(&["--seed", "3"]).good();
    assert!(text.starts_with("the slow ") && text.len() > 30, "{text}");
    assert_eq!(text, write(&["--seed", "3"]).good());
    assert_ne!(text, write(&["--seed", "4"]).good());
    let greedy = write(&["--temperature", "0", "--seed", "3"]).good();
    assert_eq!(greedy, write(&["--top-k", "1", "--seed", "4"]).good());
    assert_eq!(greedy, write(&["--top-p", "1e-9", "--seed", "5"]).good());
}

#[test]
fn ids_are_written_where_no_tokenizer_is_known() {
    let bench = Bench::new();
    let model = root().join("tests/golden/hugging_face/model").display().to_string();
    let ids = bench.sapwood(&["sample", &model, "--ids", "--prompt", "7, 1 63", "--tokens", "40"]).good();
    assert_eq!(
        ids.split_whitespace()
            .map(str::parse::<u32>)
            .filter(|id| id.as_ref().is_ok_and(|id| *id < 64))
            .count(),
        40
    );
    let refused = |args: &[&str], said: &str| {
        let ran = bench.sapwood(&[&["sample", &model], args].concat());
        assert!(ran.code == Some(4) && ran.stderr.contains(said), "{}", ran.said());
    };
    refused(&["--prompt", "text"], "no `--tokenizer` is named");
    refused(&["--ids", "--prompt", "64"], "token 64 is outside the model's vocabulary of 64");
    refused(&["--ids", "--prompt", "seven"], "is no list of token ids");
}

/// A tokenizer from a file says which ids a text has; one with more ids than the model has rows is refused.
#[test]
fn a_tokenizer_is_named_for_a_model_whose_tokens_are_no_bytes() {
    let bench = Bench::new();
    let model = root().join("tests/golden/hugging_face/model").display().to_string();
    let words = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"the": 0, "old": 1, "wood": 2, "[UNK]": 3}, "unk_token": "[UNK]"}}"#;
    bench.write("words.json", words);
    let sample = |more: &[&str]| {
        let args = [&["sample", &model, "--tokens", "4", "--temperature", "0"][..], more].concat();
        bench.sapwood(&args)
    };
    let by_ids = sample(&["--ids", "--prompt", "0 1"]).good();
    let written = sample(&["--tokenizer", "words.json", "--prompt", "the old"]).good();
    let names = ["the", "old", "wood", "[UNK]"];
    let known = by_ids.split_whitespace().filter_map(|id| names.get(id.parse::<usize>().expect("an id")));
    let wanted: String = known.copied().collect();
    assert_eq!(written, format!("the old{wanted}\n"), "{by_ids}");
    let larger = sample(&["--tokenizer", "gpt2", "--prompt", "the old"]);
    assert!(
        larger.code == Some(4) && larger.stderr.contains("the tokenizer `gpt2` has 50257 ids"),
        "{}",
        larger.said()
    );
    let unknown = sample(&["--tokenizer", "gpt3", "--prompt", "the old"]);
    assert!(unknown.code == Some(4) && unknown.stderr.contains("no tokenizer `gpt3`"), "{}", unknown.said());
    let none = sample(&["--prompt", "the old"]);
    assert!(none.code == Some(4) && none.stderr.contains("--tokenizer gpt2"), "{}", none.said());
}
