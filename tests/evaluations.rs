//! Suites put to a model: choices are those of `transformers` in f64 (`tests/golden/evaluations/choices.py` wrote them), and
//! a suite that makes no sense is refused by its line.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Bench, json_lines, root};

fn golden(name: &str) -> String {
    root().join("tests/golden").join(name).display().to_string()
}

#[test]
fn choices_are_those_of_transformers() {
    let bench = Bench::new();
    let (model, suite) = (golden("hugging_face/model"), golden("evaluations/choices.jsonl"));
    let said = bench.sapwood(&[
        "eval",
        &model,
        "--suite",
        &suite,
        "--kind",
        "multiple-choice",
        "--items",
        "items.jsonl",
        "--json",
    ]);
    let said: Value = serde_json::from_str(&said.good()).expect("JSON");
    let (items, expected) = (
        json_lines(&bench.path("items.jsonl")),
        json_lines(golden("evaluations/choices.expected.jsonl").as_ref()),
    );
    assert_eq!(items.len(), expected.len());
    for (item, expected) in items.iter().zip(&expected) {
        for key in ["line", "choice", "choice_norm_tokens"] {
            assert_eq!(item[key], expected[key], "{item}");
        }
        let sums = item["log_likelihoods"]
            .as_array()
            .expect("sums")
            .iter()
            .zip(expected["log_likelihoods"].as_array().expect("sums"));
        let off = sums
            .map(|(a, b)| (a.as_f64().expect("a number") - b.as_f64().expect("a number")).abs())
            .fold(0.0, f64::max);
        assert!(off < 1e-4, "a log-likelihood is off by {off:e}: {item}");
    }
    let right = expected.iter().filter(|item| item["choice"] == item["label"]).count();
    assert_eq!(said["acc"]["value"], json!(right as f64 / expected.len() as f64));
    assert_eq!(said["acc_norm_bytes"], Value::Null);
}

#[test]
fn a_byte_model_is_judged_by_texts() {
    let bench = Bench::with(&[("seeds = [1, 2]", "seeds = [1]")]);
    bench.study().good();
    let eval = |kind: &str, text: &str| {
        bench.write("suite.jsonl", text);
        bench.sapwood(&[
            "eval",
            "out/runs/whole/tokens/seed-1",
            "--suite",
            "suite.jsonl",
            "--kind",
            kind,
            "--json",
        ])
    };
    let text = fs::read_to_string(bench.path("text.txt")).expect("a text");
    let lines = |range: std::ops::Range<usize>| json!({"text": &text[range]}).to_string() + "\n";
    let said: Value =
        serde_json::from_str(&eval("text", &(lines(0..400) + &lines(400..700))).good()).expect("JSON");
    let number = |key: &str| said[key]["value"].as_f64().expect("a number");
    assert!((number("perplexity") - number("loss_nats_per_token").exp()).abs() < 1e-9, "{said}");
    // A token is a byte.
    let bits = said["bits_per_byte"].as_f64().expect("a number");
    assert!(
        (bits - number("loss_nats_per_token") / std::f64::consts::LN_2).abs() < 1e-9 && bits < 5.0,
        "{said}"
    );
    assert_eq!(said["tokens"], 698);

    let said: Value = serde_json::from_str(
        &eval("lambada", "{\"text\": \"so the slow old wood\"}\n{\"text\": \"ring by ring.\"}\n").good(),
    )
    .expect("JSON");
    assert_eq!((&said["items"], &said["cut"]), (&json!(2), &json!(1)));
    let choice = "{\"ctx\": \"the slow\", \"endings\": [\"old\", \"wood\"], \"label\": 0}\n";
    let said: Value = serde_json::from_str(&eval("multiple-choice", choice).good()).expect("JSON");
    assert!(said["acc_norm_bytes"]["value"].is_number(), "{said}");

    for (kind, suite, reason) in [
        (
            "multiple-choice",
            "\n{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": 2}\n",
            "suite.jsonl:2 has 2 endings and the label 2",
        ),
        (
            "multiple-choice",
            "{\"ctx\": \"\", \"endings\": [\"b\", \"c\"], \"label\": 0}\n",
            "without a token",
        ),
        (
            "multiple-choice",
            "{\"ctx\": [300], \"endings\": [[1], [2]], \"label\": 0}\n",
            "suite.jsonl:1 has token 300, which is outside",
        ),
        ("multiple-choice", "{\"ctx\": \"a\"}\n", "suite.jsonl:1 is no item: missing field `endings`"),
        ("lambada", "{\"text\": \"word\"}\n", "has a single word"),
        (
            "lambada",
            "{\"text\": \"a wordlongerthanthemodel\"}\n",
            "has a continuation of 23 tokens; the model reads 16",
        ),
        ("text", "{\"text\": \"a\"}\n", "has less than two tokens"),
        ("text", "", "holds no item"),
    ] {
        let ran = eval(kind, suite);
        assert!(ran.code == Some(4) && ran.stderr.contains(reason), "{reason}: {}", ran.said());
    }
}
