//! Suites put to a study's models while they are trained: the numbers are those of `sapwood eval` on the same checkpoint, whatever
//! interrupts or is shared; what cannot be asked is refused before anything is trained.

use std::fs;
use std::path::Path;

use expect_test::expect;
use serde_json::{Value, json};

use crate::support::{Bench, files_below, json, json_lines, refused, run_folders};

const SUITES: &str = r#"
[[evaluation.suites]]
name = "words"
kind = "multiple-choice"
path = "choice.jsonl"
every_evaluations = 2

[[evaluation.suites]]
name = "endings"
kind = "lambada"
path = "lambada.jsonl"
tokenizer = "bytes"
every_evaluations = 4

[[evaluation.suites]]
name = "texts"
kind = "text"
path = "texts.jsonl"
items = 3
every_evaluations = 1
"#;

/// The tiny study with three suites.
fn bench(edits: &[(&str, &str)]) -> Bench {
    let bench = Bench::with(edits);
    let choice =
        |ctx: &str, label: usize| json!({"ctx": ctx, "endings": ["wood", "xyz", "grew"], "label": label});
    let lines = |lines: &[Value]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    bench.write(
        "choice.jsonl",
        lines(&[
            choice("the slow old", 0),
            choice("ring by", 2),
            choice("the old wood", 2),
            choice("a much too long context", 1),
        ]),
    );
    bench.write(
        "lambada.jsonl",
        lines(&["the slow old wood", "ring by ring."].map(|text| json!({"text": text}))),
    );
    let texts =
        ["the slow old wood grew", "grew grew grew", "ring by ring.", "old", "by the by the wood", "slow"];
    bench.write("texts.jsonl", lines(&texts.map(|text| json!({"text": text}))));
    bench.add_to_study(SUITES);
    bench
}

fn asked(run: &Path) -> Vec<Value> {
    json_lines(&run.join("suites.jsonl"))
}

/// What `sapwood eval` says of a checkpoint, as a line of the log has it.
fn evaluated(bench: &Bench, checkpoint: &str, kind: &str, suite: &str) -> Value {
    let args = ["eval", checkpoint, "--suite", suite, "--kind", kind, "--json"];
    let said: Value = serde_json::from_str(&bench.sapwood(&args).good()).expect("JSON");
    let mut numbers = json!({});
    for (name, number) in said.as_object().expect("a result") {
        match number {
            Value::Object(_) => numbers[name] = number.clone(),
            Value::Number(_) if name == "bits_per_byte" => {
                numbers[name] = json!({"value": number, "standard_error": null});
            }
            _ => {}
        }
    }
    json!({"items": said["items"], "cut": said.get("cut").cloned().unwrap_or(json!(0)), "numbers": numbers})
}

#[test]
fn numbers_are_those_of_eval_on_the_same_checkpoint() {
    let bench = bench(&[("every_steps = 10\nkeep = 2", "every_steps = 10\nkeep = 9")]);
    bench.study().good();
    // The file with the items that are chosen alone: the first, the third and the fifth.
    let texts = fs::read_to_string(bench.path("texts.jsonl")).expect("a suite");
    let chosen: String = texts.lines().step_by(2).map(|line| format!("{line}\n")).collect();
    bench.write("chosen.jsonl", chosen);
    let runs = run_folders(&bench.path("out"));
    assert_eq!(runs.len(), 4);
    for run in runs {
        let mut compared = 0;
        for line in asked(&run) {
            let step = line["step"].as_u64().expect("a step");
            let checkpoint = run.join(format!("checkpoints/{step:08}"));
            let depth = if step <= 10 && run.to_string_lossy().contains("stack") { 1 } else { 2 };
            assert_eq!(line["depth"], depth, "{line}");
            if !checkpoint.is_dir() {
                continue;
            }
            let (kind, file) = match line["suite"].as_str() {
                Some("words") => ("multiple-choice", "choice.jsonl"),
                Some("endings") => ("lambada", "lambada.jsonl"),
                _ => ("text", "chosen.jsonl"),
            };
            let wanted = evaluated(&bench, &checkpoint.display().to_string(), kind, file);
            for key in ["items", "cut", "numbers"] {
                assert_eq!(line[key], wanted[key], "{line} of {}", checkpoint.display());
            }
            compared += 1;
        }
        // At four evaluations, the last one with all of them: 4 × texts, 2 × words, 1 × endings.
        assert!(compared >= 7, "{compared} in {}", run.display());
    }
    let run_file = json(&bench.path("out/runs/whole/tokens/seed-1/run.json"));
    let hash = run_file["bound_to"]["suites"]["words"]["sha256"].as_str().expect("a hash");
    assert_eq!(hash.len(), 64);
    assert!(run_file["bound_to"]["suites"]["endings"]["tokenizer_sha256"].is_string());
}

