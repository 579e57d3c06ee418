//! Files of ids as others write them, each of its kind told from the others; folders with a manifest; mixtures.

use data::{DataConfig, Format, MixturePart, Needs, Order, ShardList, open};
use engine::Tokens;
use serde_json::{Value, json};

use super::files::{Files, shards};

const NEEDS: Needs = Needs { context: 4, vocabulary: 50_304 };
const LLM_C: [u32; 2] = [20_240_520, 1];
const LLM_C_WIDE: [u32; 2] = [20_240_801, 7];

fn list(train: &str, format: Option<Format>) -> ShardList {
    ShardList { train: vec![train.into()], validation: Vec::new(), format }
}

fn config(train: &str, format: Option<Format>) -> DataConfig {
    DataConfig::Shards { files: list(train, format), order: Order::Sequential }
}

/// The first window, or what the file is refused with.
fn first_window(files: &Files, config: &DataConfig) -> Result<Vec<u32>, String> {
    let told =
        |error: data::DataError| error.to_string().replace(&format!("{}/", files.path().display()), "");
    let corpus = open(config, files.path(), NEEDS).map_err(told)?;
    Ok(corpus.training_batch(0, Tokens(0), 1).map_err(told)?.rows().to_vec())
}

/// llm.c's header, which claims so many tokens, and then these bytes.
fn with_header([magic, version]: [u32; 2], tokens: u32, ids: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = [magic, version, tokens].iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(1024, 0);
    bytes.extend(ids);
    bytes
}

