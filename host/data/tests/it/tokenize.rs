//! Does a folder of tokens hold what the tokenizer makes of its texts, however it was made?

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use data::{
    Cut, DataConfig, Manifest, Needs, Order, Progress, Rules, Separator, TokenizeError, TokenizeOrder,
    Tokenized, open, tokenize, tokenizer,
};
use engine::Tokens;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::files::{Files, shards};

const SEPARATOR: u32 = 50_256;

fn order(files: &Files, inputs: &[&str]) -> TokenizeOrder {
    TokenizeOrder {
        inputs: inputs.iter().map(|name| files.path().join(name)).collect(),
        all_are: None,
        texts: Rules { field: "text".into(), documents: Cut::Files },
        tokenizer: "gpt2".into(),
        separator: Separator::Usual,
        validation_fraction: 0.0,
        tokens_per_shard: 100,
        skip_bad: false,
        out: files.path().join("out"),
        threads: 2,
    }
}

fn made(order: &TokenizeOrder) -> Manifest {
    match tokenize(order, &Progress::default()) {
        Ok(Tokenized::Made(manifest)) => manifest,
        other => panic!("{other:?}"),
    }
}

fn refused(files: &Files, order: &TokenizeOrder) -> String {
    let error = tokenize(order, &Progress::default()).expect_err("must be refused");
    format!("{error}\nhint: {}", error.hint()).replace(&format!("{}/", files.path().display()), "")
}

/// All training ids of the folder, by way of what a run reads.
fn ids(files: &Files, tokens: u64) -> Vec<u32> {
    let config = shards(&["out"], &[], Order::Sequential);
    let needs = Needs { context: tokens as usize - 1, vocabulary: 50_304 };
    let corpus = open(&config, files.path(), needs).expect("a folder that was just made");
    corpus.describe().expect("hashes are those of the manifest");
    corpus.training_batch(0, Tokens(0), 1).expect("one window of all").rows().to_vec()
}

fn encoded(texts: &[&str]) -> Vec<u32> {
    let gpt2 = tokenizer("gpt2").expect("it is built in");
    let mut ids = Vec::new();
    for text in texts {
        ids.push(SEPARATOR);
        gpt2.encoder().encode(text, &mut ids).expect("any text");
    }
    ids
}

fn lines(texts: &[&str]) -> Vec<u8> {
    texts
        .iter()
        .flat_map(|text| format!("{}\n", serde_json::json!({ "id": 1, "text": text })).into_bytes())
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("into memory")
}

/// A column of texts, of which `None` is null, and another column before it; so many rows a group.
fn parquet_file(texts: &[Option<&str>], rows_per_group: usize) -> Vec<u8> {
    let schema = parse_message_type("message rows { required int32 id; optional binary text (UTF8); }");
    let properties = Arc::new(WriterProperties::new());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, Arc::new(schema.expect("a schema")), properties)
        .expect("into memory");
    for rows in texts.chunks(rows_per_group) {
        let mut group = writer.next_row_group().expect("a group");
        let mut column = group.next_column().expect("a column").expect("the first");
        let ids: Vec<i32> = (0..rows.len() as i32).collect();
        column.typed::<parquet::data_type::Int32Type>().write_batch(&ids, None, None).expect("ids");
        column.close().expect("ids");
        let mut column = group.next_column().expect("a column").expect("the second");
        let levels: Vec<i16> = rows.iter().map(|text| i16::from(text.is_some())).collect();
        let values: Vec<ByteArray> = rows.iter().flatten().map(|&text| ByteArray::from(text)).collect();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).expect("texts");
        column.close().expect("texts");
        group.close().expect("a group");
    }
    writer.close().expect("into memory");
    bytes
}

const TEXTS: [&str; 5] =
    ["It is a truth", "universally", "acknowledged,\nthat", "a single man 🙂", "in possession"];

