//! What makes tokens of texts for `sample`, `eval` and suites during training: named by the user, or bytes where the model's
//! tokens are bytes.

use std::path::Path;

use data::{Tokenizer as Vocabulary, TokenizerIdentity};
use inference::{Bytes, Tokenizer};
use trainer::ErrorClass;
use trainer::hugging_face::{Origin, StoredModel};

use crate::failure::Failed;

/// A tokenizer of the data's, as models are asked with it.
struct Named(Box<dyn Vocabulary>);

impl Tokenizer for Named {
    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let mut ids = Vec::new();
        self.0.encoder().encode(text, &mut ids).map_err(|error| error.to_string())?;
        Ok(ids)
    }

    fn bytes_of(&self, id: u32) -> Vec<u8> {
        self.0.decode(&[id]).unwrap_or_default()
    }
}

/// A model whose tokens are not known here takes ids as they are.
pub(crate) struct OnlyIds;

impl Tokenizer for OnlyIds {
    fn encode(&self, _: &str) -> Result<Vec<u32>, String> {
        Err("has a text, and what makes the model's tokens is not known: give token ids, or name a tokenizer"
            .into())
    }

    fn bytes_of(&self, _: u32) -> Vec<u8> {
        Vec::new()
    }
}

/// A tokenizer that was found by its name.
pub(crate) struct Found {
    pub(crate) tokenizer: Box<dyn Tokenizer>,
    /// Hash of its vocabulary.
    pub(crate) sha256: String,
}

/// Why a tokenizer is none for a model.
pub(crate) struct Refused {
    pub(crate) reason: String,
    pub(crate) hint: String,
}

/// The one of that name, for a model with so many ids.
pub(crate) fn vocabulary(name: &str, rows: usize) -> Result<Found, Refused> {
    let found = data::tokenizer(name);
    let found = found.map_err(|error| Refused { reason: error.to_string(), hint: error.hint() })?;
    let (ids, sha256) = (found.identity().vocabulary, found.identity().sha256.clone());
    if ids as usize > rows {
        return Err(Refused {
            reason: format!("the tokenizer `{name}` has {ids} ids, the model {rows}"),
            hint: "name the tokenizer that the model was trained with".into(),
        });
    }
    Ok(Found { tokenizer: Box::new(Named(found)), sha256 })
}

/// The one of that name, else the one that the model's data was made with; `None` where that is not known or not here.
pub(crate) fn tokenizer(
    name: Option<&str>,
    stored: &StoredModel,
) -> Result<Option<Box<dyn Tokenizer>>, Failed> {
    let Some(name) = name else { return Ok(own_tokenizer(stored)) };
    match vocabulary(name, stored.shape.vocabulary) {
        Ok(found) => Ok(Some(found.tokenizer)),
        Err(refused) => Err(Failed::new(ErrorClass::Data, refused.reason, refused.hint)),
    }
}

/// Of a run what its data tells; of a folder its `tokenizer.json`, or bytes where the vocabulary is theirs.
fn own_tokenizer(stored: &StoredModel) -> Option<Box<dyn Tokenizer>> {
    match &stored.origin {
        Origin::Run { file, .. } => known(&file.tokenizer()?),
        Origin::Folder { folder, .. } => {
            let there = folder.join("tokenizer.json").to_str().and_then(|path| data::tokenizer(path).ok());
            let rows = stored.shape.vocabulary;
            match there.filter(|found| found.identity().vocabulary as usize <= rows) {
                Some(found) => Some(Box::new(Named(found))),
                None => (rows == 256).then(|| Box::new(Bytes) as Box<dyn Tokenizer>),
            }
        }
    }
}

/// The tokenizer that some data was made with, where it is here.
pub(crate) fn known(made_by: &TokenizerIdentity) -> Option<Box<dyn Tokenizer>> {
    let found = data::tokenizer(&made_by.name).ok()?;
    (found.identity().sha256 == made_by.sha256).then(|| Box::new(Named(found)) as Box<dyn Tokenizer>)
}

pub(crate) fn no_tokenizer(checkpoint: &Path, hint: &str) -> Failed {
    let message = format!(
        "what makes the tokens of {} is not known, and no `--tokenizer` is named",
        checkpoint.display()
    );
    Failed::new(ErrorClass::Data, message, hint)
}
