//! Whatever bytes lie in a plugin folder, looking at them is safe: facts or a refusal, never a panic, never much
//! memory, never any of their code run. The same of packs with their manifests, and of `plugins.lock`.
//!
//! Each case is a seed: a real library with bytes changed, cut, doubled or put together anew, or no library at all.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use plugin_host::api::host::{check_facts, read_facts};
use plugin_host::api::{Key, Random};
use plugin_host::{PluginLock, pack};
use sha2::{Digest, Sha256};

use damage::{Dice, check_told, search};

#[path = "../../../tests/fuzz/damage.rs"]
mod damage;

/// Seeds that have found something once; none so far.
const KEPT: [u64; 0] = [];
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
}

#[test]
fn whatever_lies_in_a_plugin_folder_looking_at_it_is_safe() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("case.so");
    let libraries = libraries();
    search("libraries", &KEPT, USUAL_CASES, |seed| check(seed, &libraries, &file));
}

const WORDS: [&str; 8] = [
    "x86_64-unknown-linux-gnu",
    "../../lib.so",
    "libother.so",
    "2.34",
    "strategy",
    "pack.json",
    "sapwood/baseline",
    "format",
];

/// The files of a tar, by name.
type Files = Vec<(String, Vec<u8>)>;

/// Of a pack that `pack` has made of the first library, as if it were a small one.
fn packed(library: &Path, folder: &Path) -> Files {
    let made = folder.join("good.sapwood-pack");
    pack::pack(&[library.to_path_buf()], &made).expect("a library of ours");
    let mut archive =
        tar::Archive::new(GzDecoder::new(std::fs::File::open(&made).expect("it was just made")));
    let entries = archive.entries().expect("a tar").map(|entry| entry.expect("an entry"));
    let file = |mut entry: tar::Entry<'_, _>| {
        let name = entry.path().expect("a name").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("what was written");
        (name, bytes)
    };
    entries.map(file).collect()
}

fn tarred(files: &Files) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes.as_slice()).expect("into memory");
    }
    tar.into_inner().expect("into memory")
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("into memory");
    packed.finish().expect("into memory")
}

fn sha256_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Damages the manifest as JSON, the tar, or what is compressed; packed anew, so that no checksum hides it.
fn damaged_pack(dice: &mut Dice, files: &Files) -> Vec<u8> {
    let mut files = files.clone();
    match dice.below(4) {
        0 => files.reverse(),
        1 => {}
        _ => dice.json(&mut files[0].1, &WORDS),
    }
    let mut bytes = tarred(&files);
    if dice.below(2) == 0 {
        dice.bytes(&mut bytes);
        // Headers have checksums of their own, which an author of rubbish would set right.
        if let Some(header) = bytes.first_chunk_mut::<512>() {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let mut packed = compressed(&bytes);
    if dice.below(6) == 0 {
        dice.bytes(&mut packed);
    }
    packed
}

#[test]
fn whatever_lies_in_a_pack_it_is_unpacked_or_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let test = std::env::current_exe().expect("a running test has a file");
    let plugins = test
        .ancestors()
        .skip(1)
        .take(2)
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let library = plugins.map(|entry| entry.path()).find(|path| read_facts(path).is_ok());
    let Some(library) = library else { return };
    let mut files = packed(&library, folder.path());
    // The bytes of a library mean nothing here, but for their hash.
    let whole = sha256_of(&files[1].1);
    files[1].1.truncate(2000);
    let manifest = String::from_utf8(files[0].1.clone()).expect("it is JSON");
    files[0].1 = manifest.replace(&whole, &sha256_of(&files[1].1)).into_bytes();
    let file = folder.path().join("case.sapwood-pack");
    let to = folder.path().join("to");
    std::fs::create_dir_all(&to).expect("room");
    std::fs::write(&file, compressed(&tarred(&files))).expect("room");
    pack::unpack(&file, &to).expect("it is good before it is damaged");
    search("packs", &[], USUAL_CASES, |seed| {
        let mut dice = Dice::new(seed);
        std::fs::write(&file, damaged_pack(&mut dice, &files)).expect("room");
        let told = |error: plugin_host::PluginError| {
            check_told(seed, folder.path(), &error.to_string(), &error.hint())
        };
        pack::read(&file).map_or_else(told, drop);
        pack::unpack(&file, &to).map_or_else(told, drop);
        let outside: Vec<PathBuf> = std::fs::read_dir(folder.path())
            .expect("it is there")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(outside.len() <= 3, "seed {seed} has put something elsewhere: {outside:?}");
    });
}

#[test]
fn whatever_lies_in_a_lock_it_is_one_or_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("plugins.lock");
    let good = serde_json::json!({ "format": 1, "plugins": [
        { "kind": "strategy", "id": "sapwood/baseline", "version": "1.0.0", "sha256": "00".repeat(32) },
        { "kind": "initializer", "id": "sapwood/copy", "version": "1.0.0", "sha256": "11".repeat(32) },
    ] });
    search("locks", &[], USUAL_CASES, |seed| {
        let mut dice = Dice::new(seed);
        let mut bytes = good.to_string().into_bytes();
        dice.json(&mut bytes, &WORDS);
        std::fs::write(&file, bytes).expect("room");
        match PluginLock::read(&file) {
            Ok(lock) => lock.write(&file).expect("room"),
            Err(error) => check_told(seed, folder.path(), &error.to_string(), &error.hint()),
        }
    });
}
