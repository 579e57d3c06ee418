//! GPT-2 as Hugging Face's `transformers` keeps it on disk: read as a model, written as a folder that it loads.
//!
//! Not here: downloads, tokenizers, and what a model computes.

mod card;
mod config;
mod export;
mod import;
mod shards;
mod stored;
mod tensors;

pub use export::{Exported, export};
pub use import::{Import, Imported, SunkCost, import};
pub(crate) use stored::fold_gates;
pub use stored::{Origin, StoredModel};
pub use tensors::Tensors;

/// A folder's tensors where they are in one file.
const MODEL_FILE: &str = "model.safetensors";
/// A folder's list of files where they are in several.
const INDEX_FILE: &str = "model.safetensors.index.json";
/// What a model is.
const CONFIG_FILE: &str = "config.json";
/// Whatever a tokenizer may consist of, copied as it is.
const TOKENIZER_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
];
