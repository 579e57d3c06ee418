//! Token files: `.npy`, llm.c's `.bin`, raw ids, folders with and without a manifest, recorded batches.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use data::{
    Cut, DataConfig, DataError, Format, Needs, Order, Progress, Rules, Separator, ShardList, TokenFiles,
    TokenizeOrder, open, tokenize,
};
use engine::Tokens;

use super::damage::{Dice, check_told, search};

/// Seeds that have found something once.
const KEPT: [u64; 0] = [];

const WORDS: [&str; 8] = [
    "train_00000.npy",
    "val_00000.npy",
    "../outside.npy",
    "tokens.json",
    "sapwood-tokens",
    "bytes",
    "paragraphs",
    "file",
];

const NEEDS: Needs = Needs { context: 4, vocabulary: 256 };

/// Good files of one kind, and how a run is told of them.
#[derive(Clone)]
struct Kind {
    files: Vec<(&'static str, Vec<u8>)>,
    config: DataConfig,
}

fn npy(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let mut file = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    file.extend(format!("{dict:<117}\n").into_bytes());
    [file, bytes.to_vec()].concat()
}

fn two(ids: impl Iterator<Item = u16>) -> Vec<u8> {
    ids.flat_map(u16::to_le_bytes).collect()
}

fn four(ids: impl Iterator<Item = u32>) -> Vec<u8> {
    ids.flat_map(u32::to_le_bytes).collect()
}

fn llm_c(magic: u32, version: u32, tokens: u32, bytes: &[u8]) -> Vec<u8> {
    let mut words = [0_u32; 256];
    words[..3].copy_from_slice(&[magic, version, tokens]);
    [four(words.into_iter()), bytes.to_vec()].concat()
}

fn shards(train: &str, validation: &str, format: Option<Format>, order: Order) -> DataConfig {
    let paths = |name: &str| vec![PathBuf::from(name)];
    let files = ShardList { train: paths(train), validation: paths(validation), format };
    DataConfig::Shards { files, order }
}

/// A folder that was made of texts.
fn made() -> Vec<(&'static str, Vec<u8>)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text: String = (0..60).map(|i| format!("paragraph {i} of some\n\n")).collect();
    fs::write(folder.path().join("a.txt"), text).expect("room");
    let order = TokenizeOrder {
        inputs: vec![folder.path().join("a.txt")],
        all_are: None,
        texts: Rules { field: "text".into(), documents: Cut::Paragraphs },
        tokenizer: "bytes".into(),
        separator: Separator::None,
        validation_fraction: 0.3,
        tokens_per_shard: 500,
        skip_bad: false,
        out: folder.path().join("out"),
        threads: 1,
    };
    tokenize(&order, &Progress::default()).expect("good texts");
    let names = ["train_00000.npy", "train_00001.npy", "val_00000.npy", "tokens.json"];
    let read = |name| (name, fs::read(order.out.join(name)).expect("it was just made"));
    names.map(read).into_iter().collect()
}

fn kinds() -> Vec<Kind> {
    let ids = |first: u16| two((first..).take(60).map(|id| id % 256));
    let wide = |first: u32| four((first..).take(60).map(|id| id % 256));
    let named = |names: [&'static str; 2], bytes: [Vec<u8>; 2]| names.into_iter().zip(bytes).collect();
    let files = ["a.npy", "b.npy"];
    let bins = ["a.bin", "b.bin"];
    let plain = |names: [&'static str; 2], bytes, format| Kind {
        files: named(names, bytes),
        config: shards(names[0], names[1], format, Order::Shuffled),
    };
    let batches = two((0..3 * 2 * 5).map(|id| id % 256));
    let recorded = vec![
        ("batches.npy", npy("<u2", "(3, 2, 5)", &batches)),
        ("eval.npy", npy("<u2", "(4, 5)", &two(0..20))),
    ];
    let folder = named(
        ["train_0.npy", "val_0.bin"],
        [npy("<u2", "(60,)", &ids(0)), llm_c(20_240_520, 1, 60, &ids(7))],
    );
    vec![
        plain(files, [npy("<u2", "(60,)", &ids(0)), npy("<u2", "(60,)", &ids(100))], None),
        plain(files, [npy("<u4", "(60,)", &wide(0)), npy("<u4", "(60,)", &wide(100))], None),
        plain(bins, [llm_c(20_240_520, 1, 60, &ids(0)), llm_c(20_240_520, 1, 60, &ids(9))], None),
        plain(bins, [llm_c(20_240_801, 7, 60, &wide(0)), llm_c(20_240_801, 7, 60, &wide(9))], None),
        plain(bins, [ids(0), ids(9)], Some(Format::RawUint16)),
        plain(bins, [wide(0), wide(9)], Some(Format::RawUint32)),
        Kind { files: folder, config: shards("", "", None, Order::Sequential) },
        Kind { files: recorded, config: DataConfig::Recorded { folder: "".into() } },
        Kind { files: made(), config: shards("", "", None, Order::Shuffled) },
        // Twice as likely: most of it is in JSON.
        Kind { files: made(), config: shards("", "", None, Order::Sequential) },
    ]
}

/// Reads the files as a run does, and as who looks at them does.
fn check(seed: u64, kinds: &[Kind]) {
    let mut dice = Dice::new(seed);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Kind { mut files, config } = dice.one_of(kinds);
    for _ in 0..=dice.below(2) {
        let at = dice.below(files.len());
        let (name, bytes) = &mut files[at];
        if name.ends_with(".json") && serde_json::from_slice::<serde_json::Value>(bytes).is_ok() {
            dice.json(bytes, &WORDS);
        } else {
            dice.bytes(bytes);
        }
    }
    for (name, bytes) in &files {
        fs::write(folder.path().join(name), bytes).expect("room for a small file");
    }
    let told = |error: DataError| check_told(seed, folder.path(), &error.to_string(), &error.hint());
    if let Err(error) = run(&config, folder.path(), seed) {
        told(error);
    }
    let format = match &config {
        DataConfig::Shards { files, .. } => files.format,
        _ => None,
    };
    let path = folder.path().join(if files.len() == 2 && dice.below(2) == 0 { files[0].0 } else { "" });
    let look = || TokenFiles::at(&path, format);
    match look() {
        Err(error) => told(error),
        Ok(files) => {
            let _ = files.bytes();
            files.facts().map_or_else(told, drop);
            for checked in look().expect("it was there").verify(None, &AtomicU64::new(0)) {
                let damage = checked.damage.unwrap_or_else(|| checked.path.display().to_string());
                check_told(seed, folder.path(), &damage, "is the command's");
            }
            look().expect("it was there").sample(3, 10, seed).map_or_else(told, drop);
        }
    }
}

fn run(config: &DataConfig, base: &Path, seed: u64) -> Result<(), DataError> {
    let corpus = open(config, base, NEEDS)?;
    // One part may be bad and the others good: what is asked first must not hide what is asked later.
    let described = corpus.describe().map(drop);
    let mut read = Ok(());
    for step in 0..4 {
        read = read.and(corpus.training_batch(seed, Tokens(8 * step), 2).map(drop));
    }
    let judged = corpus.validation_batches(4, 2).map(drop);
    let _ = corpus.epochs_at(Tokens(1000));
    described.and(read).and(judged)
}

#[test]
fn whatever_lies_in_a_file_of_tokens_reading_it_is_safe() {
    let kinds = kinds();
    search("token-files", &KEPT, 600, |seed| check(seed, &kinds));
}
