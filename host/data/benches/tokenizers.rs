//! MB/s of tokenizers on one core, with their peers in the same run: `cargo bench -p data --bench tokenizers [-- TEXT]`.
//! The peers are the crates `tokenizers` and `tiktoken-rs` with GPT-2's vocabulary; Python's tiktoken stands beside
//! them in `tests/golden/tokenizers/check_tiktoken.py`.

use std::fs;
use std::time::Instant;

use data::{Tokenizer, tokenizer};

const TURNS: usize = 5;

#[allow(clippy::print_stdout)]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/pride-and-prejudice.txt");
    let path = arguments.first().map_or(own, String::as_str);
    let text = fs::read_to_string(path).expect("a text that can be read");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = folder.path().join("gpt2.json");
    fs::write(&json, tokenizer("gpt2").expect("it is built in").file()).expect("room on the disk");
    let by_crate = tokenizer(json.to_str().expect("a temporary folder's name")).expect("a tokenizer");
    let tiktoken = tiktoken_rs::r50k_base().expect("it is built in");
    let (gpt2, bytes) =
        (tokenizer("gpt2").expect("it is built in"), tokenizer("bytes").expect("it is built in"));
    let mut rows: Vec<(&str, Encode<'_>, Vec<f64>, usize)> = vec![
        ("gpt2", Box::new(encoding(&*gpt2)), Vec::new(), 0),
        ("tiktoken-rs", Box::new(move |text, ids| ids.extend(tiktoken.encode_ordinary(text))), Vec::new(), 0),
        ("tokenizers", Box::new(encoding(&*by_crate)), Vec::new(), 0),
        ("bytes", Box::new(encoding(&*bytes)), Vec::new(), 0),
    ];
    // In turn, so that a machine that is busy for a while is busy for all.
    for _ in 0..TURNS {
        for (_, encode, speeds, tokens) in &mut rows {
            let mut ids = Vec::new();
            let begun = Instant::now();
            documents(&text).for_each(|document| encode(document, &mut ids));
            speeds.push(text.len() as f64 / 1e6 / begun.elapsed().as_secs_f64());
            *tokens = ids.len();
        }
    }
    println!("{path}: {:.1} MB, median of {TURNS} turns", text.len() as f64 / 1e6);
    let median = |speeds: &[f64]| {
        let mut sorted = speeds.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[TURNS / 2]
    };
    let own = median(&rows[0].2);
    for (name, _, speeds, tokens) in &rows {
        let speed = median(speeds);
        println!("{name:<12} {speed:>8.1} MB/s {tokens:>10} tokens   gpt2 is {:.2}x as fast", own / speed);
    }
}

/// Appends the ids of a text.
type Encode<'a> = Box<dyn FnMut(&str, &mut Vec<u32>) + 'a>;

/// With an encoder that keeps what it has learnt of words, as a thread of `sapwood data tokenize` does.
fn encoding(tokenizer: &dyn Tokenizer) -> impl FnMut(&str, &mut Vec<u32>) {
    let mut encoder = tokenizer.encoder();
    move |text, ids| encoder.encode(text, ids).expect("a text")
}

/// As a corpus has them, some kilobytes long.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(4096);
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        let (document, after) = rest.split_at(end);
        rest = after;
        Some(document)
    })
}
