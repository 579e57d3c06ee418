//! Import: a folder of Hugging Face's becomes one that a study can start from, its tensors in one f32 file, with a
//! note of where they come from and what they have cost.

use std::fs;
use std::path::Path;

use engine::{Flops, ModelShape, Tokens};
use serde::{Deserialize, Serialize};

use super::stored::in_order;
use super::tensors::{Tensors, read};
use super::{CONFIG_FILE, INDEX_FILE, MODEL_FILE, TOKENIZER_FILES, config, shards};
use crate::TrainError;
use crate::storage::hash_of_file;
use crate::storage::tensor_file::{Pending, write_tensors};
use crate::storage::{failing, read_json, write_folder, write_json};

/// Where an import leaves its note.
pub(crate) const IMPORT_FILE: &str = "import.json";

/// What an import is asked for.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Rows that the token table is to have; `None` = as many as there are.
    pub vocabulary: Option<usize>,
    /// What the model has cost before.
    pub sunk_cost: SunkCost,
}

/// What a model has cost before anything here was trained, as far as its importer knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SunkCost {
    /// FLOPs.
    pub flops: Option<Flops>,
    /// Tokens.
    pub tokens: Option<Tokens>,
}

impl SunkCost {
    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.flops.is_none() && self.tokens.is_none()
    }
}

/// `import.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// Version of this program.
    pub sapwood: String,
    /// The folder, as it was named.
    pub from: String,
    /// Every file that was read there.
    pub files: Vec<ImportedFile>,
    /// Rows of the token table that were added, each the mean of those that were there.
    pub added_rows: usize,
    /// What the model has cost before.
    pub sunk_cost: SunkCost,
}

impl Imported {
    /// The note beside a model's file, if there is one.
    ///
    /// # Errors
    /// A note that cannot be read.
    pub(crate) fn beside(file: &Path) -> Result<Option<Imported>, TrainError> {
        let note = file.with_file_name(IMPORT_FILE);
        note.is_file().then(|| read_json(&note)).transpose()
    }
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedFile {
    /// Its name.
    pub name: String,
    /// Its hash, as `sha256sum` prints it.
    pub sha256: String,
}

/// Reads `from` and writes `to`, which must not be there yet; answers the note and the model's shape.
///
/// # Errors
/// A folder that holds no GPT-2 that is implemented here, or a disk that cannot be written.
pub fn import(from: &Path, to: &Path, wanted: &Import) -> Result<(Imported, ModelShape), TrainError> {
    let mut config = config::read(from)?;
    let shards = shards::find(from)?;
    let mut tensors = read(&shards, &config.shape)?;
    let added_rows = pad(from, &mut config.shape, &mut tensors, wanted.vocabulary)?;
    let others = [CONFIG_FILE, INDEX_FILE].iter().chain(&TOKENIZER_FILES).map(|name| from.join(name));
    let mut files = Vec::new();
    for path in shards.files.iter().cloned().chain(others.filter(|path| path.is_file())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push(ImportedFile { name, sha256: hash_of_file(&path)? });
    }
    let imported = Imported {
        sapwood: env!("CARGO_PKG_VERSION").into(),
        from: from.display().to_string(),
        files,
        added_rows,
        sunk_cost: wanted.sunk_cost,
    };
    write_folder(to, |folder| {
        write_model(folder, &config.shape, &tensors)?;
        write_json(&folder.join(CONFIG_FILE), &config::written(&config))?;
        copy_tokenizer(from, folder)?;
        write_json(&folder.join(IMPORT_FILE), &imported)
    })?;
    Ok((imported, config.shape))
}

/// Adds rows to the token table; answers how many. A row of zeros would give its token the logit 0, which beats every
/// true one of a trained GPT-2 (theirs lie far below); the mean row's logit is the mean logit, as unlikely as most.
fn pad(
    from: &Path,
    shape: &mut ModelShape,
    tensors: &mut Tensors,
    rows: Option<usize>,
) -> Result<usize, TrainError> {
    let (has, Some(needs)) = (shape.vocabulary, rows) else { return Ok(0) };
    if needs < has || needs > 1 << 24 {
        return Err(TrainError::Unfit {
            path: from.to_path_buf(),
            reason: format!("has {has} tokens, which cannot become {needs}"),
            hint: format!("give `--vocabulary` at least {has}, or leave it out"),
        });
    }
    if let Some(table) = tensors.get_mut("transformer.wte.weight") {
        let mut sums = vec![0f64; shape.width];
        for row in table.chunks_exact(shape.width) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let mean: Vec<f32> = sums.into_iter().map(|sum| (sum / has as f64) as f32).collect();
        (has..needs).for_each(|_| table.extend_from_slice(&mean));
    }
    shape.vocabulary = needs;
    Ok(needs - has)
}

/// Writes `model.safetensors`; answers its hash.
pub(crate) fn write_model(
    folder: &Path,
    shape: &ModelShape,
    tensors: &Tensors,
) -> Result<String, TrainError> {
    let pending = in_order(shape).into_iter().map(|(name, sizes)| {
        let values = tensors.get(&name).ok_or_else(|| TrainError::Internal(format!("lost {name}")))?;
        Ok(Pending { name, shape: sizes, read: Box::new(move || Ok(values.clone())) })
    });
    let pending = pending.collect::<Result<Vec<_>, TrainError>>()?;
    // transformers takes no file that does not say which framework's layout it has.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    write_tensors(&folder.join(MODEL_FILE), &pending, Some(metadata))
}

/// Copies whatever files of a tokenizer there are; answers their names.
pub(crate) fn copy_tokenizer(from: &Path, to: &Path) -> Result<Vec<&'static str>, TrainError> {
    let there = TOKENIZER_FILES.into_iter().filter(|name| from.join(name).is_file());
    let copied = there.map(|name| {
        fs::copy(from.join(name), to.join(name)).map_err(failing("copy", &from.join(name)))?;
        Ok(name)
    });
    copied.collect()
}
