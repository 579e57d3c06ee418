//! `sapwood data inspect`, `verify` and `sample`: what files of token ids are, whether they are whole, what they say.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use data::{Checked, Format, Manifest, Stretch, TokenFileFacts, TokenFiles, Tokenizer, TokenizerError};
use serde::Serialize;
use trainer::{ErrorClass, TrainError};

use super::tokenize::part_line;
use super::watched;
use crate::Outcome;
use crate::args::{LookArgs, RawFormat, SampleDataArgs, VerifyDataArgs};
use crate::failure::{Failed, code_of};
use crate::output::{bytes, json_of, note_line, result_line};

fn files(args: &LookArgs) -> Result<TokenFiles, Failed> {
    let format = args.format.map(|format| match format {
        RawFormat::Uint16 => Format::RawUint16,
        RawFormat::Uint32 => Format::RawUint32,
    });
    Ok(TokenFiles::at(&args.path, format).map_err(TrainError::from)?)
}

#[derive(Serialize)]
struct Inspected {
    manifest: Option<Manifest>,
    files: Vec<TokenFileFacts>,
}

pub(super) fn inspect(args: &LookArgs) -> Outcome {
    let mut files = files(args)?;
    let manifest = files.manifest.take();
    let facts = files.facts().map_err(TrainError::from)?;
    if args.json {
        result_line!("{}", json_of(&Inspected { manifest, files: facts })?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(manifest) = &manifest {
        print_manifest(manifest);
    }
    for TokenFileFacts { path, split, tokens, bytes_per_id, bytes: size } in &facts {
        let (name, size) = (name_of(path), bytes(*size));
        let part = split.map(|split| format!("  for {split}")).unwrap_or_default();
        result_line!("{name:<28} {tokens:>14} tokens of {bytes_per_id} bytes, {size}{part}");
    }
    let tokens: u64 = facts.iter().map(|file| file.tokens).sum();
    result_line!("{:<28} {tokens:>14} tokens", format!("{} files", facts.len()));
    Ok(ExitCode::SUCCESS)
}

fn print_manifest(manifest: &Manifest) {
    let Manifest { tokenizer, recipe, inputs, skipped_documents, .. } = manifest;
    result_line!("tokenizer  {}, {} ids, sha256 {}", tokenizer.name, tokenizer.vocabulary, tokenizer.sha256);
    match recipe.separator {
        Some(id) => result_line!("separator  {id}, before each document"),
        None => result_line!("separator  none"),
    }
    let size = inputs.iter().map(|input| input.bytes).sum();
    result_line!(
        "made of    {} files, {}; {skipped_documents} documents left out",
        inputs.len(),
        bytes(size)
    );
    result_line!("{}", part_line("training", &manifest.training));
    result_line!("{}", part_line("validation", &manifest.validation));
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

pub(super) fn verify(args: &VerifyDataArgs) -> Outcome {
    let files = files(&args.of)?;
    let (all, read) = (files.bytes(), AtomicU64::new(0));
    let line = || format!("{} of {} read", bytes(read.load(Ordering::Relaxed)), bytes(all));
    let checked = watched(line, || files.verify(args.vocabulary.map(Into::into), &read));
    let damaged = checked.iter().filter(|file| file.damage.is_some()).count();
    if args.of.json {
        result_line!("{}", json_of(&checked)?);
    } else {
        for Checked { path, tokens, largest_id, damage } in &checked {
            match (damage, largest_id) {
                (Some(damage), _) => result_line!("damaged  {damage}"),
                (None, Some(id)) => {
                    result_line!("good     {}: {tokens} tokens, the largest {id}", name_of(path))
                }
                (None, None) => result_line!("good     {}: no token", name_of(path)),
            }
        }
    }
    if damaged == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    note_line!("{damaged} of {} files are damaged; copy them again, or make the folder again", checked.len());
    Ok(ExitCode::from(code_of(ErrorClass::Data)))
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    stretch: &'a Stretch,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

pub(super) fn sample(args: &SampleDataArgs) -> Outcome {
    let files = files(&args.of)?;
    let tokenizer = tokenizer_of(args, files.manifest.as_ref())?;
    let stretches = files.sample(args.count, args.tokens, args.seed).map_err(TrainError::from)?;
    let text = |stretch: &Stretch| {
        let bytes = tokenizer.as_ref()?.decode(&stretch.ids)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let shown: Vec<Shown> = stretches.iter().map(|stretch| Shown { stretch, text: text(stretch) }).collect();
    if args.of.json {
        result_line!("{}", json_of(&shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    for Shown { stretch: Stretch { path, first_token, ids }, text } in shown {
        result_line!("── {}, tokens {first_token} to {}", name_of(path), first_token + ids.len() as u64 - 1);
        match text {
            Some(text) => result_line!("{}", visible(&text)),
            None => result_line!("{}", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The named one, or the manifest's where it is the one that is meant.
fn tokenizer_of(
    args: &SampleDataArgs,
    manifest: Option<&Manifest>,
) -> Result<Option<Box<dyn Tokenizer>>, Failed> {
    if let Some(name) = &args.tokenizer {
        return Ok(Some(data::tokenizer(name)?));
    }
    let Some(made_by) = manifest.map(|manifest| &manifest.tokenizer) else { return Ok(None) };
    match data::tokenizer(&made_by.name) {
        Ok(found) if found.identity().sha256 == made_by.sha256 => Ok(Some(found)),
        _ => {
            note_line!(
                "the tokenizer {} is not here: ids are shown; `--tokenizer` names another",
                made_by.name
            );
            Ok(None)
        }
    }
}

/// Text from anywhere must not steer the terminal.
fn visible(text: &str) -> String {
    let escape = |character: char| match character {
        '\n' | '\t' => character.to_string(),
        control if control.is_control() => control.escape_default().to_string(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

impl From<TokenizerError> for Failed {
    fn from(error: TokenizerError) -> Failed {
        Failed::new(ErrorClass::Data, &error, error.hint())
    }
}
