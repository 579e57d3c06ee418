//! Whatever a study's file says, it is a study or refused by an error that says where and what to do: no panic, no case
//! without end. One that is taken is written down and read again as the same. Each case is a seed.

use std::path::Path;

use serde_json::Value;
use study::{Source, SourceError, StudyFile};

use damage::{Dice, check_told, search};

#[path = "../../../tests/fuzz/damage.rs"]
mod damage;

/// Seeds that have found something once.
const KEPT: [u64; 0] = [];

const STUDIES: [&str; 4] = [
    include_str!("../../../configs/quickstart.toml"),
    include_str!("../../../configs/methods.toml"),
    include_str!("../../../configs/laptop-gpt2.toml"),
    include_str!("../../../configs/catalogue/family-width.toml"),
];

const WORDS: [&str; 24] = [
    "auto",
    "steps",
    "tokens",
    "compute",
    "skip",
    "at_most",
    "sweep",
    "rates",
    "schedule",
    "kind",
    "constant",
    "warm_up",
    "layers",
    "width",
    "heads",
    "process",
    "isolation",
    "sapwood/paper",
    "memory_limit_mib",
    "source",
    "mixture",
    "suites",
    "nan",
    "compare",
];

/// Values of the file changed, or its text.
fn damaged(dice: &mut Dice, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    if dice.below(3) == 0 {
        dice.bytes(&mut bytes);
        return bytes;
    }
    let table: toml::Table = text.parse().expect("it was good before");
    let mut json = serde_json::to_vec(&table).expect("a table is a value");
    dice.json(&mut json, &WORDS);
    let value = serde_json::from_slice::<Value>(&json).ok().and_then(without_nothing);
    value.and_then(|value| toml::to_string(&value).ok()).map_or(json, String::into_bytes)
}

/// TOML has no word for what is not there.
fn without_nothing(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Array(items) => Some(items.into_iter().filter_map(without_nothing).collect()),
        Value::Object(fields) => {
            let kept = fields.into_iter().filter_map(|(name, value)| Some((name, without_nothing(value)?)));
            Some(Value::Object(kept.collect()))
        }
        value => Some(value),
    }
}

/// As the command line sets keys.
fn overrides(dice: &mut Dice) -> Vec<String> {
    let keys =
        ["study.seeds", "budget.steps", "model", "arms", "", "a.b.c.d", "schedule.rate", ".", "data.source"];
    let values =
        ["[1, 2]", "9223372036854775807", "-1", "nan", "{}", "[[[[", "a word", "", "1e400", "\"\\u0000\""];
    let some = dice.below(12).saturating_sub(9);
    (0..some).map(|_| format!("{}={}", dice.one_of(&keys), dice.one_of(&values))).collect()
}

fn check(seed: u64) {
    let mut dice = Dice::new(seed);
    let text = dice.one_of(&STUDIES);
    let bytes = damaged(&mut dice, text);
    let overrides = overrides(&mut dice);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("study.toml");
    std::fs::write(&path, bytes).expect("room for a small file");
    if let Err(error) = study_of(&path, &overrides) {
        let SourceError { message, place, hint } = error;
        let by_command_line = place.to_string().starts_with("--set ");
        let told = if by_command_line { folder.path().display().to_string() } else { String::new() };
        check_told(seed, folder.path(), &format!("{place}: {message}{told}"), &hint);
    }
}

/// A study as `sapwood plan` reads it, before it asks plugins.
fn study_of(path: &Path, overrides: &[String]) -> Result<(), SourceError> {
    let source = Source::read(path, overrides)?;
    let file: StudyFile = source.value()?;
    file.check().map_err(|error| source.locate(error))?;
    let arms: Vec<&String> = file.arms.keys().collect();
    for (arm, &seed) in arms.iter().zip(file.study.seeds.iter().cycle()) {
        file.run(arm, seed, None).map_err(|error| source.locate(error))?;
    }
    let frozen = toml::to_string_pretty(&file).expect("a study can be written down");
    let again: StudyFile = Source::of_text(path, frozen.clone(), &[])?.value()?;
    assert_eq!(toml::to_string_pretty(&again).expect("as before"), frozen, "it is read as another study");
    Ok(())
}

#[test]
fn a_study_is_read_or_refused_with_its_place() {
    search("studies", &KEPT, 2_000, check);
}