#[test]
fn the_report_tells_them_arm_by_arm() {
    let bench = bench(&[]);
    let said = bench.study().good();
    let last = |seed: u64, name: &str| -> f64 {
        let lines = asked(&bench.path(&format!("out/runs/stack/compute/seed-{seed}")));
        let words = lines.iter().rfind(|line| line["suite"] == "words").expect("it was asked at the end");
        words["numbers"]["acc"][name].as_f64().expect("a number")
    };
    let (one, other) = (last(1, "value"), last(2, "value"));
    let figures = json(&bench.path("out/report/report.json"))["suites"].clone();
    let is_acc =
        |figure: &&Value| figure["arm"] == "stack" && figure["suite"] == "words" && figure["number"] == "acc";
    let figure = figures.as_array().expect("figures").iter().find(is_acc).expect("a figure");
    assert_eq!((&figure["runs"], &figure["items"], &figure["cut"]), (&json!(2), &json!(4), &json!(1)));
    assert_eq!(figure["mean"], json!((one + other) / 2.0));
    let wanted = (one - other).abs() / 2.0;
    assert!((figure["standard_error"].as_f64().expect("two runs") - wanted).abs() < 1e-12, "{figure}");
    let html = fs::read_to_string(bench.path("out/report/report.html")).expect("a page");
    let markdown = fs::read_to_string(bench.path("out/report/report.md")).expect("a report");
    assert!(html.contains("<h2>Suites</h2>") && markdown.contains("## Suites"), "{markdown}");
    assert!(said.contains("SUITES\n") && said.contains("whole/tokens  "), "{said}");
    let section =
        said.split("SUITES\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a section");
    assert!(section.lines().all(|line| line.chars().count() <= 110), "{section}");
    let wall = said.lines().find(|line| line.starts_with("arm ") && line.contains("evaluation  suites"));
    assert!(wall.is_some(), "their time stands apart: {said}");
}

#[test]
fn a_copy_has_the_lines_of_a_run_by_itself() {
    let bench =
        bench(&[("seeds = [1, 2]", "seeds = [1]"), ("grow_after_steps = 15", "grow_after_steps = 25")]);
    bench.add_to_study(
        "\n[arms.other]\nstrategy = { use = \"sapwood/stack\", config = { factor = 2, grow_after_steps = 35, optimizer = \"copy\" } }\n\
         initializers.new_blocks = { use = \"sapwood/copy\" }\n",
    );
    bench.study().good();
    bench.sapwood(&["study", "study.toml", "--out", "apart", "--jobs", "1", "--no-sharing"]).good();
    let shared = json(&bench.path("out/runs/other/compute/seed-1/DONE"))["shared"]["steps"].clone();
    assert_eq!(shared, 25, "it begins as a copy");
    for run in run_folders(&bench.path("out")) {
        let name = run.strip_prefix(bench.path("out")).expect("a run of the study").to_path_buf();
        assert_eq!(asked(&run), asked(&bench.path("apart").join(&name)), "{}", name.display());
    }
    let said = bench.sapwood(&["verify-resume", "study.toml", "--stops", "3"]).good();
    assert!(said.ends_with("3 arms, every byte the same\n"), "{said}");
}

#[test]
fn a_plan_mentions_them() {
    let said = bench(&[]).sapwood(&["plan", "study.toml"]).good();
    assert!(
        said.contains("Suite texts: 3 items of texts.jsonl are put to each run's model at every evaluation"),
        "{said}"
    );
    assert!(
        said.contains(
            "Suite words: all items of choice.jsonl are put to each run's model at one in 2 evaluations"
        ),
        "{said}"
    );
}

