//! Texts: plain, JSON lines, compressed, Parquet; and the work on them broken off, its own files damaged, and gone on with.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data::{Cut, Progress, Rules, Separator, TokenizeError, TokenizeOrder, tokenize};
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::damage::{Dice, check_told, search};

/// Seeds that have found something once.
const KEPT: [u64; 3] = [1074, 2428, 20_149];

const WORDS: [&str; 6] = ["text", "sides", "tokens", "unit", "train_00000.npy", "tokens.json"];

fn texts() -> Vec<String> {
    (0..40).map(|i| format!("paragraph {} is \u{1f332} of {i}", i % 7)).collect()
}

fn parquet(rows_per_group: usize, properties: WriterProperties) -> Vec<u8> {
    let schema = parse_message_type("message rows { required int32 id; optional binary text (UTF8); }");
    let mut bytes = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut bytes, Arc::new(schema.expect("a schema")), Arc::new(properties))
            .expect("into memory");
    for (number, rows) in texts().chunks(rows_per_group).enumerate() {
        let mut group = writer.next_row_group().expect("a group");
        let mut column = group.next_column().expect("a column").expect("the first");
        let ids: Vec<i32> = (0..rows.len() as i32).collect();
        column.typed::<Int32Type>().write_batch(&ids, None, None).expect("ids");
        column.close().expect("ids");
        let mut column = group.next_column().expect("a column").expect("the second");
        // Every group but the first has a null.
        let levels: Vec<i16> = (0..rows.len()).map(|row| i16::from(number == 0 || row != 1)).collect();
        let there = rows.iter().zip(&levels).filter(|(_, level)| **level == 1);
        let values: Vec<ByteArray> = there.map(|(text, _)| ByteArray::from(text.as_str())).collect();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).expect("texts");
        column.close().expect("texts");
        group.close().expect("a group");
    }
    writer.close().expect("into memory");
    bytes
}

fn parquets() -> Vec<Vec<u8>> {
    let plain = || WriterProperties::builder().set_dictionary_enabled(false);
    let zstd = Compression::ZSTD(Default::default());
    let gzip = Compression::GZIP(Default::default());
    let second = WriterVersion::PARQUET_2_0;
    vec![
        parquet(20, WriterProperties::builder().build()),
        parquet(10, WriterProperties::builder().set_compression(Compression::SNAPPY).build()),
        parquet(40, WriterProperties::builder().set_compression(zstd).set_writer_version(second).build()),
        parquet(
            20,
            plain().set_compression(gzip).set_data_page_row_count_limit(7).set_write_batch_size(7).build(),
        ),
        parquet(
            20,
            plain()
                .set_column_encoding("text".into(), Encoding::DELTA_BYTE_ARRAY)
                .set_writer_version(second)
                .build(),
        ),
        parquet(
            20,
            plain()
                .set_column_encoding("text".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
                .set_compression(zstd)
                .build(),
        ),
        parquet(20, plain().set_column_encoding("text".into(), Encoding::PLAIN).build()),
    ]
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let line = |text: &String| format!("{}\n", serde_json::json!({ "id": [1, { "a": null }], "text": text }));
    let jsonl: Vec<u8> = texts().iter().map(line).collect::<String>().into_bytes();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("into memory")
    };
    let zstd = zstd::encode_all(&jsonl[..], 1).expect("into memory");
    let mut files = vec![
        ("a.txt", texts().join("\n\n").into_bytes()),
        ("a.jsonl.gz", gzip(&jsonl)),
        ("a.jsonl.zst", zstd),
        ("a.txt.gz", gzip(texts().join("\n\n").as_bytes())),
        ("a.jsonl", jsonl),
    ];
    files.extend(parquets().into_iter().map(|bytes| ("a.parquet", bytes)));
    files
}

/// Makes tokens of a damaged file, twice; and once more where the work itself has been damaged.
fn check(seed: u64, files: &[(&'static str, Vec<u8>)]) {
    let mut dice = Dice::new(seed);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (name, mut bytes) = dice.one_of(files);
    let is_damaged = dice.below(8) > 0;
    if is_damaged {
        dice.bytes(&mut bytes);
    }
    fs::write(folder.path().join(name), &bytes).expect("room for a small file");
    fs::write(folder.path().join("good.txt"), "one\n\ntwo\n\nthree\n\nfour").expect("room");
    let order = TokenizeOrder {
        inputs: [name, "good.txt"].map(|name| folder.path().join(name)).into(),
        all_are: None,
        texts: Rules {
            field: "text".into(),
            documents: dice.one_of(&[Cut::Files, Cut::Lines, Cut::Paragraphs]),
        },
        tokenizer: "bytes".into(),
        separator: Separator::None,
        validation_fraction: dice.one_of(&[0.0, 0.3]),
        tokens_per_shard: dice.one_of(&[50, 1 << 20]),
        skip_bad: dice.below(2) == 0,
        out: folder.path().join("out"),
        threads: 1 + dice.below(2),
    };
    let work = || {
        let ended = tokenize(&order, &Progress::default());
        if let Err(error) = &ended {
            told(seed, folder.path(), error);
        }
        ended.map_err(|error| error.to_string()).map(drop)
    };
    let ended = work();
    let is_unrefused = ended.is_ok() || !order.skip_bad || order.validation_fraction > 0.0;
    assert!(is_damaged || is_unrefused, "seed {seed}, a good {name}: {ended:?}");
    assert_eq!(ended, work(), "seed {seed} ends once like this, once like that");
    let left = [files_in(&order.out), files_in(&order.out.join("parts"))].concat();
    if left.is_empty() {
        return;
    }
    let path = dice.one_of(&left);
    let mut bytes = fs::read(&path).expect("it is there");
    if serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|value| value.is_object()) {
        dice.json(&mut bytes, &WORDS);
    } else {
        dice.bytes(&mut bytes);
    }
    fs::write(&path, bytes).expect("room for a small file");
    let _ = work();
}

fn told(seed: u64, folder: &Path, error: &TokenizeError) {
    match error {
        // Nothing is wrong with any file, taken alone.
        TokenizeError::EmptyPart { .. } => assert!(!error.hint().is_empty(), "seed {seed}"),
        _ => check_told(seed, folder, &error.to_string(), &error.hint()),
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

#[test]
fn whatever_lies_in_a_file_of_texts_reading_it_is_safe() {
    let files = files();
    search("texts", &KEPT, 200, |seed| check(seed, &files));
}
