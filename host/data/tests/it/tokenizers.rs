//! Does it give the ids that others give? Golden ids are tiktoken's (`tests/golden/tokenizers`).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use data::{Tokenizer, tokenizer};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn golden() -> Value {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers/gpt2_bpe_golden.json");
    serde_json::from_slice(&fs::read(path).expect("a file of the repository")).expect("it is JSON")
}

fn ids(tokenizer: &dyn Tokenizer, texts: &[&str]) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut encoder = tokenizer.encoder();
    for text in texts {
        encoder.encode(text, &mut ids).expect("every text can be encoded");
    }
    ids
}

fn numbers(value: &Value) -> Vec<u32> {
    let number = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).expect("an id");
    value.as_array().expect("a list of ids").iter().map(number).collect()
}

#[test]
fn gpt2_gives_every_golden_case_and_takes_it_back() {
    let (gpt2, golden) = (tokenizer("gpt2").expect("it is built in"), golden());
    let cases = golden["cases"].as_array().expect("a list of cases");
    assert!(cases.len() >= 78);
    for case in cases {
        let text = case["text"].as_str().expect("a case has a text");
        let expected = numbers(&case["ids"]);
        assert_eq!(ids(&*gpt2, &[text]), expected, "{}", case["name"]);
        assert_eq!(gpt2.decode(&expected).as_deref(), Some(text.as_bytes()), "{}", case["name"]);
    }
    for case in golden["decode"].as_array().expect("a list of cases") {
        let bytes = gpt2.decode(&numbers(&case["ids"])).expect("ids of the vocabulary");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Some(hex.as_str()), case["bytes_hex"].as_str(), "{}", case["name"]);
    }
}

#[test]
fn gpt2_says_which_vocabulary_it_has() {
    let gpt2 = tokenizer("gpt2").expect("it is built in");
    let identity = gpt2.identity();
    // The hash that tiktoken itself pins of r50k_base.tiktoken.
    assert_eq!(identity.sha256, "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930");
    assert_eq!((identity.vocabulary, gpt2.separator()), (50_257, Some(50_256)));
    assert_eq!(gpt2.decode(&[50_257]), None);
    assert_eq!((gpt2.id_of(" the"), gpt2.id_of("two words")), (Some(262), None));
    assert!(ids(&*gpt2, &["<|endoftext|>"]).len() > 1, "a special string is ordinary text");
}

/// A word of a megabyte takes no longer than others.
#[test]
fn gpt2_takes_words_of_any_length() {
    let gpt2 = tokenizer("gpt2").expect("it is built in");
    for text in ["a".repeat(1 << 20), " ".repeat(1 << 20), "漢".repeat(1 << 18), "=-".repeat(1 << 19)] {
        let ids = ids(&*gpt2, &[&text]);
        assert_eq!(gpt2.decode(&ids), Some(text.into_bytes()));
    }
}

#[test]
fn whole_files_hash_to_what_tiktoken_came_to() {
    let Some(folder) = std::env::var_os("SAPWOOD_FIXTURES").map(PathBuf::from) else {
        let required = std::env::var("SAPWOOD_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "fixtures"), "SAPWOOD_FIXTURES is not set");
        // Past the harness, which keeps what a test prints to itself unless it fails.
        let _ = writeln!(std::io::stderr(), "left out: fixtures: SAPWOOD_FIXTURES is not set");
        return;
    };
    let text = fs::read_to_string(folder.join("austen.txt")).expect("a file of the fixtures");
    let gpt2 = tokenizer("gpt2").expect("it is built in");
    let ids = ids(&*gpt2, &[&text]);
    let bytes: Vec<u8> = ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect();
    let golden = golden();
    let bulk = &golden["bulk"][0];
    assert_eq!(Some(ids.len() as u64), bulk["tokens"].as_u64());
    assert_eq!(Some(format!("{:x}", Sha256::digest(bytes)).as_str()), bulk["sha256_u16le"].as_str());
}

#[test]
fn bytes_are_their_values() {
    let bytes = tokenizer("bytes").expect("it is built in");
    assert_eq!(ids(&*bytes, &["é!"]), [0xc3, 0xa9, 33]);
    assert_eq!(bytes.decode(&[104, 105]), Some(b"hi".to_vec()));
    assert_eq!((bytes.decode(&[256]), bytes.separator(), bytes.identity().vocabulary), (None, None, 256));
}

/// Words by spaces, an added token that is special, text cut off after two words.
const SMALL: &str = r#"{"version": "1.0",
  "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}, "padding": null,
  "added_tokens": [{"id": 3, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true}],
  "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
  "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "old": 1, "wood": 2}, "unk_token": "[UNK]"}}"#;

#[test]
fn a_tokenizer_json_gives_the_ids_of_the_whole_text() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, SMALL).expect("room for a small file");
    let small = tokenizer(path.to_str().expect("plain text")).expect("a tokenizer");
    assert_eq!(ids(&*small, &["old wood old wood", "<|endoftext|> old"]), [1, 2, 1, 2, 0, 1]);
    assert_eq!((small.separator(), small.identity().vocabulary), (Some(3), 4));
    assert_eq!(small.decode(&[1, 5]), None, "no token has the id 5");
    assert_eq!(small.identity().sha256, format!("{:x}", Sha256::digest(SMALL)));
}

