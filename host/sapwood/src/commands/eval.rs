//! `sapwood eval`: a suite of questions, or texts, put to a model. How each number is made stands in docs/evaluations.md.

use std::process::ExitCode;

use inference::Tokenizer;
use inference::suites::{self, Estimate};
use serde::Serialize;
use trainer::folder::write_whole;
use trainer::hugging_face::StoredModel;

use super::sample::on_processor;
use crate::Outcome;
use crate::args::{EvalArgs, SuiteKind};
use crate::failure::Failed;
use crate::output::{json_of, result_line};
use crate::texts;

#[derive(Serialize)]
struct Judged<'a, R> {
    checkpoint: String,
    suite: String,
    kind: &'static str,
    #[serde(flatten)]
    result: &'a R,
}

pub(crate) fn eval(args: &EvalArgs) -> Outcome {
    let stored = StoredModel::open(&args.checkpoint)?;
    let named = texts::tokenizer(args.tokenizer.as_deref(), &stored)?;
    let tokenizer: &dyn Tokenizer = named.as_deref().unwrap_or(&OnlyIds);
    if args.kind == SuiteKind::Lambada && named.is_none() {
        return Err(texts::no_tokenizer(
            &args.checkpoint,
            "lambada cuts texts at their last word: a tokenizer is needed",
        ));
    }
    let model = on_processor(stored)?;
    match args.kind {
        SuiteKind::MultipleChoice => {
            let (result, items) = suites::multiple_choice(&model, &args.suite, tokenizer)?;
            write(args, "multiple-choice", &result, &items)?;
            let mut lines = vec![("acc", result.acc), ("acc_norm, per token", result.acc_norm_tokens)];
            lines.extend(result.acc_norm_bytes.map(|share| ("acc_norm, per byte", share)));
            print(args, result.items, result.cut, &lines);
        }
        SuiteKind::Lambada => {
            let (result, items) = suites::lambada(&model, &args.suite, tokenizer)?;
            write(args, "lambada", &result, &items)?;
            print(args, result.items, result.cut, &[("acc", result.acc), ("perplexity", result.perplexity)]);
        }
        SuiteKind::Text => {
            let (result, items) = suites::text(&model, &args.suite, tokenizer)?;
            write(args, "text", &result, &items)?;
            let mut lines =
                vec![("nats per token", result.loss_nats_per_token), ("perplexity", result.perplexity)];
            lines.extend(
                result.bits_per_byte.map(|value| ("bits per byte", Estimate { value, standard_error: None })),
            );
            print(args, result.items, 0, &lines);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A model whose tokens are not known here takes ids as they are.
struct OnlyIds;

impl Tokenizer for OnlyIds {
    fn encode(&self, _: &str) -> Result<Vec<u32>, String> {
        Err("has a text, where the model's tokens are no bytes: give token ids, or `--tokenizer`".into())
    }

    fn bytes_of(&self, _: u32) -> Vec<u8> {
        Vec::new()
    }
}

/// The items' file, and the result where JSON was asked for.
fn write<R: Serialize, I: Serialize>(
    args: &EvalArgs,
    kind: &'static str,
    result: &R,
    items: &[I],
) -> Result<(), Failed> {
    if let Some(path) = &args.items {
        let mut text = String::new();
        for item in items {
            let line = serde_json::to_string(item);
            text += &line
                .map_err(|error| Failed::new(trainer::ErrorClass::Internal, error, "please report this"))?;
            text.push('\n');
        }
        write_whole(path, text.as_bytes())?;
    }
    if args.json {
        let (checkpoint, suite) = (args.checkpoint.display().to_string(), args.suite.display().to_string());
        result_line!("{}", json_of(&Judged { checkpoint, suite, kind, result })?);
    }
    Ok(())
}

fn print(args: &EvalArgs, items: usize, cut: usize, lines: &[(&str, Estimate)]) {
    if args.json {
        return;
    }
    result_line!("{}: {items} items", args.suite.display());
    if cut > 0 {
        result_line!("{cut} of them were longer than the model's context, and lost their beginning");
    }
    for (name, Estimate { value, standard_error }) in lines {
        match standard_error {
            Some(error) => result_line!("{name:<20} {value:.4} ± {error:.4}"),
            None => result_line!("{name:<20} {value:.4}"),
        }
    }
}
