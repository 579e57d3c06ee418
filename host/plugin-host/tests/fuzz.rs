//! Whatever bytes lie in a plugin folder, looking at them is safe: facts or a refusal, never a panic, never much
//! memory, never any of their code run.
//!
//! Each case is a seed: a real library with bytes changed, cut, doubled or put together anew, or no library at all.
//! `SAPWOOD_FUZZ_SECONDS=600 cargo test --release -p plugin-host --test fuzz` looks for ten minutes; a seed that it
//! names is tried alone with `SAPWOOD_FUZZ_SEED`, and kept in [`KEPT`] once it is mended.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plugin_host::api::host::{check_facts, read_facts};
use plugin_host::api::{Key, Random};

/// Seeds that have found something once; none so far.
const KEPT: [u64; 0] = [];
const FIRST: u64 = 1;
const USUAL_CASES: u64 = 400;

/// A library of ours: this test's own binary has no facts, so the plugins that lie beside it are taken.
fn libraries() -> Vec<Vec<u8>> {
    let test = std::env::current_exe().expect("a running test has a file");
    let folders = test.ancestors().skip(1).take(2);
    let mut files: Vec<PathBuf> = folders
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION))
        .filter(|path| read_facts(path).is_ok())
        .collect();
    files.sort();
    files.truncate(3);
    files.iter().map(|path| std::fs::read(path).expect("it was just read")).collect()
}

/// Where the facts stand in a library, so that changes hit what is read.
fn facts_at(library: &[u8]) -> usize {
    let head = b"{\"format\"";
    library.windows(head.len()).position(|window| window == head).unwrap_or(library.len() / 2)
}

fn case(seed: u64, libraries: &[Vec<u8>]) -> Vec<u8> {
    let mut random = Random::new(Key::of_seed(seed).named("loader"));
    let mut below = |end: usize| random.below(end.max(1) as u64) as usize;
    if libraries.is_empty() || below(8) == 0 {
        let len = below(5000);
        return (0..len).map(|_| below(256) as u8).collect();
    }
    let mut bytes = libraries[below(libraries.len())].clone();
    for _ in 0..=below(6) {
        // Headers, the facts, section tables at the end, or anywhere.
        let around = [0, facts_at(&bytes), bytes.len().saturating_sub(4096), below(bytes.len())][below(4)];
        let at = (around + below(600)).min(bytes.len().saturating_sub(1));
        match below(7) {
            0 | 1 => bytes[at] ^= 1 << below(8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'{', b'"', b'0'][below(8)],
            3 => bytes.truncate(at),
            4 => {
                let end = (at + below(64)).min(bytes.len());
                bytes[at..end].fill(0xff);
            }
            5 => {
                let piece = bytes[at..(at + below(3000)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = &libraries[below(libraries.len())];
                let from = below(other.len());
                let piece = other[from..(from + below(3000)).min(other.len())].to_vec();
                let end = (at + piece.len()).min(bytes.len());
                bytes.splice(at..end, piece);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Looks at a case as the host does.
fn check(seed: u64, libraries: &[Vec<u8>], file: &Path) {
    std::fs::write(file, case(seed, libraries)).expect("room for a library");
    let begun = Instant::now();
    match read_facts(file) {
        Ok(facts) => drop(check_facts(&facts)),
        Err(refusal) => {
            assert!(
                !refusal.reason.is_empty() && !refusal.hint.is_empty(),
                "seed {seed} is refused without a word"
            );
            assert!(
                refusal.reason.len() < 2000,
                "seed {seed} is refused with {} bytes",
                refusal.reason.len()
            );
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "seed {seed} took {:?}", begun.elapsed());
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_lies_in_a_plugin_folder_looking_at_it_is_safe() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("case.so");
    let libraries = libraries();
    if let Some(seed) = from_environment("SAPWOOD_FUZZ_SEED") {
        return check(seed, &libraries, &file);
    }
    let seconds = from_environment("SAPWOOD_FUZZ_SECONDS").map(Duration::from_secs);
    let (begun, mut seed) = (Instant::now(), FIRST);
    while seconds.map_or(seed < FIRST + USUAL_CASES, |seconds| begun.elapsed() < seconds) {
        let checked = catch_unwind(|| check(seed, &libraries, &file));
        assert!(checked.is_ok(), "seed {seed} of the loader, with {} libraries", libraries.len());
        seed += 1;
    }
    KEPT.into_iter().for_each(|seed| check(seed, &libraries, &file));
    report(seed - FIRST, libraries.len());
}

#[expect(clippy::print_stdout, reason = "shown with --nocapture: how much was tried")]
fn report(cases: u64, libraries: usize) {
    println!("{cases} cases on {libraries} libraries, seeds {FIRST} to {}", FIRST + cases - 1);
}
