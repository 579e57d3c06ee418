//! `sapwood sample`: a model writes, token by token. Also how `eval` gets its model.

use std::process::ExitCode;

use engine_native::Cpu;
use inference::{Generation, Model, Sampling, Tokenizer};
use trainer::ErrorClass;
use trainer::hugging_face::StoredModel;

use crate::Outcome;
use crate::args::SampleArgs;
use crate::failure::Failed;
use crate::output::piece;
use crate::texts;

pub(crate) fn sample(args: &SampleArgs) -> Outcome {
    let stored = StoredModel::open(&args.checkpoint)?;
    let tokenizer = texts::tokenizer(args.tokenizer.as_deref(), &stored)?.filter(|_| !args.ids);
    if !args.ids && tokenizer.is_none() {
        let hint = "name one, such as `--tokenizer gpt2`, or give `--ids` and the prompt as token ids";
        return Err(texts::no_tokenizer(&args.checkpoint, hint));
    }
    let model = on_processor(stored)?;
    let prompt = args.prompt.as_deref().unwrap_or("\n");
    let prompt = match &tokenizer {
        Some(tokenizer) => encoded(prompt, &**tokenizer)?,
        None => ids(prompt)?,
    };
    let SampleArgs { temperature, top_k, top_p, .. } = *args;
    let mut generation =
        Generation::after(&model, &prompt, Sampling { temperature, top_k, top_p }, args.seed);
    if !args.ids {
        piece(args.prompt.as_deref().unwrap_or_default().as_bytes());
    }
    for number in 0..args.tokens {
        let token = generation.next_token()?;
        match (&tokenizer, number) {
            (Some(tokenizer), _) => piece(&tokenizer.bytes_of(token)),
            (None, 0) => piece(token.to_string().as_bytes()),
            (None, _) => piece(format!(" {token}").as_bytes()),
        }
    }
    piece(b"\n");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn on_processor(stored: StoredModel) -> Result<Model<Cpu>, Failed> {
    Ok(Model::new(Cpu::new(), &stored.shape, stored.tensors)?)
}

fn encoded(text: &str, tokenizer: &dyn Tokenizer) -> Result<Vec<u32>, Failed> {
    match tokenizer.encode(text) {
        Ok(ids) if !ids.is_empty() => Ok(ids),
        Err(reason) => Err(Failed::new(ErrorClass::Data, reason, "give another prompt")),
        Ok(_) => Err(Failed::new(
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
