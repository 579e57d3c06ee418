//! `plugin-api/GUIDE.md`, followed word by word in an empty folder: its shell blocks are run, its Rust and TOML blocks
//! are written where it says, and its tables of columns are compared with what a run leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{self, Bench, beside_the_binary, json, json_lines};

fn guide() -> String {
    fs::read_to_string(support::root().join("plugin-api/GUIDE.md")).expect("the guide is there")
}

/// A fenced block: its language, the paragraph before it, its text.
struct Block {
    language: String,
    before: String,
    text: String,
}

fn blocks(guide: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut paragraph, mut lines) = (String::new(), guide.lines());
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: String =
                lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
            blocks.push(Block { language: language.into(), before: std::mem::take(&mut paragraph), text });
        } else if !line.is_empty() {
            paragraph = format!("{paragraph} {line}");
        } else if lines.clone().next().is_some_and(|next| !next.starts_with("```")) {
            paragraph.clear();
        }
    }
    blocks
}

/// What a reader does with the blocks, as one script: a file goes where the sentence before it says, and below what
/// is there where it names none.
fn script(blocks: &[Block]) -> String {
    let (mut script, mut file) = (String::from("set -eu\n"), String::new());
    for block in blocks {
        match block.language.as_str() {
            "sh" => script += &block.text,
            "rust" | "toml" => {
                let named = block.before.split('`').skip(1).step_by(2).find(|name| is_file(name));
                let how = if named.is_some() { ">" } else { ">>" };
                file = named.map_or(file, ToOwned::to_owned);
                script += &format!("cat {how} {file} <<'END OF BLOCK'\n{}END OF BLOCK\n", block.text);
            }
            _ => {}
        }
    }
    script
}

fn is_file(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|is| is == "rs" || is == "toml")
}

/// A folder that the guide was followed in, and what was printed on the way.
fn followed() -> (Bench, String) {
    let bench = Bench::new();
    let (home, here) = (bench.path("home"), bench.path("here"));
    for folder in [&home, &here] {
        fs::create_dir(folder).expect("room");
    }
    let script = script(&blocks(&guide()));
    let mut shell = Command::new("sh");
    support::with_cargo_variables(&mut shell);
    let path = std::env::var("PATH").unwrap_or_default();
    shell.env("PATH", format!("{}:{path}", beside_the_binary().display()));
    shell.env("SAPWOOD", support::root().canonicalize().expect("it is there"));
    shell.env("XDG_DATA_HOME", &home);
    let output = shell.args(["-c", &script]).current_dir(&here).output().expect("there is a shell");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{script}\n{said}\n{}", text(&output.stderr));
    (bench, said)
}

#[test]
fn followed_word_by_word_it_ends_in_a_trained_study_with_a_validated_installed_plugin() {
    let (bench, said) = followed();
    for expected in [
        "test result: ok. 1 passed",
        "strategy `ada/plateau` 0.1.0: adds a block whenever the loss has stopped falling",
        "strategy `ada/plateau` passed all ",
        "FINAL VALIDATION LOSS",
        "installed; nothing was replaced",
        "  ada/plateau                0.1.0 ",
    ] {
        assert!(said.contains(expected), "`{expected}` was not printed:\n{said}");
    }
    let crate_folder = bench.path("here/plateau");
    let run = crate_folder.join("results/runs/plateau/compute/seed-1");
    assert!(run.join("DONE").is_file(), "the run is not finished");
    let decisions = json_lines(&run.join("decisions.jsonl"));
    let grown = decisions.iter().filter(|decision| decision["decision"] == "edited").count();
    assert_eq!(grown, 2, "one block becomes three");
    let plugins = json(&run.join("run.json")).to_string();
    assert!(plugins.contains("ada/plateau"), "{plugins}");
    assert!(bench.path("home/sapwood/plugins/libplateau.so").is_file() || !cfg!(target_os = "linux"));
    columns_are_as_documented(&run);
}

