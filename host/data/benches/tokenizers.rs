//! MB/s of a tokenizer on one core, beside the crate `tokenizers` where a `tokenizer.json` of the same vocabulary is
//! named: `cargo bench -p data -- TEXT [TOKENIZER_JSON]`. `tests/golden/tokenizers/check_tiktoken.py` makes both
//! files, and puts tiktoken's number beside these.

use std::fs;
use std::time::Instant;

use data::tokenizer;

const TURNS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/pride-and-prejudice.txt");
    let path = arguments.first().map_or(own, String::as_str);
    let text = fs::read_to_string(path).expect("a text that can be read");
    time("gpt2", &text, "gpt2");
    time("bytes", &text, "bytes");
    for file in arguments.iter().skip(1) {
        time("tokenizers", &text, file);
    }
}

/// The best of some turns, each with an encoder that knows nothing.
#[allow(clippy::print_stdout)]
fn time(name: &str, text: &str, which: &str) {
    let tokenizer = tokenizer(which).expect("a tokenizer");
    let mut best = f64::INFINITY;
    let mut ids = Vec::new();
    for _ in 0..TURNS {
        ids.clear();
        let begun = Instant::now();
        let mut encoder = tokenizer.encoder();
        // Documents as a corpus has them, some kilobytes long.
        for document in documents(text) {
            encoder.encode(document, &mut ids).expect("a text");
        }
        best = best.min(begun.elapsed().as_secs_f64());
    }
    println!("{name:<12} {:>8.1} MB/s  {} tokens", text.len() as f64 / 1e6 / best, ids.len());
}

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
