//! Whatever a study's file says, `sapwood plan` plans it or refuses it: one error with its place and what to do, an exit code of
//! its own, no panic, no signal, no case without end. Each case is a seed. Reading alone is tried much faster in
//! `host/study/tests/fuzz.rs`; here plugins are asked, and dry runs are made.

use std::fs;

use crate::damage_by_seed::{Dice, check_told, search};
use crate::damage_of_studies::damaged;
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

/// Most steps that a case may have: what is planned within limits may still take its time. (20,000 steps of nineteen arms with five
/// seeds took 46 s, a dry run of each run.)
const MOST: i64 = 2_000;
/// Most blocks: a dry run looks at every tensor at every step. (2,000 blocks, twenty-six arms, five seeds: over nine minutes.)
const DEEPEST: i64 = 64;
/// What is larger is refused everywhere.
const LIMIT: i64 = 20_000_000;

/// Within limits, so that it is planned in a moment.
fn small(value: &mut toml::Value) {
    match value {
        toml::Value::Integer(number) if (MOST..LIMIT).contains(number) => *number = MOST,
        toml::Value::Array(items) => items.iter_mut().for_each(small),
        toml::Value::Table(fields) => fields.iter_mut().for_each(|(_, value)| small(value)),
        _ => {}
    }
}

fn check(seed: u64, studies: &[toml::Table], bench: &Bench) {
    let mut dice = Dice::new(seed);
    let study = dice.one_of(studies);
    let Some(mut table) = damaged(&mut dice, &study, &WORDS) else { return };
    table.iter_mut().for_each(|(_, value)| small(value));
    let layers = table.get_mut("model").and_then(|model| model.get_mut("layers"));
    if let Some(toml::Value::Integer(layers)) = layers
        && (DEEPEST..LIMIT).contains(layers)
    {
        *layers = DEEPEST;
    }
    let path = bench.path("damaged.toml");
    fs::write(&path, table.to_string()).expect("room for a small file");
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
    for study in &studies {
        bench.write("good.toml", study.to_string());
        bench.sapwood(&["plan", "good.toml"]).good();
    }
    search("plans", &KEPT, 60, |seed| check(seed, &studies, &bench));
}
