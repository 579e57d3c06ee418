//! `sapwood sample`: a model writes, token by token. Also how `eval` gets its model and its tokenizer.

use std::path::Path;
use std::process::ExitCode;

use engine_native::Cpu;
use inference::{Bytes, Generation, Model, Sampling, Tokenizer};
use trainer::ErrorClass;
use trainer::hugging_face::{Origin, StoredModel};

use crate::Outcome;
use crate::args::SampleArgs;
use crate::failure::Failed;
use crate::output::piece;

pub(crate) fn sample(args: &SampleArgs) -> Outcome {
    let stored = StoredModel::open(&args.checkpoint)?;
    let is_bytes = reads_bytes(&stored);
    if !args.ids && !is_bytes {
        return Err(no_tokenizer(&args.checkpoint, "give `--ids` and the prompt as token ids"));
    }
    let model = on_processor(stored)?;
    let prompt = args.prompt.as_deref().unwrap_or("\n");
    let prompt = if args.ids { ids(prompt)? } else { encoded(prompt)? };
    let SampleArgs { temperature, top_k, top_p, .. } = *args;
    let mut generation =
        Generation::after(&model, &prompt, Sampling { temperature, top_k, top_p }, args.seed);
    if !args.ids {
        piece(args.prompt.as_deref().unwrap_or_default().as_bytes());
    }
    for number in 0..args.tokens {
        let token = generation.next_token()?;
        match (args.ids, number) {
            (false, _) => piece(&Bytes.bytes_of(token)),
            (true, 0) => piece(token.to_string().as_bytes()),
            (true, _) => piece(format!(" {token}").as_bytes()),
        }
    }
    piece(b"\n");
    Ok(ExitCode::SUCCESS)
}

/// Whether the model's tokens are bytes: its run has read text, or its vocabulary is theirs.
pub(super) fn reads_bytes(stored: &StoredModel) -> bool {
    match &stored.origin {
        Origin::Run { file, .. } => file.reads_bytes(),
        Origin::Folder { .. } => stored.shape.vocabulary == 256,
    }
}

pub(super) fn no_tokenizer(checkpoint: &Path, hint: &str) -> Failed {
    let message = format!(
        "{} has tokens that are no bytes, and no tokenizer for them is at hand",
        checkpoint.display()
    );
    Failed::new(ErrorClass::Data, message, hint)
}

pub(super) fn on_processor(stored: StoredModel) -> Result<Model<Cpu>, Failed> {
    Ok(Model::new(Cpu::new(), &stored.shape, stored.tensors)?)
}

fn encoded(text: &str) -> Result<Vec<u32>, Failed> {
    match Bytes.encode(text) {
        Ok(ids) if !ids.is_empty() => Ok(ids),
        _ => Err(Failed::new(
            ErrorClass::Data,
            "the prompt is empty",
            "leave `--prompt` out, or give it a text",
        )),
    }
}

fn ids(text: &str) -> Result<Vec<u32>, Failed> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    match words.map(str::parse).collect::<Result<Vec<u32>, _>>() {
        Ok(ids) if !ids.is_empty() => Ok(ids),
        _ => Err(Failed::new(
            ErrorClass::Data,
            format!("the prompt `{text}` is no list of token ids"),
            "write such as --prompt '464 2068'",
        )),
    }
}
