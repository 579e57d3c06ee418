//! `tokenizer.json`: small ones of every model that `tokenizers` knows, as they are and with what may stand around it.

use std::fs;

use data::{TokenizerError, tokenizer};
use serde_json::{Value, json};

use super::damage::{Dice, check_told, search};

/// Seeds that have found something once.
const KEPT: [u64; 5] = [123, 1589, 5626, 13_037, 32_375];

/// Kinds and keys that the file's reader knows, so that damage is understood.
const WORDS: [&str; 40] = [
    "BPE",
    "WordPiece",
    "WordLevel",
    "Unigram",
    "ByteLevel",
    "Whitespace",
    "WhitespaceSplit",
    "Split",
    "Metaspace",
    "BertPreTokenizer",
    "BertNormalizer",
    "Sequence",
    "Lowercase",
    "NFKC",
    "Strip",
    "Replace",
    "Prepend",
    "Precompiled",
    "ByteFallback",
    "Fuse",
    "CTC",
    "BPEDecoder",
    "TemplateProcessing",
    "BertProcessing",
    "RobertaProcessing",
    "Digits",
    "Punctuation",
    "CharDelimiterSplit",
    "UnicodeScripts",
    "FixedLength",
    "vocab",
    "merges",
    "unk_token",
    "pattern",
    "Regex",
    "content",
    "(a+)+$",
    "(?=x)*",
    "[UNK]",
    "\u{120}t",
];

const TEXTS: [&str; 5] = [
    "",
    "the theatre, at 7 o'clock",
    "\u{1f332} caf\u{e9} \0\n\n  <|endoftext|>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
    "\u{301}\u{200d}",
];

fn file(model: &Value, normalizer: &Value, pre_tokenizer: &Value, decoder: &Value) -> Vec<u8> {
    let added = json!([
        { "id": 5, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": true, "normalized": false, "special": true },
        { "id": 6, "content": "th", "single_word": true, "lstrip": true, "rstrip": false, "normalized": true, "special": false },
    ]);
    let all = json!({
        "version": "1.0", "truncation": { "max_length": 8, "strategy": "LongestFirst", "stride": 1, "direction": "Right" },
        "padding": { "strategy": { "Fixed": 8 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "x" },
        "added_tokens": added, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<|endoftext|>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<|endoftext|>": { "id": "<|endoftext|>", "ids": [5], "tokens": ["<|endoftext|>"] } } },
        "decoder": decoder, "model": model,
    });
    serde_json::to_vec(&all).expect("plain values")
}

fn files() -> Vec<Vec<u8>> {
    let bytes = tokenizer("bytes").expect("it is built in").file();
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true });
    let split = |pattern: Value| json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false });
    let words = json!({ "t": 0, "h": 1, "e": 2, "th": 3, "the": 4, "<|endoftext|>": 5, "[UNK]": 7, "##e": 8, "\u{120}t": 9, "<0x41>": 10, "a": 11, "aa": 12 });
    let merges = json!([["t", "h"], ["th", "e"], ["a", "a"]]);
    let bpe = json!({ "type": "BPE", "dropout": null, "unk_token": "[UNK]", "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": words, "merges": merges });
    let piece = json!({ "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": words });
    let level = json!({ "type": "WordLevel", "unk_token": "[UNK]", "vocab": words });
    let unigram = json!({ "type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": [["<unk>", 0.0], ["the", -1.5], ["t", -3.0], ["\u{2581}", -2.0], ["a", -2.5], ["<|endoftext|>", -9.0]] });
    let normalizer = json!({ "type": "Sequence", "normalizers": [
        { "type": "NFKC" }, { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
        { "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }, { "type": "Strip", "strip_left": true, "strip_right": true },
        { "type": "Prepend", "prepend": "\u{2581}" }, { "type": "Replace", "pattern": { "String": "o" }, "content": "" } ] });
    let sequence = json!({ "type": "Sequence", "pretokenizers": [split(json!({ "Regex": "\\p{L}+|\\s+(?!\\S)|." })), byte_level] });
    let metaspace =
        json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true });
    let decoders = json!({ "type": "Sequence", "decoders": [{ "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " }, { "type": "ByteFallback" }, { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 }] });
    let null = Value::Null;
    vec![
        bytes,
        file(&bpe, &null, &sequence, &byte_level),
        file(&bpe, &normalizer, &null, &decoders),
        file(
            &piece,
            &normalizer,
            &json!({ "type": "BertPreTokenizer" }),
            &json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
        ),
        file(
            &level,
            &null,
            &json!({ "type": "Sequence", "pretokenizers": [{ "type": "Whitespace" }, { "type": "Digits", "individual_digits": true }, { "type": "Punctuation", "behavior": "Isolated" }] }),
            &null,
        ),
        file(&unigram, &normalizer, &metaspace, &metaspace),
    ]
}

fn check(seed: u64, files: &[Vec<u8>]) {
    let mut dice = Dice::new(seed);
    let mut bytes = dice.one_of(files);
    if dice.below(8) == 0 {
        dice.bytes(&mut bytes)
    } else {
        dice.json(&mut bytes, &WORDS)
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, &bytes).expect("room for a small file");
    let told = |error: TokenizerError| check_told(seed, folder.path(), &error.to_string(), &error.hint());
    let read = match tokenizer(path.to_str().expect("a plain name")) {
        Ok(read) => read,
        Err(error) => return told(error),
    };
    let _ = (read.separator(), read.id_of("the"), read.decode(&[0, 1, u32::MAX]));
    assert_eq!(read.file(), bytes, "seed {seed}");
    let mut encoder = read.encoder();
    for text in TEXTS {
        let mut ids = Vec::new();
        match encoder.encode(text, &mut ids) {
            Err(error) => told(error),
            Ok(()) => {
                let vocabulary = read.identity().vocabulary;
                assert!(ids.iter().all(|&id| id < vocabulary), "seed {seed}: {ids:?} of {vocabulary}");
                let _ = read.decode(&ids);
            }
        }
    }
}

#[test]
fn whatever_lies_in_a_tokenizer_file_it_is_one_or_is_refused() {
    let files = files();
    search("tokenizers", &KEPT, 600, |seed| check(seed, &files));
}