#[test]
fn every_kind_of_input_gives_the_ids_of_its_texts() {
    let jsonl = lines(&TEXTS);
    let zstd = zstd::encode_all(&jsonl[..], 1).expect("into memory");
    let rows = TEXTS.map(Some);
    let inputs: [(&str, Vec<u8>); 7] = [
        ("a.jsonl", jsonl.clone()),
        ("a.jsonl.gz", gzip(&jsonl)),
        // Two members, as `cat` makes them.
        ("a.ndjson.gz", [gzip(&lines(&TEXTS[..2])), gzip(&lines(&TEXTS[2..]))].concat()),
        ("a.jsonl.zst", zstd),
        ("a.parquet", parquet_file(&rows, 2)),
        ("a.txt", TEXTS[0].as_bytes().to_vec()),
        ("marked.jsonl", [b"\xef\xbb\xbf", &jsonl[..], b"\n \n"].concat()),
    ];
    for (name, bytes) in inputs {
        let texts = if name == "a.txt" { &TEXTS[..1] } else { &TEXTS };
        let files = Files::new().bytes(name, &bytes);
        let manifest = made(&order(&files, &[name]));
        assert_eq!(ids(&files, manifest.training.tokens), encoded(texts), "{name}");
        assert_eq!(manifest.training.documents as usize, texts.len());
        assert_eq!(manifest.training.text_bytes as usize, texts.iter().map(|text| text.len()).sum::<usize>());
        assert_eq!((manifest.tokenizer.name.as_str(), manifest.recipe.separator), ("gpt2", Some(SEPARATOR)));
    }
}

#[test]
fn folders_are_read_in_name_order_and_plain_texts_are_cut_as_asked() {
    let files = Files::new()
        .bytes("in/b.txt", b"three\nfour\n\nfive\n")
        .bytes("in/a/z.txt", b"one\r\ntwo")
        .bytes("in/notes.md", b"not a text by its name");
    for (documents, texts) in [
        (Cut::Files, &["one\r\ntwo", "three\nfour\n\nfive\n"][..]),
        (Cut::Lines, &["one", "two", "three", "four", "five"]),
        (Cut::Paragraphs, &["one\r\ntwo", "three\nfour", "five"]),
    ] {
        let mut order = order(&files, &["in"]);
        order.texts.documents = documents;
        let manifest = made(&order);
        assert_eq!(ids(&files, manifest.training.tokens), encoded(texts), "{documents:?}");
        fs::remove_dir_all(&order.out).expect("our own folder");
    }
}

/// A corpus of some 400 KB in several files, with large and small documents.
fn corpus() -> Files {
    let novel = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/pride-and-prejudice.txt"),
    );
    let novel: String = novel.expect("the quickstart's text").chars().take(200_000).collect();
    let paragraphs: Vec<&str> = novel.split("\n\n").collect();
    Files::new().bytes("in/a.jsonl", &lines(&paragraphs)).bytes("in/b.txt", novel.as_bytes()).bytes(
        "in/c.parquet",
        &parquet_file(&paragraphs.iter().map(|&text| Some(text)).collect::<Vec<_>>(), 40),
    )
}

/// Every file of a folder and its bytes.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut contents: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), path))
        .map(|(name, path)| (name, fs::read(path).expect("a file")))
        .collect();
    contents.sort();
    contents
}

#[test]
fn the_folder_is_the_same_for_any_number_of_threads() {
    let files = corpus();
    let mut order = order(&files, &["in"]);
    (order.validation_fraction, order.tokens_per_shard) = (0.1, 10_000);
    let mut folders = [1, 3].map(|threads| {
        order.threads = threads;
        order.out = files.path().join(format!("out-{threads}"));
        let manifest = made(&order);
        assert!(manifest.training.shards.len() > 10 && manifest.validation.documents > 20, "{manifest:?}");
        contents(&order.out)
    });
    let names: Vec<&String> = folders[0].iter().map(|(name, _)| name).collect();
    assert!(
        names.contains(&&"train_00000.npy".to_string()) && !names.iter().any(|name| name.contains("part"))
    );
    let second = folders[1].split_off(0);
    assert!(folders[0] == second, "two folders differ");
}

#[test]
fn the_same_text_is_always_on_the_same_side() {
    let files = corpus();
    let mut order = order(&files, &["in/a.jsonl", "in/c.parquet"]);
    (order.validation_fraction, order.tokens_per_shard) = (0.1, 1 << 20);
    let both = made(&order);
    order.inputs.pop();
    order.out = files.path().join("one");
    let one = made(&order);
    assert_eq!(both.validation.documents, 2 * one.validation.documents);
    assert_eq!(both.training.tokens, 2 * one.training.tokens);
}

