//! `sapwood eval`: a suite of questions, or texts, put to a model. How each number is made stands in docs/evaluations.md.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use inference::suites::{Estimate, Reader};
use serde::Serialize;
use trainer::ErrorClass;
use trainer::hugging_face::StoredModel;
use trainer::storage::write_whole;

use super::sample::on_processor;
use crate::Outcome;
use crate::args::{EvalArgs, SuiteKind};
use crate::failure::Failed;
use crate::output::{json_of, result_line};
use crate::suites::Suite;
use crate::texts::{self, OnlyIds};

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
    if args.kind == SuiteKind::Lambada && named.is_none() {
        return Err(texts::no_tokenizer(
            &args.checkpoint,
            "lambada cuts texts at their last word: a tokenizer is needed",
        ));
    }
    let reader = Reader {
        tokenizer: named.as_deref().unwrap_or(&OnlyIds),
        context: stored.shape.context,
        vocabulary: stored.shape.vocabulary,
        items: None,
    };
    let suite = Suite::read(args.kind.into(), &args.suite, &reader)?;
    let model = on_processor(stored)?;
    let never = AtomicBool::new(false);
    let whole =
        || Failed::new(ErrorClass::Internal, "the suite was not asked to its end", "please report this");
    match suite {
        Suite::MultipleChoice(suite) => {
            let (result, items) = suite.put_to(&model, &never)?.ok_or_else(whole)?;
            write(args, "multiple-choice", &result, &items)?;
            let mut lines = vec![("acc", result.acc), ("acc_norm, per token", result.acc_norm_tokens)];
            lines.extend(result.acc_norm_bytes.map(|share| ("acc_norm, per byte", share)));
            print(args, result.items, result.cut, &lines);
        }
        Suite::Lambada(suite) => {
            let (result, items) = suite.put_to(&model, &never)?.ok_or_else(whole)?;
            write(args, "lambada", &result, &items)?;
            print(args, result.items, result.cut, &[("acc", result.acc), ("perplexity", result.perplexity)]);
        }
        Suite::Text(suite) => {
            let (result, items) = suite.put_to(&model, &never)?.ok_or_else(whole)?;
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
            text += &line.map_err(|error| Failed::new(ErrorClass::Internal, error, "please report this"))?;
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
