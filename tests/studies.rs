//! Whatever a study's file says, `sapwood plan` plans it or refuses it: one error with its place and what to do, an exit code of
//! its own, no panic, no signal, no case without end. Each case is a seed. Reading alone is tried much faster in
//! `host/study/tests/fuzz.rs`; here plugins are asked, and dry runs are made.

use std::fs;

use serde_json::Value;

use crate::damage_by_seed::{Dice, check_told, search};
use crate::support::{Bench, root};

/// Seeds that have found something once.
const KEPT: [u64; 0] = [];

const WORDS: [&str; 16] = [
    "auto",
    "steps",
    "tokens",
    "compute",
    "constant",
    "warmup_steps",
    "layers",
    "width",
    "process",
    "sapwood/paper",
    "sapwood/copy",
    "grow_after_fraction",
    "stages",
    "new_blocks",
    "freeze",
    "nan",
];

/// Most steps and sequences that a case may have: what is planned within limits may still take its time.
const MOST: f64 = 20_000.0;

fn damaged(dice: &mut Dice, table: &toml::Table) -> Option<String> {
    let mut json = serde_json::to_vec(table).expect("a table is a value");
    dice.json(&mut json, &WORDS);
    let value = without_nothing(serde_json::from_slice(&json).ok()?)?;
    toml::to_string(&value).ok()
}

/// TOML has no word for what is not there.
fn without_nothing(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Number(number) if number.as_f64().is_some_and(|number| number > MOST && number < 2e7) => {
            Some(Value::from(MOST as u64))
        }
        Value::Array(items) => Some(items.into_iter().filter_map(without_nothing).collect()),
        Value::Object(fields) => {
            let kept = fields.into_iter().filter_map(|(name, value)| Some((name, without_nothing(value)?)));
            Some(Value::Object(kept.collect()))
        }
        value => Some(value),
    }
}

fn check(seed: u64, studies: &[toml::Table], bench: &Bench) {
    let mut dice = Dice::new(seed);
    let study = dice.one_of(studies);
    let Some(text) = damaged(&mut dice, &study) else { return };
    let path = bench.path("damaged.toml");
    fs::write(&path, text).expect("room for a small file");
    let output = bench.command(&["plan"]).arg(&path).output().expect("the binary was built for this test");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "seed {seed}: {said}");
    match output.status.code() {
        Some(0) => {}
        Some(3..=6 | 8) => {
            let error = said.split_once("error: ").map_or("", |(_, error)| error);
            let (message, hint) = error.split_once("hint: ").unwrap_or((error, ""));
            check_told(seed, path.parent().expect("it is in a folder"), message, hint);
        }
        other => panic!("seed {seed} ends with {other:?}: {said}"),
    }
}

#[test]
fn a_study_is_planned_or_refused_with_its_place() {
    let bench = Bench::new();
    fs::copy(root().join("configs/pride-and-prejudice.txt"), bench.path("pride-and-prejudice.txt"))
        .expect("room");
    let study = |path: &str| {
        let text = fs::read_to_string(root().join(path)).expect("it is there");
        text.parse::<toml::Table>().expect("it is good")
    };
    let studies = ["configs/quickstart.toml", "configs/methods.toml", "tests/fixtures/tiny.toml"].map(study);
    search("plans", &KEPT, 60, |seed| check(seed, &studies, &bench));
}