#[test]
fn what_is_no_tokenizer_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.json");
    let told = |name: &str| {
        let error = tokenizer(name).err().expect("must be refused");
        format!("{error}\nhint: {}", error.hint()).replace(&folder.path().display().to_string(), "TMP")
    };
    assert!(told("gpt3").starts_with("there is no tokenizer `gpt3`\nhint: choose `gpt2`"));
    let name = path.to_str().expect("plain text");
    assert!(told(name).starts_with("TMP/x.json cannot be read: "));
    for content in ["", "{}", "[1, 2", "{\"model\": {\"type\": \"none\"}}"] {
        fs::write(&path, content).expect("room for a small file");
        assert!(told(name).starts_with("TMP/x.json is no tokenizer: "), "{}", told(name));
    }
}

#[test]
fn the_file_of_a_tokenizer_gives_the_ids_of_the_tokenizer() {
    let novel =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/pride-and-prejudice.txt");
    let novel = std::fs::read_to_string(novel).expect("the quickstart's text");
    let text = format!("{}\u{a0}naïve 漢字 🙂\t\t 1234 don't", &novel[..20_000]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["gpt2", "bytes"] {
        let path = folder.path().join(format!("{name}.json"));
        let built_in = tokenizer(name).expect("it is built in");
        std::fs::write(&path, built_in.file()).expect("room on the disk");
        let by_crate = tokenizer(path.to_str().expect("an ASCII path")).expect("a file that it loads");
        let encode = |tokenizer: &dyn data::Tokenizer| {
            let mut ids = Vec::new();
            tokenizer.encoder().encode(&text, &mut ids).expect("any text");
            ids
        };
        assert_eq!(encode(&*by_crate), encode(&*built_in), "{name}");
        assert_eq!(by_crate.separator(), built_in.separator(), "{name}");
        assert_eq!(by_crate.identity().vocabulary, built_in.identity().vocabulary, "{name}");
    }
}

/// What `tokenizers` does not bear, as the fuzzer has found it.
#[test]
fn files_that_end_their_reader_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut file = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": { "type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]] },
        });
        change(&mut file);
        fs::write(&path, file.to_string()).expect("room");
        let Err(error) = tokenizer(path.to_str().expect("a plain name")) else { return "read".into() };
        error.to_string().replace(&format!("{} is no tokenizer: ", path.display()), "")
    };
    assert_eq!(refused(&|_| {}), "read");
    let long = "x".repeat(100_000);
    let too_long = "it has a text of 100000 bytes, the limit is 1024";
    assert_eq!(refused(&|file| file["model"]["vocab"][1][0] = long.clone().into()), too_long);
    assert_eq!(
        refused(&|file| file["normalizer"] = serde_json::json!({ "type": "Prepend", "prepend": long })),
        too_long
    );
    let added = serde_json::json!([{ "id": 1, "content": long, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true }]);
    assert_eq!(refused(&|file| file["added_tokens"] = added.clone()), too_long);
    // Whatever is no JSON within a decoder: its reader panics.
    let broken = serde_json::json!({ "decoder": null }).to_string().replace("null", "{\"type\" 1}");
    fs::write(&path, broken).expect("room");
    let Err(panicked) = tokenizer(path.to_str().expect("a plain name")) else { panic!("it is no JSON") };
    assert!(panicked.to_string().contains("is no tokenizer: its reader gave up: Helper"), "{panicked}");
}