#[test]
fn what_cannot_be_asked_is_refused_before_anything_is_trained() {
    let check = |edit: (&str, &str), said: &str, code: i32| {
        let bench = bench(&[]);
        let study = fs::read_to_string(bench.path("study.toml")).expect("a study");
        assert!(study.contains(edit.0));
        bench.write("study.toml", study.replacen(edit.0, edit.1, 1));
        bench.write(
            "bad.jsonl",
            "{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": 0}\n{\"ctx\": \"a\"}\n",
        );
        bench.write("large.jsonl", "{\"ctx\": [1, 300], \"endings\": [[1], [2]], \"label\": 0}\n");
        let ran = bench.study();
        assert!(ran.code == Some(code) && ran.stderr.contains(said), "{said}: {}", ran.said());
        assert!(ran.stderr.contains("--> study.toml:"), "{}", ran.said());
        assert!(files_below(&bench.path("out/runs")).is_empty(), "{}", ran.said());
    };
    let path = "path = \"choice.jsonl\"";
    check((path, "path = \"none.jsonl\""), "none.jsonl cannot be read", 4);
    check((path, "path = \"bad.jsonl\""), "bad.jsonl:2 is no item: missing field `endings`", 4);
    check(
        (path, "path = \"large.jsonl\""),
        "large.jsonl:1 has token 300, which is outside the model's vocabulary of 256",
        4,
    );
    check(
        (path, "path = \"choice.jsonl\"\ntokenizer = \"gpt2\""),
        "the tokenizer `gpt2` has 50257 ids, the model 256",
        4,
    );
    check((path, "path = \"choice.jsonl\"\ntokenizer = \"gpt3\""), "gpt3", 4);
    check(("items = 3", "items = 7"), "texts.jsonl holds 6 items, of which 7 are to be asked", 4);
    check(("items = 3", "items = 0"), "`items` of the suite `texts` is 0", 3);
    check(
        ("every_evaluations = 4", "every_evaluations = 0"),
        "`every_evaluations` of the suite `endings` is 0",
        3,
    );
    check(("name = \"endings\"", "name = \"words\""), "two suites are called `words`", 3);
    check(("kind = \"lambada\"", "kind = \"hellaswag\""), "unknown value `hellaswag`", 3);
}

#[test]
fn a_refusal_names_the_key_and_what_to_do() {
    let bench = bench(&[]);
    let study = fs::read_to_string(bench.path("study.toml")).expect("a study");
    bench.write("study.toml", study.replace("items = 3", "items = 7"));
    refused(
        &bench,
        &bench.study(),
        &expect![[r#"
            error: ./texts.jsonl holds 6 items, of which 7 are to be asked
              --> study.toml:94
            hint: ask for at most 6
            exit 4
        "#]],
    );
}

/// A model of GPT-2's vocabulary that reads shards, and tokenizers beside the study's file.
#[test]
fn tokens_come_from_the_tokenizer_that_is_named() {
    let bench = bench(&[
        ("seeds = [1, 2]", "seeds = [1]"),
        ("vocabulary = 256", "vocabulary = 50257"),
        ("steps = 40", "steps = 2"),
    ]);
    let study = fs::read_to_string(bench.path("study.toml")).expect("a study");
    bench.write(
        "study.toml",
        study.replace("path = \"choice.jsonl\"", "path = \"choice.jsonl\"\ntokenizer = \"gpt2\""),
    );
    bench.sapwood(&["train", "study.toml", "--arm", "whole", "--out", "out"]).good();
    let run = "out/runs/whole/tokens/seed-1";
    let lines = asked(&bench.path(run));
    let line = lines.iter().rfind(|line| line["suite"] == "words").expect("it was asked");
    let args = [
        "eval",
        run,
        "--suite",
        "choice.jsonl",
        "--kind",
        "multiple-choice",
        "--tokenizer",
        "gpt2",
        "--json",
    ];
    let said: Value = serde_json::from_str(&bench.sapwood(&args).good()).expect("JSON");
    assert_eq!(line["numbers"]["acc"], said["acc"]);
    assert_eq!(line["numbers"]["acc_norm_bytes"], said["acc_norm_bytes"]);
}
