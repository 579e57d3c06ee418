//! Tokens/s of batches out of shards on one core, with nanoGPT's way (numpy's memmap, windows copied to int64) as the
//! peer in the same run, where the `python3` on the path, or `PYTHON`, has numpy: `cargo bench -p data --bench loader`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use data::{Corpus, DataConfig, Needs, Order, ReadAhead, ShardList, open};
use engine::Tokens;

const CONTEXT: usize = 1024;
const SEQUENCES: usize = 16;
const BATCHES: u64 = 1000;
const TURNS: usize = 5;
const TOKENS: usize = 50_000_000;
/// One turn: tokens/s, or a share; `None` where it cannot be had.
type Measure = Box<dyn FnMut() -> Option<f64>>;
const PEER: &str = r"
import sys, time, numpy as np
path, context, sequences, batches = sys.argv[1], *map(int, sys.argv[2:5])
data = np.memmap(path, dtype=np.uint16, mode='r', offset=128)
random = np.random.default_rng(1)
begun = time.perf_counter()
for _ in range(batches):
    at = random.integers(len(data) - context - 1, size=sequences)
    x = np.stack([data[i:i + context].astype(np.int64) for i in at])
    y = np.stack([data[i + 1:i + 1 + context].astype(np.int64) for i in at])
print(batches * sequences * context / (time.perf_counter() - begun))
";

#[allow(clippy::print_stdout)]
fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shard = folder.path().join("train.npy");
    write_shard(&shard);
    let mut rows: Vec<(&str, Measure)> = vec![
        ("sequential", Box::new(reading(folder.path(), Order::Sequential))),
        ("shuffled", Box::new(reading(folder.path(), Order::Shuffled))),
        ("waiting", Box::new(waiting(folder.path()))),
        ("numpy", Box::new(move || peer(&shard))),
    ];
    let mut speeds = vec![Vec::new(); rows.len()];
    for _ in 0..TURNS {
        for ((_, measure), speeds) in rows.iter_mut().zip(&mut speeds) {
            speeds.extend(measure());
        }
    }
    println!("batches of {SEQUENCES} x {CONTEXT} out of {TOKENS} ids of two bytes, median of {TURNS} turns");
    for ((name, _), mut speeds) in rows.into_iter().zip(speeds) {
        speeds.sort_by(f64::total_cmp);
        match speeds.get(speeds.len() / 2) {
            None => println!("{name:<12} left out: no python3 with numpy"),
            Some(share) if name == "waiting" => {
                println!(
                    "{name:<12} {:.4} % of a step of 50 ms, where batches are read ahead",
                    100.0 * share
                );
            }
            Some(speed) => println!("{name:<12} {:>8.1} M tokens/s", speed / 1e6),
        }
    }
}

fn write_shard(path: &Path) {
    let mut header = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({TOKENS},), }}");
    header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.into_bytes());
    bytes.extend((0..TOKENS).flat_map(|id| ((id % 50_257) as u16).to_le_bytes()));
    fs::write(path, bytes).expect("room on the disk");
}

fn corpus(folder: &Path, order: Order) -> Corpus {
    let files = ShardList { train: vec![folder.into()], validation: Vec::new(), format: None };
    let needs = Needs { context: CONTEXT, vocabulary: 50_257 };
    open(&DataConfig::Shards { files, order }, folder, needs).expect("a shard that was just written")
}

fn cursor(batch: u64) -> Tokens {
    Tokens(batch * (SEQUENCES * CONTEXT) as u64)
}

fn reading(folder: &Path, order: Order) -> impl FnMut() -> Option<f64> + use<> {
    let corpus = corpus(folder, order);
    move || {
        let begun = Instant::now();
        for batch in 0..BATCHES {
            corpus.training_batch(1, cursor(batch), SEQUENCES).expect("a batch");
        }
        Some(cursor(BATCHES).0 as f64 / begun.elapsed().as_secs_f64())
    }
}

/// The share of a step that a run waits for its batch, where the step itself only takes its time.
fn waiting(folder: &Path) -> impl FnMut() -> Option<f64> + use<> {
    let corpus = corpus(folder, Order::Shuffled);
    move || {
        const STEPS: u64 = 50;
        const STEP_SECONDS: f64 = 0.05;
        let mut ahead = ReadAhead::new(&corpus, 1);
        let mut waited = 0.0;
        for step in 0..STEPS {
            let asked = Instant::now();
            ahead.batch(cursor(step), SEQUENCES).expect("a batch");
            waited += asked.elapsed().as_secs_f64();
            std::thread::sleep(std::time::Duration::from_secs_f64(STEP_SECONDS));
        }
        Some(waited / (STEPS as f64 * STEP_SECONDS))
    }
}

fn peer(shard: &Path) -> Option<f64> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let numbers = [CONTEXT as u64, SEQUENCES as u64, BATCHES].map(|number| number.to_string());
    let run = Command::new(python).args(["-c", PEER]).arg(shard).args(numbers).output().ok()?;
    String::from_utf8(run.stdout).ok()?.trim().parse().ok()
}
