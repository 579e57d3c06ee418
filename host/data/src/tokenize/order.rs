//! What is asked for, and whether a folder holds it already, is to be begun, or was begun with something else.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{TokenizeError, part, whole};
use crate::file::read_whole;
use crate::shards::manifest::{LARGEST_BYTES, Manifest, Recipe};
use crate::texts::{Input, Kind, Rules};
use crate::tokenizer::{Tokenizer, TokenizerIdentity};

/// What of which texts, by which tokenizer, where to.
#[derive(Clone, Debug)]
pub struct TokenizeOrder {
    /// Files, and folders of files.
    pub inputs: Vec<PathBuf>,
    /// What all of them are, whatever their names say.
    pub all_are: Option<Kind>,
    /// What of a file is a text.
    pub texts: Rules,
    /// `bytes`, `gpt2` or a `tokenizer.json`.
    pub tokenizer: String,
    /// What stands before each document.
    pub separator: Separator,
    /// The share of documents that goes to validation, by a hash of their text: the same text always to the same side.
    pub validation_fraction: f64,
    /// Ids of a shard, but for the last.
    pub tokens_per_shard: u64,
    /// Leaves documents out that cannot be read, and counts them.
    pub skip_bad: bool,
    /// The folder.
    pub out: PathBuf,
    /// How many units are worked on at a time.
    pub threads: usize,
}

/// What stands before each document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Separator {
    /// What is usual for the tokenizer.
    Usual,
    /// Nothing.
    None,
    /// A token, by its text or its id.
    Token(String),
}

impl TokenizeOrder {
    /// All that the ids depend on, but the texts and the tokenizer.
    pub(super) fn recipe(&self, tokenizer: &dyn Tokenizer) -> Result<Recipe, TokenizeError> {
        let (fraction, tokens) = (self.validation_fraction, self.tokens_per_shard);
        if !(0.0..1.0).contains(&fraction) {
            return Err(TokenizeError::Fraction { fraction });
        }
        if tokens == 0 {
            return Err(TokenizeError::ShardSize { tokens });
        }
        let separator = match &self.separator {
            Separator::Usual => tokenizer.separator(),
            Separator::None => None,
            Separator::Token(token) => Some(token_of(tokenizer, token)?),
        };
        Ok(Recipe {
            separator,
            validation_fraction: fraction,
            texts: self.texts.clone(),
            tokens_per_shard: tokens,
            skip_bad: self.skip_bad,
        })
    }
}

fn token_of(tokenizer: &dyn Tokenizer, token: &str) -> Result<u32, TokenizeError> {
    let identity = tokenizer.identity();
    let by_number = || token.parse().ok().filter(|id| *id < identity.vocabulary);
    tokenizer.id_of(token).or_else(by_number).ok_or_else(|| TokenizeError::NoSeparator {
        tokenizer: identity.name.clone(),
        separator: token.into(),
    })
}

/// What a folder is begun with, until it is finished.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Begun {
    inputs: Vec<Input>,
    tokenizer: TokenizerIdentity,
    recipe: Recipe,
}

/// What a folder is.
pub(super) enum Claimed {
    /// It holds all of it.
    Finished(Box<Manifest>),
    /// It holds none or some of it, and is ours as long as this is held.
    Open(File),
}

/// Looks at the folder, and makes it where it is not there.
pub(super) fn claim(
    out: &Path,
    inputs: &[Input],
    tokenizer: &TokenizerIdentity,
    recipe: &Recipe,
) -> Result<Claimed, TokenizeError> {
    let otherwise =
        |difference: &str| TokenizeError::MadeOtherwise { folder: out.into(), difference: difference.into() };
    if let Some(manifest) = Manifest::of(out)? {
        let sizes = |input: &Input| (input.path.clone(), input.bytes);
        let were = manifest.inputs.iter().map(|facts| (facts.path.clone(), facts.bytes));
        let same_inputs = were.eq(inputs.iter().map(sizes));
        return match difference(same_inputs, &manifest.tokenizer, &manifest.recipe, tokenizer, recipe) {
            None => Ok(Claimed::Finished(Box::new(manifest))),
            Some(difference) => Err(otherwise(difference)),
        };
    }
    let parts = part::folder(out);
    refuse_foreign_files(out, &parts)?;
    fs::create_dir_all(&parts).map_err(|source| TokenizeError::Write { path: parts.clone(), source })?;
    let lock = lock(out, &parts)?;
    let path = parts.join("begun.json");
    let begun = Begun { inputs: inputs.to_vec(), tokenizer: tokenizer.clone(), recipe: recipe.clone() };
    // One that cannot be read was cut off by a crash before anything else was written.
    match read_whole(&path, LARGEST_BYTES).ok().and_then(|text| serde_json::from_slice::<Begun>(&text).ok()) {
        Some(was) => {
            let same_inputs = was.inputs == begun.inputs;
            match difference(same_inputs, &was.tokenizer, &was.recipe, tokenizer, recipe) {
                None => {}
                Some(difference) => return Err(otherwise(difference)),
            }
        }
        None => {
            let json = serde_json::to_vec_pretty(&begun).expect("only plain values");
            whole::write(&path, &json)?;
        }
    }
    Ok(Claimed::Open(lock))
}

/// In what two orders differ.
fn difference(
    same_inputs: bool,
    was_tokenizer: &TokenizerIdentity,
    was: &Recipe,
    tokenizer: &TokenizerIdentity,
    recipe: &Recipe,
) -> Option<&'static str> {
    let same = [
        (same_inputs, "of other inputs"),
        (was_tokenizer.sha256 == tokenizer.sha256, "by another tokenizer"),
        (was.separator == recipe.separator, "with another separator"),
        (was.validation_fraction == recipe.validation_fraction, "with another share of validation"),
        (was.texts == recipe.texts, "with other rules for what is a document"),
        (was.tokens_per_shard == recipe.tokens_per_shard, "with shards of another size"),
        (was.skip_bad == recipe.skip_bad, "with another rule for documents that cannot be read"),
    ];
    same.into_iter().find_map(|(same, difference)| (!same).then_some(difference))
}

/// Nothing is written among files that are not of this work.
fn refuse_foreign_files(out: &Path, parts: &Path) -> Result<(), TokenizeError> {
    if parts.exists() {
        return Ok(());
    }
    let Ok(mut entries) = fs::read_dir(out) else { return Ok(()) };
    match entries.find_map(Result::ok) {
        None => Ok(()),
        Some(entry) => Err(TokenizeError::NotEmpty {
            folder: out.into(),
            example: entry.file_name().to_string_lossy().into_owned(),
        }),
    }
}

/// Two at work in one folder would take each other's files away.
fn lock(out: &Path, parts: &Path) -> Result<File, TokenizeError> {
    let path = parts.join("lock");
    let refused = |source| TokenizeError::Write { path: path.clone(), source };
    let file = File::create(&path).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TokenizeError::Busy { folder: out.into() }),
        Err(TryLockError::Error(source)) => Err(refused(source)),
    }
}
