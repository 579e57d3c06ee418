//! Export: a model becomes a folder that transformers loads, with a tokenizer where one is at hand, and a card that
//! says what the model is and how it was made.

use std::path::Path;

use data::DataConfig;
use engine::ModelShape;
use serde_json::{Map, Value, json};

use super::config::{ModelConfig, written};
use super::import::{copy_tokenizer, write_model};
use super::{CONFIG_FILE, Origin, StoredModel, card};
use crate::TrainError;
use crate::folder::{write_folder, write_json, write_whole};

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
    let config = ModelConfig { shape: shape.clone(), special_tokens: model.special_tokens };
    write_folder(to, |folder| {
        sha256 = write_model(folder, &shape, &model.tensors)?;
        write_json(&folder.join(CONFIG_FILE), &written(&config))?;
        write_json(&folder.join("generation_config.json"), &generation(model.special_tokens))?;
        tokenizer = write_tokenizer(model, folder)?;
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

fn write_tokenizer(model: &StoredModel, folder: &Path) -> Result<String, TrainError> {
    match &model.origin {
        Origin::Folder { folder: from, .. } => {
            let copied = copy_tokenizer(from, folder)?;
            Ok(match copied[..] {
                [] => "none: the model's source folder had none; use the one that it was trained with".into(),
                _ => format!("as its source folder had it ({})", copied.join(", ")),
            })
        }
        Origin::Run { file, .. } => match file.config.data {
            DataConfig::Text { .. } if model.shape.vocabulary >= 256 => {
                write_json(&folder.join("tokenizer.json"), &byte_tokenizer())?;
                let config = json!({
                    "tokenizer_class": "PreTrainedTokenizerFast",
                    "model_max_length": model.shape.context,
                    "clean_up_tokenization_spaces": false,
                });
                write_json(&folder.join("tokenizer_config.json"), &config)?;
                Ok("bytes: a token is a byte, its id the byte's value".into())
            }
            _ => Ok("none: the run read token ids and not text; use the tokenizer that made them".into()),
        },
    }
}

/// Byte-level BPE without a merge: each byte stands for itself, under the character that GPT-2's scheme gives it.
fn byte_tokenizer() -> Value {
    let vocabulary: Map<String, Value> = byte_characters()
        .into_iter()
        .enumerate()
        .map(|(byte, name)| (name.to_string(), byte.into()))
        .collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    });
    json!({
        "version": "1.0",
        "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "post_processor": null,
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [],
        },
    })
}

/// GPT-2's names of bytes: printable ones by themselves, all others from U+0100 on in order.
fn byte_characters() -> Vec<char> {
    let mut next = 0x100;
    let name = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            let name = char::from_u32(next).unwrap_or(char::REPLACEMENT_CHARACTER);
            next += 1;
            name
        }
    };
    (0..=u8::MAX).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_names_that_gpt2_gives_them() {
        let names = byte_characters();
        // 'Ġ' and 'Ċ', as in every vocab.json of GPT-2.
        assert_eq!((names[b' ' as usize], names[b'\n' as usize], names[b'a' as usize]), ('Ġ', 'Ċ', 'a'));
        let all: std::collections::BTreeSet<char> = names.iter().copied().collect();
        assert_eq!(all.len(), 256);
    }
}
