//! What makes tokens of texts for `sample` and `eval`: named on the command line, or bytes where the model's tokens are bytes.

use std::path::Path;

use data::Tokenizer as Vocabulary;
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

/// The one of that name, else the one that the model's data was made with; `None` where that is not known or not here.
pub(crate) fn tokenizer(
    name: Option<&str>,
    stored: &StoredModel,
) -> Result<Option<Box<dyn Tokenizer>>, Failed> {
    let Some(name) = name else { return Ok(own_tokenizer(stored)) };
    let found = data::tokenizer(name)?;
    let (ids, rows) = (found.identity().vocabulary, stored.shape.vocabulary);
    if ids as usize > rows {
        let message = format!("the tokenizer `{name}` has {ids} ids, the model {rows}");
        return Err(Failed::new(
            ErrorClass::Data,
            message,
            "name the tokenizer that the model was trained with",
        ));
    }
    Ok(Some(Box::new(Named(found))))
}

/// Of a run what its data tells; of a folder its `tokenizer.json`, or bytes where the vocabulary is theirs.
fn own_tokenizer(stored: &StoredModel) -> Option<Box<dyn Tokenizer>> {
    let fits = |found: &Box<dyn Vocabulary>| found.identity().vocabulary as usize <= stored.shape.vocabulary;
    match &stored.origin {
        Origin::Run { file, .. } => {
            let made_by = file.tokenizer()?;
            let found = data::tokenizer(&made_by.name).ok()?;
            (found.identity().sha256 == made_by.sha256).then(|| Box::new(Named(found)) as Box<dyn Tokenizer>)
        }
        Origin::Folder { folder, .. } => {
            let there = folder.join("tokenizer.json").to_str().and_then(|path| data::tokenizer(path).ok());
            match there.filter(fits) {
                Some(found) => Some(Box::new(Named(found))),
                None => (stored.shape.vocabulary == 256).then(|| Box::new(Bytes) as Box<dyn Tokenizer>),
            }
        }
    }
}

pub(crate) fn no_tokenizer(checkpoint: &Path, hint: &str) -> Failed {
    let message =
        format!("{} has tokens that are no bytes, and no `--tokenizer` is named", checkpoint.display());
    Failed::new(ErrorClass::Data, message, hint)
}
