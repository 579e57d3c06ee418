//! Export: a model becomes a folder that transformers loads, with a tokenizer where one is at hand, and a card that
//! says what the model is and how it was made.

use std::path::Path;

use data::{Tokenizer, TokenizerIdentity};
use engine::ModelShape;
use serde_json::{Value, json};

use super::config::{ModelConfig, written};
use super::import::{copy_tokenizer, write_model};
use super::{CONFIG_FILE, Origin, StoredModel, card};
use crate::TrainError;
use crate::folder::binding::RunFile;
use crate::storage::{write_folder, write_json, write_whole};

/// What an export has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The model.
    pub shape: ModelShapeFacts,
    /// Hash of its tensors' file.
    pub sha256: String,
    /// What stands there of a tokenizer, in words.
    pub tokenizer: String,
}

/// The measures of a model that people ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelShapeFacts {
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Parameters, the tied head counted once.
    pub parameters: u64,
}

/// Writes `to`, which must not be there yet.
///
/// # Errors
/// A model that GPT-2's configuration cannot describe, or a disk that cannot be written.
pub fn export(model: &StoredModel, to: &Path) -> Result<Exported, TrainError> {
    let shape = describable(model, to)?;
    let mut sha256 = String::new();
    let mut tokenizer = String::new();
    write_folder(to, |folder| {
        let separator;
        (tokenizer, separator) = write_tokenizer(model, folder)?;
        let special_tokens = separator.map_or(model.special_tokens, |id| [Some(id), Some(id)]);
        sha256 = write_model(folder, &shape, &model.tensors)?;
        let config = ModelConfig { shape: shape.clone(), special_tokens };
        write_json(&folder.join(CONFIG_FILE), &written(&config))?;
        write_json(&folder.join("generation_config.json"), &generation(special_tokens))?;
        let text = card::render(model, &sha256, &tokenizer)?;
        write_whole(&folder.join("README.md"), text.as_bytes())
    })?;
    let facts = ModelShapeFacts {
        layers: shape.layers,
        width: shape.width,
        parameters: shape.parameters(shape.layers),
    };
    Ok(Exported { shape: facts, sha256, tokenizer })
}

/// The shape without what GPT-2's configuration has no field for.
fn describable(model: &StoredModel, to: &Path) -> Result<ModelShape, TrainError> {
    let shape = &model.shape;
    if shape.attention_width() != shape.width {
        let (heads, head, width) = (shape.heads, shape.head_width(), shape.width);
        return Err(TrainError::Unfit {
            path: to.to_path_buf(),
            reason: format!("cannot hold {heads} heads of {head} in a width of {width}: GPT-2's fill it"),
            hint: "export a checkpoint from after the model has its whole width".into(),
        });
    }
    if shape.layers == 0 {
        return Err(TrainError::Unfit {
            path: to.to_path_buf(),
            reason: "cannot hold a model without blocks".into(),
            hint: "export a checkpoint from after the first block was inserted".into(),
        });
    }
    Ok(ModelShape { head_width: None, ..shape.clone() })
}

fn generation([begin, end]: [Option<u32>; 2]) -> Value {
    json!({ "_from_model_config": true, "bos_token_id": begin, "eos_token_id": end, "use_cache": true })
}

/// What stands there of a tokenizer, in words, and the id between documents where it is known from a run's data.
fn write_tokenizer(model: &StoredModel, folder: &Path) -> Result<(String, Option<u32>), TrainError> {
    match &model.origin {
        Origin::Folder { folder: from, .. } => {
            let copied = copy_tokenizer(from, folder)?;
            let words = match copied[..] {
                [] => "none: the model's source folder had none; use the one that it was trained with".into(),
                _ => format!("as its source folder had it ({})", copied.join(", ")),
            };
            Ok((words, None))
        }
        Origin::Run { file, .. } => match tokenizer_of_run(file, model.shape.vocabulary) {
            Ok(tokenizer) => {
                write_tokenizer_of_run(&*tokenizer, model.shape.context, folder)?;
                let TokenizerIdentity { name, sha256, .. } = tokenizer.identity();
                let words = match name.as_str() {
                    "bytes" => "bytes: a token is a byte, its id the byte's value".into(),
                    _ => format!("{name}, sha256 {sha256}"),
                };
                Ok((words, tokenizer.separator()))
            }
            Err(none) => Ok((none, None)),
        },
    }
}

/// What made the ids of a run, or why it cannot be given along.
fn tokenizer_of_run(file: &RunFile, vocabulary: usize) -> Result<Box<dyn Tokenizer>, String> {
    let Some(made_by) = file.tokenizer() else {
        return Err("none: the data does not tell what made its ids; use the tokenizer that did".into());
    };
    // A model of ASCII need not have a row for every byte; `transformers` would give it ids that it has not.
    if made_by.vocabulary as usize > vocabulary {
        let (name, ids) = (made_by.name, made_by.vocabulary);
        return Err(format!("none: {name} has {ids} ids, and the model {vocabulary}"));
    }
    match data::tokenizer(&made_by.name) {
        Ok(found) if found.identity().sha256 == made_by.sha256 => Ok(found),
        _ => Err(format!("none: {} (sha256 {}) was not there; use that", made_by.name, made_by.sha256)),
    }
}

fn write_tokenizer_of_run(
    tokenizer: &dyn Tokenizer,
    context: usize,
    folder: &Path,
) -> Result<(), TrainError> {
    write_whole(&folder.join("tokenizer.json"), &tokenizer.file())?;
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": false,
    });
    let separator = tokenizer.separator().and_then(|id| tokenizer.decode(&[id]));
    if let Some(text) = separator.and_then(|bytes| String::from_utf8(bytes).ok()) {
        for role in ["bos_token", "eos_token", "unk_token"] {
            config[role] = text.clone().into();
        }
    }
    write_json(&folder.join("tokenizer_config.json"), &config)
}
