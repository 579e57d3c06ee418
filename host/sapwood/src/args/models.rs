//! What models are taken in, taken home, sampled and judged with.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::Flops;

use super::at_least_one;

pub(super) const IMPORT_HELP: &str = "\
Example: sapwood import gpt2 --out models/gpt2 --vocabulary 50304 --sunk-tokens 10000000000

The folder holds config.json and model.safetensors, or several files with an index; f32, bf16 or f16. A vocabulary of 50,257 \
is not made larger unless asked for: each added row is the mean of all others.
Exit codes: 0 imported · 4 no GPT-2 that is implemented here · 8 a file cannot be read or written";

pub(super) const EXPORT_HELP: &str = "\
Example: sapwood export runs/quickstart/runs/stack/compute/seed-1 --out stacked

Of a run, its newest checkpoint. Gates are multiplied into the weights, so that a plain GPT-2 gives the same logits.
Exit codes: 0 exported · 3 a folder holds no run · 4 no model, or one that GPT-2's config.json cannot describe · 8 disk";

pub(super) const SAMPLE_HELP: &str = "\
Example: sapwood sample runs/quickstart/runs/stack/compute/seed-1 --prompt 'It is a truth' --tokens 200

Where it is not known what makes the model's tokens, give --tokenizer, or --ids: the prompt is then numbers, and so is what is \
written.
Exit codes: 0 written · 3 a folder holds no run · 4 no model, or a prompt that it cannot read · 8 a file cannot be read";

pub(super) const EVAL_HELP: &str = "\
Example: sapwood eval models/gpt2 --suite hellaswag_val.ids.jsonl --kind multiple-choice --items choices.jsonl

One JSON object a line: {\"ctx\", \"endings\", \"label\"} · {\"text\"} for lambada and text. Any text but lambada's may be a list \
of token ids instead. docs/evaluations.md says how each number is made and where suites come from.
Exit codes: 0 judged · 3 a folder holds no run · 4 no model, or a suite that makes no sense · 8 a file cannot be read or written";

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A folder that `save_pretrained` wrote
    #[arg(value_name = "HF_DIR")]
    pub(crate) from: PathBuf,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Token ids that the model is to have, such as 50304 [default: as many as it has]
    #[arg(long, value_name = "N")]
    pub(crate) vocabulary: Option<usize>,
    /// FLOPs that its training has cost before, such as 2.5e20; reports show costs with and without
    #[arg(long, value_name = "FLOPS", value_parser = flops)]
    pub(crate) sunk_flops: Option<Flops>,
    /// Tokens that it has been trained on before
    #[arg(long, value_name = "N")]
    pub(crate) sunk_tokens: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A run's folder, one of its checkpoints, or an imported folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// The folder to make
    #[arg(long, value_name = "HF_DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// A run's folder, one of its checkpoints, or a folder of Hugging Face's
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// What it goes on from [default: a line's end]
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// The prompt is token ids, and so is the result
    #[arg(long, requires = "prompt", conflicts_with = "tokenizer")]
    pub(crate) ids: bool,
    /// What makes tokens of texts: bytes, gpt2, or a tokenizer.json [default: that of the run's data, or of
    /// the model's folder]
    #[arg(long, value_name = "NAME")]
    pub(crate) tokenizer: Option<String>,
    /// Tokens to write
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) tokens: usize,
    /// Logits are divided by it; 0 takes the most probable token each time
    #[arg(long, default_value_t = 1.0, value_name = "T", value_parser = temperature, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Draw from the K most probable tokens alone
    #[arg(long, value_name = "K", value_parser = at_least_one)]
    pub(crate) top_k: Option<usize>,
    /// Draw from the fewest tokens that have probability P together
    #[arg(long, value_name = "P", value_parser = share)]
    pub(crate) top_p: Option<f64>,
    /// Same seed, same text
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// A run's folder, one of its checkpoints, or a folder of Hugging Face's
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// The suite's file
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) suite: PathBuf,
    /// What is asked
    #[arg(long, value_enum)]
    pub(crate) kind: SuiteKind,
    /// What makes tokens of texts: bytes, gpt2, or a tokenizer.json [default: that of the run's data, or of
    /// the model's folder]
    #[arg(long, value_name = "NAME")]
    pub(crate) tokenizer: Option<String>,
    /// Write what came of each item into this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) items: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SuiteKind {
    /// The most probable of several endings (HellaSwag)
    MultipleChoice,
    /// The last word of a passage
    Lambada,
    /// Loss, perplexity and bits per byte
    Text,
}

impl From<SuiteKind> for trainer::SuiteKind {
    fn from(kind: SuiteKind) -> trainer::SuiteKind {
        match kind {
            SuiteKind::MultipleChoice => trainer::SuiteKind::MultipleChoice,
            SuiteKind::Lambada => trainer::SuiteKind::Lambada,
            SuiteKind::Text => trainer::SuiteKind::Text,
        }
    }
}

/// A whole number, or one such as 2.5e20.
fn flops(text: &str) -> Result<Flops, String> {
    if let Ok(whole) = text.parse() {
        return Ok(Flops(whole));
    }
    let number = text.parse::<f64>().ok().filter(|number| *number >= 0.0 && *number < 1e30);
    number.map(|number| Flops(number as u128)).ok_or_else(|| "a number of FLOPs, such as 2.5e20".into())
}

fn temperature(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1e6).contains(number));
    number.ok_or_else(|| "a number from 0".into())
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= 1.0);
    number.ok_or_else(|| "a number above 0, at most 1".into())
}