#[test]
fn work_that_was_broken_off_goes_on_to_the_same_bytes() {
    let files = corpus();
    let mut order = order(&files, &["in"]);
    (order.validation_fraction, order.tokens_per_shard, order.threads) = (0.1, 3_000, 1);
    order.out = files.path().join("undisturbed");
    made(&order);
    let whole = contents(&order.out);
    order.out = files.path().join("out");
    // Where a folder stands in the way of a file, writing it fails; each time somewhere else.
    let obstacles = [
        "parts/000001.train",
        "parts/000004.json.partial",
        "parts/000007.val",
        "train_00042.npy.partial",
        "val_00003.npy",
        "tokens.json.partial",
    ];
    for obstacle in obstacles {
        let obstacle = order.out.join(obstacle);
        fs::create_dir_all(obstacle.join("x")).expect("room on the disk");
        let begun = order.out.join("parts");
        fs::create_dir_all(&begun).expect("room on the disk");
        let error = tokenize(&order, &Progress::default()).expect_err(&format!("{obstacle:?} is in the way"));
        assert!(matches!(error, TokenizeError::Write { .. }), "{obstacle:?}: {error}");
        assert!(!order.out.join("tokens.json").exists());
        fs::remove_dir_all(&obstacle).expect("our own folder");
    }
    made(&order);
    assert!(contents(&order.out) == whole, "the folders differ");
    fs::create_dir(order.out.join("parts")).expect("as a crash leaves it behind the manifest");
    assert!(matches!(tokenize(&order, &Progress::default()), Ok(Tokenized::WasThere(_))));
    assert!(contents(&order.out) == whole, "something was left behind");
    order.tokens_per_shard = 4_000;
    assert_eq!(
        refused(&files, &order),
        "out holds tokens that were made otherwise: with shards of another size\n\
         hint: name another folder in `--out`, or remove this one"
    );
}

#[test]
fn documents_that_cannot_be_read_are_told_with_their_place_or_left_out() {
    let good = lines(&["good"]);
    let line = |bad: &[u8]| [&good[..], &good, bad, b"\n", &good].concat();
    let null = parquet_file(&[Some("good"), Some("good"), None, Some("good")], 2);
    let cases: [(&str, Vec<u8>, &str); 5] = [
        (
            "a.jsonl",
            line(b"{"),
            "line 3 of a.jsonl is no JSON object with a text `text`: EOF while parsing an object at column 1",
        ),
        ("a.jsonl", line(br#"{"body": "x"}"#), "line 3 of a.jsonl has no `text`"),
        (
            "a.jsonl.gz",
            gzip(&line(b"{\"text\": \"\xff\"}")),
            "line 3 of a.jsonl.gz is no JSON object with a text `text`: invalid unicode code point at column 11",
        ),
        ("a.parquet", null, "row 3 of a.parquet has no text (null)"),
        ("a.txt", b"caf\xe9".to_vec(), "byte 3 of a.txt is not UTF-8"),
    ];
    for (name, bytes, message) in cases {
        let files = Files::new().bytes(name, &bytes).bytes("other.txt", b"good");
        let mut order = order(&files, &[name, "other.txt"]);
        let hint = "hint: mend it, or leave such documents out and have them counted: `--skip-bad`";
        assert_eq!(refused(&files, &order), format!("{message}\n{hint}"));
        (order.skip_bad, order.out) = (true, files.path().join("skipped"));
        let manifest = made(&order);
        assert_eq!(manifest.skipped_documents, 1, "{name}");
        assert_eq!(manifest.training.documents, if name == "a.txt" { 1 } else { 4 }, "{name}");
    }
}

#[test]
fn inputs_that_are_damaged_or_not_what_they_are_called_are_refused() {
    let jsonl = lines(&TEXTS);
    let parquet = parquet_file(&TEXTS.map(Some), 2);
    let (gz, zst) = (gzip(&jsonl), zstd::encode_all(&jsonl[..], 1).expect("into memory"));
    let files = Files::new()
        .bytes("cut.jsonl.gz", &gz[..gz.len() / 2])
        .bytes("cut.jsonl.zst", &zst[..zst.len() / 2])
        .bytes("cut.parquet", &parquet[..parquet.len() / 2])
        .bytes("text.jsonl.gz", &jsonl)
        .bytes("text.jsonl.zst", &jsonl)
        .bytes("text.parquet", &jsonl)
        .bytes("other.parquet", &parquet)
        .bytes("empty.jsonl", b"")
        .bytes("blank.jsonl", b"\n\n")
        .bytes("notes", b"text")
        .bytes("folder/notes", b"text");
    let first_line = |name: &str, change: fn(&mut TokenizeOrder)| {
        let mut order = order(&files, &[name]);
        change(&mut order);
        let told = refused(&files, &order);
        let _ = fs::remove_dir_all(&order.out);
        told.lines().next().expect("a message").to_owned()
    };
    let plain = |name| first_line(name, |_| {});
    assert_eq!(plain("no.txt"), "no.txt does not exist");
    assert_eq!(plain("empty.jsonl"), "empty.jsonl is empty");
    assert_eq!(plain("blank.jsonl"), "0 documents are for training and 0 for validation");
    assert_eq!(plain("notes"), "notes is of no known kind");
    assert_eq!(plain("folder"), "folder holds no text");
    assert_eq!(plain("text.jsonl.gz"), "text.jsonl.gz cannot be read: invalid gzip header");
    assert_eq!(plain("text.jsonl.zst"), "text.jsonl.zst cannot be read: Unknown frame descriptor");
    assert!(plain("text.parquet").starts_with("text.parquet cannot be read: Parquet error: "));
    assert!(plain("cut.parquet").starts_with("cut.parquet cannot be read: Parquet error: "));
    assert!(plain("cut.jsonl.gz").starts_with("cut.jsonl.gz cannot be read: "));
    assert_eq!(plain("cut.jsonl.zst"), "cut.jsonl.zst cannot be read: incomplete frame");
    assert_eq!(
        first_line("other.parquet", |order| order.texts.field = "body".into()),
        "other.parquet has no column of texts `body`; it has `id`, `text`"
    );
    assert_eq!(
        first_line("folder/notes", |order| order.validation_fraction = 1.0),
        "the share of validation is 1, but has to be at least 0 and less than 1"
    );
    assert_eq!(
        first_line("folder/notes", |order| {
            order.all_are = Some(data::Kind::Text);
            order.separator = Separator::Token("<eot>".into());
        }),
        "the tokenizer gpt2 has no token `<eot>`"
    );
    assert_eq!(
        first_line("folder/notes", |order| order.tokenizer = "gpt3".into()),
        "there is no tokenizer `gpt3`"
    );
    let mut order = order(&files, &["other.parquet"]);
    order.out = files.path().join("folder");
    assert_eq!(
        refused(&files, &order),
        "folder holds other files, such as notes\nhint: name a new or an empty folder in `--out`"
    );
}

#[test]
fn wide_vocabularies_are_written_wide() {
    let files = Files::new().bytes("a.txt", b"aab");
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": { "a": 1, "b": 70_000 }, "merges": [] },
    });
    let files = files.bytes("wide.json", json.to_string().as_bytes());
    let mut order = order(&files, &["a.txt"]);
    order.tokenizer = files.path().join("wide.json").display().to_string();
    let manifest = made(&order);
    assert_eq!((manifest.tokenizer.vocabulary, manifest.recipe.separator), (70_001, None));
    let config = shards(&["out"], &[], Order::Sequential);
    let read = |vocabulary| open(&config, files.path(), Needs { context: 2, vocabulary });
    let corpus = read(70_001).expect("a model with so many ids");
    assert_eq!(corpus.training_batch(0, Tokens(0), 1).expect("three ids").rows(), [1, 1, 70_000]);
    let error = read(50_304).expect_err("too few").to_string();
    assert!(error.ends_with("which has 70001 ids, but the model's vocabulary has 50304"), "{error}");
    assert!(matches!(config, DataConfig::Shards { .. }));
}

