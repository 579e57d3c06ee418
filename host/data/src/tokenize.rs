//! Shards made of texts: a folder of token ids with a manifest, which runs read as it is. The same inputs give the
//! same bytes, however many threads there are and however often the work was interrupted.
//!
//! Units of the inputs (`texts`) are worked on side by side, each into files of its own below `parts/` (`work`);
//! what is done is put together in the order of the inputs (`assembly`). Whoever starts again finds both.

mod assembly;
mod error;
mod order;
mod part;
mod shard;
mod whole;
mod work;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

pub use error::TokenizeError;
pub use order::{Separator, TokenizeOrder};

use crate::shards::manifest::{FORMAT, InputFacts, MANIFEST, Manifest, Recipe, VERSION};
use crate::stream::Width;
use crate::texts::{Input, Unit, inputs, units};
use crate::tokenizer::{Tokenizer, tokenizer};
use assembly::Assembly;
use order::{Claimed, claim};
use work::Work;

/// How far it is, for who watches.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the inputs; 0 until they are known.
    pub bytes: AtomicU64,
    /// Of these, read.
    pub bytes_read: AtomicU64,
    /// Ids made.
    pub tokens: AtomicU64,
}

/// What came of it.
#[derive(Debug)]
pub enum Tokenized {
    /// The folder is finished.
    Made(Manifest),
    /// It was there before, made of the same.
    WasThere(Manifest),
}

/// A unit, and whose it is.
struct Job<'a> {
    input: &'a Input,
    unit: Unit,
    /// About how much of the file it is, for who watches.
    bytes: u64,
}

/// Where ids of a text may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Training,
    Validation,
}

const SIDES: [Side; 2] = [Side::Training, Side::Validation];

impl Side {
    /// As files are called.
    fn word(self) -> &'static str {
        match self {
            Side::Training => "train",
            Side::Validation => "val",
        }
    }
}

/// Makes the folder, or goes on with it.
///
/// # Errors
/// What is wrong with an input, the first in their order; a folder that holds something else; what a disk can do.
pub fn tokenize(order: &TokenizeOrder, progress: &Progress) -> Result<Tokenized, TokenizeError> {
    let tokenizer = tokenizer(&order.tokenizer)?;
    let recipe = order.recipe(&*tokenizer)?;
    let inputs = inputs(&order.inputs, order.all_are)?;
    progress.bytes.store(inputs.iter().map(|input| input.bytes).sum(), Ordering::Relaxed);
    match claim(&order.out, &inputs, tokenizer.identity(), &recipe)? {
        Claimed::Finished(manifest) => {
            // They are still there where the work was broken off right behind the manifest.
            remove_parts(&order.out)?;
            Ok(Tokenized::WasThere(*manifest))
        }
        Claimed::Open(_lock) => {
            let manifest = make(order, &*tokenizer, recipe, &inputs, progress)?;
            // The last file of the folder: what has it is finished.
            let json = serde_json::to_vec_pretty(&manifest).expect("a manifest has only plain values");
            whole::write(&order.out.join(MANIFEST), &json)?;
            remove_parts(&order.out)?;
            Ok(Tokenized::Made(manifest))
        }
    }
}

fn make(
    order: &TokenizeOrder,
    tokenizer: &dyn Tokenizer,
    recipe: Recipe,
    inputs: &[Input],
    progress: &Progress,
) -> Result<Manifest, TokenizeError> {
    let mut jobs = Vec::new();
    for input in inputs {
        let units = units(input)?;
        let bytes = input.bytes / units.len().max(1) as u64;
        jobs.extend(units.into_iter().map(|unit| Job { input, unit, bytes }));
    }
    let width = if tokenizer.identity().vocabulary <= 1 << 16 { Width::Two } else { Width::Four };
    let parts = part::folder(&order.out);
    let work = Work { tokenizer, recipe: &recipe, width, parts: &parts, jobs: &jobs, progress };
    let mut assembly = Assembly::open(&order.out, &parts, width, recipe.tokens_per_shard)?;
    work.in_order(order.threads, &mut |unit, facts| assembly.push(unit, facts))?;
    let [training, validation] = assembly.finish()?;
    let documents = [&training, &validation].map(|part| part.documents);
    if documents[0] == 0 || (documents[1] == 0 && recipe.validation_fraction > 0.0) {
        let [training, validation] = documents;
        return Err(TokenizeError::EmptyPart { training, validation });
    }
    Ok(Manifest {
        format: FORMAT.into(),
        version: VERSION,
        tokenizer: tokenizer.identity().clone(),
        skipped_documents: assembly.skipped_documents(),
        recipe,
        inputs: inputs
            .iter()
            .map(|Input { path, bytes, .. }| InputFacts { path: path.clone(), bytes: *bytes })
            .collect(),
        training,
        validation,
    })
}

fn remove_parts(out: &Path) -> Result<(), TokenizeError> {
    let parts = part::folder(out);
    match fs::remove_dir_all(&parts) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(TokenizeError::Write { path: parts, source })
        }
        _ => Ok(()),
    }
}
