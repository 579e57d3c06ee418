//! Whatever a study's file says, it is a study or refused by an error that says where and what to do: no panic, no case
//! without end. One that is taken is written down and read again as the same. Each case is a seed.

use std::path::Path;

use study::{Source, SourceError, StudyFile};

use damage_by_seed::{Dice, check_told, search};

#[path = "../../../tests/fuzz/damage.rs"]
mod damage_by_seed;
#[path = "../../../tests/fuzz/studies.rs"]
mod damage_of_studies;

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
    if dice.below(3) > 0 {
        let table = text.parse().expect("it was good before");
        if let Some(table) = damage_of_studies::damaged(dice, &table, &WORDS) {
            return table.to_string().into_bytes();
        }
    }
    let mut bytes = text.as_bytes().to_vec();
    dice.bytes(&mut bytes);
    bytes
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
    if let Err(error) = Source::read(&path, &overrides).and_then(|source| study_of(&path, source)) {
        let SourceError { message, place, hint } = error;
        // What the command line set stands in no file: there the place is the key.
        match place.to_string() {
            place if place.starts_with("--set ") => {
                assert!(!message.is_empty() && !hint.is_empty(), "seed {seed} is refused without a word");
            }
            place => check_told(seed, folder.path(), &format!("{place}: {message}"), &hint),
        }
    }
}

/// A study as `sapwood plan` reads it, before it asks plugins.
fn study_of(path: &Path, source: Source) -> Result<(), SourceError> {
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
    let good = |text: &str| {
        study_of(Path::new("study.toml"), Source::of_text(Path::new("study.toml"), text.into(), &[])?)
    };
    assert_eq!(STUDIES.map(good), [(); 4].map(Ok), "they are good before they are damaged");
    search("studies", &KEPT, 2_000, check);
}
