//! Whatever lies in a suite's file, it is asked or refused by an error that names the file: no panic, no case without
//! end. Each case is a seed.

use std::fs;
use std::sync::atomic::AtomicBool;

use engine::LayerId;
use engine_native::Cpu;
use inference::suites::{Lambada, MultipleChoice, Reader, Texts};
use inference::{Bytes, InferenceError, Model};

use damage::{Dice, check_told, search};

#[path = "../../../tests/fuzz/damage.rs"]
mod damage;

/// Seeds that have found something once.
const KEPT: [u64; 0] = [];

const WORDS: [&str; 5] = ["ctx", "endings", "label", "text", "\u{2003}"];

/// Lines of every kind, and some that have more than they need.
const LINES: [&str; 6] = [
    r#"{"ctx": "a man sits", "endings": ["on a chair", "under", "and\nruns.", "up"], "label": 2, "ind": 24}"#,
    r#"{"ctx": [1, 2, 3], "endings": [[4, 5], [6]], "label": 0}"#,
    r#"{"ctx": "a context that is longer than what the model reads", "endings": ["one", "two"], "label": 1}"#,
    r#"{"text": "the last word of this is here"}"#,
    r#"{"text": "🌲 café, and so on and on and on and on and on"}"#,
    r#"{"text": [7, 8, 9, 255]}"#,
];

fn model() -> Model<Cpu> {
    let shape =
        engine::ModelShape { vocabulary: 256, context: 24, layers: 1, ..engine::contract::tiny_shape() };
    let name = |layer: Option<LayerId>, class: &dyn std::fmt::Display| match layer {
        None => format!("transformer.{class}"),
        Some(layer) => format!("transformer.h.{}.{class}", layer.0),
    };
    let tensors = shape.tensors(&[LayerId(0)]).into_iter().enumerate().map(|(number, (tensor, spec))| {
        let values = engine::contract::varied_weights(spec.len(), number as u64);
        (name(tensor.layer, &tensor.class), values)
    });
    Model::new(Cpu::new(), &shape, tensors.collect()).expect("all tensors")
}

fn check(seed: u64, model: &Model<Cpu>) {
    let mut dice = Dice::new(seed);
    let kind = dice.below(3);
    let of_kind = if kind == 0 { &LINES[..3] } else { &LINES[3..] };
    let mut lines: Vec<Vec<u8>> =
        (0..=dice.below(3)).map(|_| dice.one_of(of_kind).as_bytes().to_vec()).collect();
    let at = dice.below(lines.len());
    dice.json(&mut lines[at], &WORDS);
    let mut bytes = lines.join(&b'\n');
    if dice.below(4) == 0 {
        dice.bytes(&mut bytes);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("suite.jsonl");
    fs::write(&path, bytes).expect("room for a small file");
    let items = dice.one_of(&[None, None, Some(1), Some(3), Some(usize::MAX)]);
    let reader = Reader {
        tokenizer: &Bytes,
        context: model.shape().context,
        vocabulary: model.shape().vocabulary,
        items,
    };
    let halt = AtomicBool::new(false);
    let told = |error: InferenceError| check_told(seed, folder.path(), &error.to_string(), &error.hint());
    match kind {
        0 => match MultipleChoice::read(&path, &reader) {
            Ok(suite) => assert!(suite.put_to(model, &halt).expect("a good suite").is_some(), "seed {seed}"),
            Err(error) => told(error),
        },
        1 => match Lambada::read(&path, &reader) {
            Ok(suite) => assert!(suite.put_to(model, &halt).expect("a good suite").is_some(), "seed {seed}"),
            Err(error) => told(error),
        },
        _ => match Texts::read(&path, &reader) {
            Ok(suite) => assert!(suite.put_to(model, &halt).expect("a good suite").is_some(), "seed {seed}"),
            Err(error) => told(error),
        },
    }
}

#[test]
fn whatever_lies_in_a_suite_it_is_asked_or_refused() {
    let model = model();
    search("suites", &KEPT, 300, |seed| check(seed, &model));
}