fn narrow(ids: &[u16]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

fn wide(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

#[test]
fn every_kind_of_file_is_read() {
    let ids = [50_256, 7, 300, 40_000, 5];
    let (narrow_ids, wide_ids) = (narrow(&ids), wide(&ids.map(u32::from)));
    let files = Files::new()
        .bytes("llm.c.bin", &with_header(LLM_C, 5, &narrow_ids))
        .bytes("llama3.bin", &with_header(LLM_C_WIDE, 5, &wide_ids))
        .bytes("nanogpt.bin", &narrow_ids)
        .bytes("wide.bin", &wide_ids)
        .npy("build-nanogpt.npy", "<u2", "(5,)", &ids)
        .npy("wide.npy", "<u4", "(5,)", &ids.map(|id| [id, 0]).concat());
    let read = |name, format| first_window(&files, &config(name, format));
    let expected = Ok(ids.map(u32::from).to_vec());
    for name in ["llm.c.bin", "llama3.bin", "build-nanogpt.npy", "wide.npy"] {
        assert_eq!(read(name, None), expected, "{name}");
    }
    assert_eq!(read("nanogpt.bin", Some(Format::RawUint16)), expected);
    assert_eq!(read("wide.bin", Some(Format::RawUint32)), expected);
}

#[test]
fn folders_of_bin_files_are_read_in_name_order() {
    let files = Files::new()
        .bytes("fineweb10B/fineweb_train_000002.bin", &with_header(LLM_C, 2, &narrow(&[3, 4])))
        .bytes("fineweb10B/fineweb_train_000001.bin", &with_header(LLM_C, 3, &narrow(&[0, 1, 2])))
        .bytes("fineweb10B/fineweb_val_000000.bin", &with_header(LLM_C, 5, &narrow(&[9; 5])));
    let both = shards(&["fineweb10B"], &["fineweb10B"], Order::Sequential);
    assert_eq!(first_window(&files, &both), Ok(vec![0, 1, 2, 3, 4]));
    let corpus = open(&both, files.path(), NEEDS).expect("two parts");
    assert_eq!(corpus.validation_batches(1, 1).expect("one window")[0].rows(), [9; 5]);
}

#[test]
fn mislabelled_and_damaged_files_are_refused() {
    let five = narrow(&[0, 1, 2, 3, 4]);
    let files = Files::new()
        .bytes("good.bin", &with_header(LLM_C, 5, &five))
        .bytes("new.bin", &with_header([LLM_C[0], 2], 5, &five))
        .bytes("cut.bin", &with_header(LLM_C, 6, &five))
        .bytes("header.bin", &with_header(LLM_C, 0, &[]))
        .bytes("short.bin", &LLM_C[0].to_le_bytes())
        .bytes("odd.bin", &[0; 9])
        .npy("array.bin", "<u2", "(5,)", &[0; 5])
        .bytes("empty.bin", b"");
    let refused = |name, format| first_window(&files, &config(name, format)).expect_err("must be refused");
    let raw = Some(Format::RawUint16);
    assert_eq!(refused("new.bin", None), "new.bin is llm.c's .bin of version 2, where 1 is known");
    assert_eq!(
        refused("cut.bin", None),
        "cut.bin has 1034 bytes, but its header, with 6 tokens of 2 bytes, makes it 1036"
    );
    assert_eq!(refused("header.bin", None), "header.bin holds no token");
    assert_eq!(refused("short.bin", None), "short.bin begins neither as an .npy file nor as llm.c's .bin");
    assert_eq!(refused("empty.bin", None), "empty.bin is empty");
    assert_eq!(refused("odd.bin", raw), "odd.bin has 9 bytes, which is no whole number of ids of 2 bytes");
    let header =
        |whose| format!("begins with the header of {whose}, though `data.format` says that it has none");
    assert_eq!(refused("good.bin", raw), format!("good.bin {}", header("llm.c's .bin")));
    assert_eq!(refused("array.bin", raw), format!("array.bin {}", header("an .npy file")));
}

#[test]
fn wide_ids_outside_the_vocabulary_are_told_with_their_place() {
    let files = Files::new().bytes("wide.bin", &wide(&[1, 2, 70_000, 3, 4]));
    assert_eq!(
        first_window(&files, &config("wide.bin", Some(Format::RawUint32))),
        Err("token 2 of wide.bin has the id 70000, but the vocabulary has 50304".into())
    );
}

/// The manifest of a folder with one shard of nine tokens for training and one for validation.
fn manifest(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let part = |file: &str| {
        json!({ "documents": 1, "tokens": 9, "text_bytes": 36, "shards": [
            { "file": file, "tokens": 9, "bytes": 146, "sha256": "not yet looked at" }
        ] })
    };
    let mut manifest = json!({
        "format": "sapwood-tokens", "version": 1,
        "tokenizer": { "name": "gpt2", "sha256": "abc", "vocabulary": 50257 },
        "recipe": {
            "separator": 50256, "validation_fraction": 0.5, "tokens_per_shard": 100, "skip_bad": false,
            "texts": { "field": "text", "documents": "files" },
        },
        "inputs": [], "skipped_documents": 0,
        "training": part("a.npy"), "validation": part("b.npy"),
    });
    change(&mut manifest);
    manifest.to_string().into_bytes()
}

/// A folder `t` with that manifest.
fn folder(change: impl FnOnce(&mut Value)) -> Files {
    Files::new().shard("t/a.npy", 0, 9).shard("t/b.npy", 10, 19).bytes("t/tokens.json", &manifest(change))
}

fn of_folder() -> DataConfig {
    shards(&["t"], &["t"], Order::Sequential)
}

#[test]
fn a_folder_with_a_manifest_is_read_by_it() {
    // Files that the manifest does not name are none of its shards.
    let files = folder(|_| {}).shard("t/c_train.npy", 90, 99);
    let corpus = open(&of_folder(), files.path(), NEEDS).expect("a folder as it is made here");
    assert_eq!(corpus.training_batch(0, Tokens(4), 1).expect("two windows").rows(), [4, 5, 6, 7, 8]);
    assert_eq!(corpus.validation_batches(2, 2).expect("two windows")[0].rows()[..5], [10, 11, 12, 13, 14]);
    assert_eq!(corpus.tokenizer().map(|tokenizer| tokenizer.name.as_str()), Some("gpt2"));
    let error = corpus.describe().expect_err("the hashes are made up").to_string();
    assert!(
        error.contains("/t/a.npy has the sha256 ") && error.ends_with("manifest says not yet looked at"),
        "{error}"
    );
}

#[test]
fn manifests_that_cannot_be_believed_are_refused() {
    let refused =
        |change: fn(&mut Value)| first_window(&folder(change), &of_folder()).expect_err("must be refused");
    for outside in ["../a.npy", "/etc/passwd", "x/a.npy", ".."] {
        let files = folder(|manifest| manifest["training"]["shards"][0]["file"] = outside.into());
        let error = first_window(&files, &of_folder()).expect_err("outside the folder");
        assert_eq!(error, format!("t/tokens.json names `{outside}`, which is no file in its own folder"));
    }
    assert_eq!(
        refused(|manifest| manifest["version"] = 2.into()),
        "t/tokens.json is of version 2, where 1 is known"
    );
    assert_eq!(
        refused(|manifest| manifest["training"]["tokens"] = 8.into()),
        "t/tokens.json says 8 tokens for training, but its shards have 9"
    );
    // Found by reading for the fuzzer: a sample of nothing panicked.
    assert_eq!(
        refused(|manifest| {
            for part in ["training", "validation"] {
                manifest[part]["tokens"] = 0.into();
                manifest[part]["shards"] = json!([]);
            }
        }),
        "t/tokens.json names no shard"
    );
    assert_eq!(
        refused(|manifest| {
            manifest["training"]["tokens"] = 8.into();
            manifest["training"]["shards"][0]["tokens"] = 8.into();
        }),
        "t/a.npy holds 9 tokens in 146 bytes, but its manifest says 8 in 146"
    );
    assert_eq!(
        refused(|manifest| manifest["tokenizer"]["vocabulary"] = 100_000.into()),
        "t/tokens.json is of the tokenizer gpt2, which has 100000 ids, but the model's vocabulary has 50304"
    );
    assert_eq!(
        refused(|manifest| {
            manifest["validation"] = json!({ "documents": 0, "tokens": 0, "text_bytes": 0, "shards": [] });
        }),
        "t/tokens.json has no validation part"
    );
    let unknown = refused(|manifest| manifest["more"] = 1.into());
    assert!(unknown.starts_with("t/tokens.json cannot be read: unknown field `more`"), "{unknown}");
    let files = Files::new().bytes("t/tokens.json", b"{");
    let cut = first_window(&files, &of_folder()).expect_err("no JSON");
    assert!(cut.starts_with("t/tokens.json cannot be read: EOF"), "{cut}");
}

#[test]
fn what_two_tokenizers_made_is_not_read_as_one() {
    let other = |manifest: &mut Value| {
        manifest["tokenizer"] = json!({ "name": "my.json", "sha256": "def", "vocabulary": 1000 });
    };
    let files = folder(|_| {})
        .shard("u/a.npy", 0, 9)
        .shard("u/b.npy", 10, 19)
        .bytes("u/tokens.json", &manifest(other));
    let message = |place: &str| {
        format!("{place} is of the tokenizer my.json, but what stands before it in `[data]` is of gpt2")
    };
    let one_list = shards(&["t", "u"], &[], Order::Sequential);
    assert_eq!(first_window(&files, &one_list), Err(message("u/tokens.json")));
    let part = |train| MixturePart { weight: 1.0, files: list(train, None) };
    let mixture = DataConfig::Mixture { parts: vec![part("t"), part("u")], order: Order::Sequential };
    assert_eq!(first_window(&files, &mixture), Err(message("u/a.npy")));
}

#[test]
fn parts_of_a_mixture_take_turns_and_repeat_by_themselves() {
    // Ten windows of the one, three of the other.
    let files =
        Files::new().shard("web.npy", 0, 41).shard("code.npy", 1000, 1013).shard("val.npy", 2000, 2041);
    let part = |weight, train: &str, validation: &[&str]| MixturePart {
        weight,
        files: ShardList {
            train: vec![train.into()],
            validation: validation.iter().map(Into::into).collect(),
            format: None,
        },
    };
    let mixture = |order| DataConfig::Mixture {
        parts: vec![part(3.0, "web.npy", &["val.npy"]), part(1.0, "code.npy", &[])],
        order,
    };
    let none = DataConfig::Mixture { parts: Vec::new(), order: Order::Sequential };
    assert_eq!(first_window(&files, &none), Err("`data.parts` is empty".into()));
    let corpus = open(&mixture(Order::Sequential), files.path(), NEEDS).expect("two parts");
    let first_ids = |batch: engine::TokenBatch| batch.rows().chunks(5).map(|row| row[0]).collect::<Vec<_>>();
    let batch = |cursor, sequences| corpus.training_batch(0, Tokens(cursor), sequences).expect("a batch");
    assert_eq!(first_ids(batch(0, 12)), [0, 4, 1000, 8, 12, 16, 1004, 20, 24, 28, 1008, 32]);
    // Afterwards `code` begins again, and `web` has four windows left.
    assert_eq!(first_ids(batch(48, 4)), [36, 0, 1000, 4]);
    assert_eq!(first_ids(batch(20, 3)), [16, 1004, 20]);
    // Three windows of `code` last for twelve of the stream.
    assert_eq!(corpus.epochs_at(Tokens(48)), 1.0);
    // Only the first part has a validation part.
    let judged = corpus.validation_batches(5, 5).expect("ten windows");
    assert_eq!(first_ids(judged.into_iter().next().expect("one batch")), [2000, 2008, 2016, 2024, 2032]);
    // Shuffled, each part still has every window once before one comes again.
    let corpus = open(&mixture(Order::Shuffled), files.path(), NEEDS).expect("two parts");
    let mut read = first_ids(corpus.training_batch(7, Tokens(0), 12).expect("a batch"));
    read.sort_unstable();
    read.dedup();
    assert_eq!(read.len(), 12);
    assert_eq!(read[9..], [1000, 1004, 1008]);
}