#[test]
fn the_plugin_is_short() {
    let all = blocks(&guide());
    let plugin = all.iter().find(|block| block.language == "rust").expect("the guide has a plugin");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let lines = plugin.text.lines().filter(is_code).count();
    assert!((30..=60).contains(&lines), "{lines} lines of code");
    assert!(!plugin.text.contains("unsafe"));
}

// ---------------------------------------------------------------- columns

/// The first column of the first table below that sentence, row by row, what stands in backquotes.
fn documented(below: &str) -> Vec<Vec<String>> {
    let guide = guide();
    let after = guide.split_once(below).unwrap_or_else(|| panic!("the guide does not say `{below}`")).1;
    let table =
        after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    // What a description refers to is no column of this table.
    let own = |row: &str| row.split("as in").next().unwrap_or(row).to_owned();
    table.skip(2).map(|row| own(row).split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()).collect()
}

fn first_columns(below: &str) -> Vec<String> {
    documented(below).into_iter().map(|row| row[0].clone()).collect()
}

fn keys(line: &serde_json::Value) -> Vec<String> {
    line.as_object().expect("a line is an object").keys().cloned().collect()
}

fn sorted(names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    names.into_iter().collect()
}

/// The columns that the guide says some lines of an edit have.
fn only_some_edits_have() -> BTreeSet<String> {
    let guide = guide();
    let after = guide.split_once("An `edited` line also has ").expect("the guide says so").1;
    let sentence = after.split(". ").next().unwrap_or_default().split("\n\n").next().unwrap_or_default();
    let names = sorted(sentence.split('`').skip(1).step_by(2).map(ToOwned::to_owned));
    assert_eq!(names.len(), 5, "{names:?}");
    names
}

fn columns_are_as_documented(run: &Path) {
    for (file, below) in
        [("metrics.jsonl", "`metrics.jsonl`, a line for"), ("evals.jsonl", "`evals.jsonl`, a line for")]
    {
        let lines = json_lines(&run.join(file));
        assert!(!lines.is_empty(), "{file} is empty");
        for line in &lines {
            assert_eq!(sorted(keys(line)), sorted(first_columns(below)), "{file}");
        }
    }
    let rows = documented("`decisions.jsonl`, a line for each decision");
    let kinds: BTreeMap<String, BTreeSet<String>> =
        rows.into_iter().map(|row| (row[0].clone(), sorted(row[1..].to_vec()))).collect();
    assert_eq!(kinds.len(), 9, "{kinds:?}");
    let optional = only_some_edits_have();
    for line in json_lines(&run.join("decisions.jsonl")) {
        let decision = line["decision"].as_str().expect("a decision has a name");
        let expected = kinds.get(decision).unwrap_or_else(|| panic!("`{decision}` is not documented"));
        let found: BTreeSet<String> = keys(&line).into_iter().filter(|key| key != "decision").collect();
        let more: BTreeSet<String> = found.difference(expected).cloned().collect();
        assert!(expected.is_subset(&found), "{decision}: {found:?}");
        assert!(
            more.is_empty() || (decision == "edited" && more.is_subset(&optional)),
            "{decision}: {more:?}"
        );
    }
    let header = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(run.join(name)).expect("the reporter wrote it");
        text.lines().next().unwrap_or_default().split(',').map(ToOwned::to_owned).collect()
    };
    for (file, below) in [("steps.csv", "`steps.csv` with"), ("evaluations.csv", "`evaluations.csv` with")] {
        assert_eq!(header(file), documented(below)[0], "{file}");
    }
}

#[test]
fn a_file_goes_where_the_guide_says() {
    let written: Vec<PathBuf> = script(&blocks(&guide()))
        .lines()
        .filter_map(|line| line.strip_prefix("cat > ").or_else(|| line.strip_prefix("cat >> ")))
        .filter_map(|rest| rest.split(' ').next().map(PathBuf::from))
        .collect();
    assert_eq!(written, ["plateau/src/lib.rs", "plateau/src/lib.rs", "study.toml"].map(PathBuf::from));
}
