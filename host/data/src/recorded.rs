//! Batches that another implementation read, step by step, so that two trainings can be compared number
//! by number: `batches.npy` `[steps, sequences, T + 1]` and `eval.npy` `[sequences, T + 1]`. There is no
//! seed here and no order but the recorded one.

use std::path::Path;
use std::sync::Arc;

use engine::{TokenBatch, Tokens};

use crate::DataError;
use crate::corpus::Needs;
use crate::file::{DataFile, Kind, kind_of, wrong_kind};
use crate::npy::NpyArray;
use crate::stream::TokenStream;

/// An opened recording.
#[derive(Debug)]
pub(crate) struct Recorded {
    batches: Rows,
    eval: Rows,
    steps: u64,
    sequences_per_step: u64,
    context: usize,
}

/// An array whose last dimension is a row of `T + 1` ids.
#[derive(Debug)]
struct Rows {
    file: Arc<DataFile>,
    array: NpyArray,
    stream: TokenStream,
}

/// Sequences that each recorded step of a folder read.
///
/// # Errors
/// A folder without `batches.npy`, or one of another shape.
pub fn recorded_sequences_per_step(folder: &Path) -> Result<u64, DataError> {
    let file = DataFile::open(&folder.join("batches.npy"))?;
    Ok(NpyArray::find(&file, 3, "an array [steps, sequences, context + 1]")?.shape[1])
}

impl Recorded {
    pub(crate) fn open(folder: &Path, needs: Needs) -> Result<Recorded, DataError> {
        let kind = kind_of(folder)?;
        if kind != Kind::Folder {
            return Err(wrong_kind(folder, kind, "a folder with batches.npy and eval.npy"));
        }
        let batches =
            Rows::open(&folder.join("batches.npy"), 3, "an array [steps, sequences, context + 1]", needs)?;
        let eval = Rows::open(&folder.join("eval.npy"), 2, "an array [sequences, context + 1]", needs)?;
        let (steps, sequences_per_step) = (batches.array.shape[0], batches.array.shape[1]);
        Ok(Recorded { batches, eval, steps, sequences_per_step, context: needs.context })
    }

    pub(crate) fn training_file(&self) -> Arc<DataFile> {
        self.batches.file.clone()
    }

    pub(crate) fn validation_file(&self) -> Arc<DataFile> {
        self.eval.file.clone()
    }

    /// Ids in `batches.npy`.
    pub(crate) fn training_ids(&self) -> Tokens {
        Tokens(self.batches.array.ids().tokens)
    }

    /// Ids in `eval.npy`.
    pub(crate) fn validation_ids(&self) -> Tokens {
        Tokens(self.eval.array.ids().tokens)
    }

    /// Targets in all steps.
    pub(crate) fn targets(&self) -> Tokens {
        Tokens(self.steps * self.tokens_per_step())
    }

    /// The recorded step that begins at the cursor.
    pub(crate) fn step(&self, cursor: Tokens, sequences: usize) -> Result<TokenBatch, DataError> {
        let path = || self.batches.file.path.clone();
        let recorded = self.sequences_per_step;
        if sequences as u64 != recorded {
            return Err(DataError::RecordedSequences { path: path(), recorded, asked: sequences });
        }
        if !cursor.0.is_multiple_of(self.tokens_per_step()) {
            return Err(DataError::Cursor { cursor: cursor.0, multiple: self.tokens_per_step() });
        }
        let step = cursor.0 / self.tokens_per_step();
        if step >= self.steps {
            return Err(DataError::RecordedEnd { path: path(), steps: self.steps, asked: step });
        }
        self.batches.read(step * recorded, sequences, self.context)
    }

    /// All held-out rows, so many a batch.
    pub(crate) fn eval_batches(&self, sequences_per_batch: usize) -> Result<Vec<TokenBatch>, DataError> {
        let rows = self.eval.array.shape[0];
        (0..rows)
            .step_by(sequences_per_batch)
            .map(|first| {
                let here = (rows - first).min(sequences_per_batch as u64);
                self.eval.read(first, here as usize, self.context)
            })
            .collect()
    }

    fn tokens_per_step(&self) -> u64 {
        self.sequences_per_step * self.context as u64
    }
}

impl Rows {
    fn open(path: &Path, rank: usize, wanted: &'static str, needs: Needs) -> Result<Rows, DataError> {
        let file = DataFile::open(path)?;
        let array = NpyArray::find(&file, rank, wanted)?;
        let recorded = array.shape[rank - 1] - 1;
        if recorded != needs.context as u64 {
            return Err(DataError::RecordedContext { path: path.into(), recorded, context: needs.context });
        }
        let mut stream = TokenStream::new(needs.vocabulary);
        stream.push_ids(file.clone(), array.ids());
        Ok(Rows { file, array, stream })
    }

    fn read(&self, first: u64, rows: usize, context: usize) -> Result<TokenBatch, DataError> {
        let width = context + 1;
        let mut ids = Vec::with_capacity(rows * width);
        self.stream.read(first * width as u64, rows * width, &mut ids)?;
        Ok(TokenBatch::new(ids, rows, context))
    }
}