/// `parquet` makes room for as many strings as a page says, and ends the process where there is none.
#[test]
fn a_page_that_claims_more_strings_than_it_holds_is_refused() {
    let schema = parse_message_type("message rows { required binary text (UTF8); }").expect("a schema");
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_encoding(parquet::basic::Encoding::DELTA_LENGTH_BYTE_ARRAY);
    let mut good = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut good, Arc::new(schema), Arc::new(properties.build())).expect("memory");
    let mut group = writer.next_row_group().expect("a group");
    let mut column = group.next_column().expect("a column").expect("the first");
    let values = TEXTS.map(ByteArray::from);
    column.typed::<ByteArrayType>().write_batch(&values, None, None).expect("texts");
    column.close().expect("texts");
    group.close().expect("a group");
    writer.close().expect("into memory");

    let files = Files::new().bytes("good.parquet", &good);
    let manifest = made(&order(&files, &["good.parquet"]));
    assert_eq!(ids(&files, manifest.training.tokens), encoded(&TEXTS));

    // The header of the list of lengths: blocks of 128, 4 in each, five numbers. It becomes one of 127 * 128 numbers.
    let header = [0x80, 0x01, 0x04, 0x05];
    let at = good.windows(4).position(|window| window == header).expect("a list of lengths");
    good.splice(at + 3..at + 5, [0xff, 0x7f]);
    let files = Files::new().bytes("claims.parquet", &good);
    let told = refused(&files, &order(&files, &["claims.parquet"]));
    assert!(
        told.contains("claims.parquet cannot be read: ") && told.contains("claims more values"),
        "{told}"
    );
}
