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

/// The one of that name, or bytes for a model of bytes; `None` where neither is.
pub(crate) fn tokenizer(
    name: Option<&str>,
    stored: &StoredModel,
) -> Result<Option<Box<dyn Tokenizer>>, Failed> {
    let Some(name) = name else {
        return Ok(reads_bytes(stored).then(|| Box::new(Bytes) as Box<dyn Tokenizer>));
    };
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

/// Whether the model's tokens are bytes: its run has read text, or its vocabulary is theirs.
fn reads_bytes(stored: &StoredModel) -> bool {
    match &stored.origin {
        Origin::Run { file, .. } => file.reads_bytes(),
        Origin::Folder { .. } => stored.shape.vocabulary == 256,
    }
}

pub(crate) fn no_tokenizer(checkpoint: &Path, hint: &str) -> Failed {
    let message =
        format!("{} has tokens that are no bytes, and no `--tokenizer` is named", checkpoint.display());
    Failed::new(ErrorClass::Data, message, hint)
}
