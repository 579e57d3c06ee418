//! `sapwood data tokenize`: a folder of shards made of texts.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread::available_parallelism;
use std::time::Instant;

use data::{
    Cut, Kind, Manifest, PartFacts, Progress, Rules, Separator, TokenizeError, TokenizeOrder, Tokenized,
};
use trainer::ErrorClass;

use super::watched;
use crate::Outcome;
use crate::args::{CutName, KindOfInput, TokenizeArgs};
use crate::failure::Failed;
use crate::output::{bytes, duration, json_of, note_line, result_line};

pub(super) fn tokenize(args: &TokenizeArgs) -> Outcome {
    let order = order_of(args);
    let progress = Progress::default();
    let begun = Instant::now();
    let tokenized =
        watched(|| line(&progress, begun.elapsed().as_secs_f64()), || data::tokenize(&order, &progress));
    let manifest = match tokenized? {
        Tokenized::Made(manifest) => {
            let seconds = begun.elapsed().as_secs_f64();
            let text = manifest.training.text_bytes + manifest.validation.text_bytes;
            note_line!("{} of text in {}", bytes(text), duration(seconds));
            manifest
        }
        Tokenized::WasThere(manifest) => {
            note_line!("{} was there already, made of the same; nothing was done", args.out.display());
            manifest
        }
    };
    match args.json {
        true => result_line!("{}", json_of(&manifest)?),
        false => print(args, &manifest),
    }
    Ok(ExitCode::SUCCESS)
}

fn order_of(args: &TokenizeArgs) -> TokenizeOrder {
    let documents = match args.documents {
        CutName::Files => Cut::Files,
        CutName::Lines => Cut::Lines,
        CutName::Paragraphs => Cut::Paragraphs,
    };
    TokenizeOrder {
        inputs: args.inputs.clone(),
        all_are: args.all_are.map(|kind| match kind {
            KindOfInput::Text => Kind::Text,
            KindOfInput::Jsonl => Kind::JsonLines,
            KindOfInput::Parquet => Kind::Parquet,
        }),
        texts: Rules { field: args.field.clone(), documents },
        tokenizer: args.tokenizer.clone(),
        separator: match args.separator.as_str() {
            "usual" => Separator::Usual,
            "none" => Separator::None,
            token => Separator::Token(token.into()),
        },
        validation_fraction: args.validation,
        tokens_per_shard: args.shard_tokens,
        skip_bad: args.skip_bad,
        out: args.out.clone(),
        threads: args.threads.unwrap_or_else(|| available_parallelism().map_or(1, Into::into)),
    }
}

fn line(progress: &Progress, seconds: f64) -> String {
    let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let (all, read, tokens) = (of(&progress.bytes), of(&progress.bytes_read), of(&progress.tokens));
    let share = read as f64 / all.max(1) as f64;
    let left = match share > 0.01 {
        true => format!(", {} left", duration(seconds / share - seconds)),
        false => String::new(),
    };
    format!("{:.0} % of {}, {:.1} M tokens{left}", 100.0 * share.min(1.0), bytes(all), tokens as f64 / 1e6)
}

fn print(args: &TokenizeArgs, manifest: &Manifest) {
    result_line!("{}: tokens of {}", args.out.display(), manifest.tokenizer.name);
    for (name, part) in [("training", &manifest.training), ("validation", &manifest.validation)] {
        result_line!("{}", part_line(name, part));
    }
    if manifest.skipped_documents > 0 {
        result_line!("left out, since they could not be read: {} documents", manifest.skipped_documents);
    }
}

/// A part's facts, in a line.
pub(super) fn part_line(name: &str, part: &PartFacts) -> String {
    let PartFacts { documents, tokens, text_bytes, shards } = part;
    let per_token = *text_bytes as f64 / (*tokens).max(1) as f64;
    let shards = shards.len();
    format!(
        "{name:<10} {documents:>10} documents {tokens:>14} tokens {per_token:>6.3} bytes a token {shards:>5} shards"
    )
}

impl From<TokenizeError> for Failed {
    fn from(error: TokenizeError) -> Failed {
        let class = match &error {
            TokenizeError::MadeOtherwise { .. }
            | TokenizeError::NotEmpty { .. }
            | TokenizeError::Fraction { .. }
            | TokenizeError::ShardSize { .. } => ErrorClass::Config,
            TokenizeError::Write { .. } | TokenizeError::Busy { .. } => ErrorClass::Resource,
            _ => ErrorClass::Data,
        };
        Failed::new(class, &error, error.hint())
    }
}
