//! The corpus: what a run asks for its batches. Which files they come from, and how files are read,
//! lies below.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{TokenBatch, Tokens};

use crate::facts::hash_files;
use crate::file::DataFile;
use crate::recorded::Recorded;
use crate::shards::{check_apart, open_shards};
use crate::shuffle::Shuffle;
use crate::stream::TokenStream;
use crate::windows::Windows;
use crate::{CorpusFacts, DataConfig, DataError, Order, Split};

/// What a model needs of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Targets in a sequence, `T`.
    pub context: usize,
    /// Ids that it has rows for.
    pub vocabulary: usize,
}

/// Opened data. Runs share it: it keeps no position, and every answer depends on the question alone.
#[derive(Debug)]
pub struct Corpus {
    source: Source,
    context: usize,
    bytes_per_token: Option<f64>,
    files: Vec<(Split, Arc<DataFile>)>,
    facts: Mutex<Option<CorpusFacts>>,
}

#[derive(Debug)]
enum Source {
    Windows { train: Windows, validation: Option<Windows>, order: WindowOrder },
    Recorded(Recorded),
}

#[derive(Debug)]
enum WindowOrder {
    Sequential,
    Shuffled(Shuffle),
}

/// Opens the files that `config` names, relative ones below `base`, and checks their headers and sizes.
/// Content is checked when it is read.
///
/// # Errors
/// Says which file is wrong, how, and what to do.
pub fn open(config: &DataConfig, base: &Path, needs: Needs) -> Result<Corpus, DataError> {
    if needs.context == 0 {
        return Err(DataError::Zero { what: "context" });
    }
    match config {
        DataConfig::Text { path, validation_fraction, order } => {
            open_text(&base.join(path), *validation_fraction, *order, needs)
        }
        DataConfig::Shards { train, validation, order } => {
            let (train, train_files) = open_shards(Split::Training, train, base, needs.vocabulary)?;
            if train_files.is_empty() {
                return Err(DataError::NoTraining);
            }
            let (validation, validation_files) =
                open_shards(Split::Validation, validation, base, needs.vocabulary)?;
            check_apart(&train_files, &validation_files)?;
            let train_files = train_files.into_iter().map(|file| (Split::Training, file));
            let files = train_files.chain(validation_files.into_iter().map(|file| (Split::Validation, file)));
            Corpus::of_windows(train, validation, *order, needs, None, files.collect())
        }
        DataConfig::Recorded { folder } => {
            let recorded = Recorded::open(&base.join(folder), needs)?;
            let files = vec![
                (Split::Training, recorded.training_file()),
                (Split::Validation, recorded.validation_file()),
            ];
            Ok(Corpus::new(Source::Recorded(recorded), needs, None, files))
        }
    }
}

fn open_text(path: &Path, fraction: f64, order: Order, needs: Needs) -> Result<Corpus, DataError> {
    if !(0.0..1.0).contains(&fraction) {
        return Err(DataError::Fraction { fraction });
    }
    let file = DataFile::open(path)?;
    // As nanoGPT cuts: the training part is rounded down.
    let train_bytes = (file.bytes as f64 * (1.0 - fraction)) as u64;
    let mut train = TokenStream::new(needs.vocabulary);
    train.push_bytes(file.clone(), 0, train_bytes);
    let mut validation = TokenStream::new(needs.vocabulary);
    if fraction > 0.0 {
        validation.push_bytes(file.clone(), train_bytes, file.bytes - train_bytes);
    }
    Corpus::of_windows(train, validation, order, needs, Some(1.0), vec![(Split::Both, file)])
}

impl Corpus {
    fn new(
        source: Source,
        needs: Needs,
        bytes_per_token: Option<f64>,
        files: Vec<(Split, Arc<DataFile>)>,
    ) -> Corpus {
        Corpus { source, context: needs.context, bytes_per_token, files, facts: Mutex::new(None) }
    }

    /// A corpus of two streams, the second of which may be empty.
    fn of_windows(
        train: TokenStream,
        validation: TokenStream,
        order: Order,
        needs: Needs,
        bytes_per_token: Option<f64>,
        files: Vec<(Split, Arc<DataFile>)>,
    ) -> Result<Corpus, DataError> {
        let train = Windows::cut(Split::Training, train, needs.context)?;
        let validation = match validation.tokens() {
            0 => None,
            _ => Some(Windows::cut(Split::Validation, validation, needs.context)?),
        };
        let order = match order {
            Order::Sequential => WindowOrder::Sequential,
            Order::Shuffled => {
                WindowOrder::Shuffled(Shuffle::new(u32::try_from(train.count()).map_err(|_| {
                    DataError::TooManyToShuffle { place: train.stream().place(), windows: train.count() }
                })?))
            }
        };
        Ok(Corpus::new(Source::Windows { train, validation, order }, needs, bytes_per_token, files))
    }

    /// The batch that begins at `cursor`, a pure function of the arguments, so that a resumed run goes on
    /// with exactly the batches that it would have read.
    ///
    /// Text and shards begin again after the last window. Their sequential order is the same for every
    /// seed. Recorded batches have neither seed nor end to wrap around.
    ///
    /// # Errors
    /// A cursor that is not at the start of a window, fewer windows than `sequences`, an id outside the
    /// vocabulary, the end of recorded batches or another size than theirs, and what a disk can do.
    pub fn training_batch(
        &self,
        seed: u64,
        cursor: Tokens,
        sequences: usize,
    ) -> Result<TokenBatch, DataError> {
        if sequences == 0 {
            return Err(DataError::Zero { what: "number of sequences in a batch" });
        }
        match &self.source {
            Source::Recorded(recorded) => recorded.step(cursor, sequences),
            Source::Windows { train, order, .. } => {
                train.check_for(sequences)?;
                let context = self.context as u64;
                if !cursor.0.is_multiple_of(context) {
                    return Err(DataError::Cursor { cursor: cursor.0, multiple: context });
                }
                train.read(&order.windows(seed, cursor.0 / context, sequences, train.count()))
            }
        }
    }

    /// The same `sequences` windows of the validation part at every call, spread evenly over it; all
    /// windows where there are fewer. Recorded: all of `eval.npy`, whatever `sequences` is. The last
    /// batch may be smaller than the others.
    ///
    /// # Errors
    /// No validation part, an id outside the vocabulary, and what a disk can do.
    pub fn validation_batches(
        &self,
        sequences: usize,
        sequences_per_batch: usize,
    ) -> Result<Vec<TokenBatch>, DataError> {
        if sequences_per_batch == 0 {
            return Err(DataError::Zero { what: "number of sequences in a batch" });
        }
        match &self.source {
            Source::Recorded(recorded) => recorded.eval_batches(sequences_per_batch),
            Source::Windows { .. } if sequences == 0 => {
                Err(DataError::Zero { what: "number of validation sequences" })
            }
            Source::Windows { validation: None, .. } => Err(DataError::NoValidation),
            Source::Windows { validation: Some(windows), .. } => spread(windows.count(), sequences)
                .chunks(sequences_per_batch)
                .map(|chosen| windows.read(chosen))
                .collect(),
        }
    }

    /// How often the training part has been read at `cursor`: 1.0 is once. Above that, windows repeat.
    pub fn epochs_at(&self, cursor: Tokens) -> f64 {
        cursor.0 as f64 / self.epoch_tokens().0 as f64
    }

    /// Sizes, files and hashes. The first call reads all content to hash it; later ones answer at once.
    ///
    /// # Errors
    /// What a disk can do.
    pub fn describe(&self) -> Result<CorpusFacts, DataError> {
        // Held while hashing: a second caller waits for the answer instead of reading everything again.
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = &*known {
            return Ok(facts.clone());
        }
        let (sha256, files) = hash_files(&self.files)?;
        let (train_tokens, validation_tokens) = self.ids();
        let facts = CorpusFacts {
            train_tokens,
            validation_tokens,
            epoch_tokens: self.epoch_tokens(),
            sha256,
            bytes_per_token: self.bytes_per_token,
            files,
        };
        *known = Some(facts.clone());
        Ok(facts)
    }

    /// Ids for training and for validation.
    fn ids(&self) -> (Tokens, Tokens) {
        match &self.source {
            Source::Recorded(recorded) => (recorded.training_ids(), recorded.validation_ids()),
            Source::Windows { train, validation, .. } => {
                let validation = validation.as_ref().map_or(0, |windows| windows.stream().tokens());
                (Tokens(train.stream().tokens()), Tokens(validation))
            }
        }
    }

    fn epoch_tokens(&self) -> Tokens {
        match &self.source {
            Source::Recorded(recorded) => recorded.targets(),
            Source::Windows { train, .. } => train.targets(),
        }
    }
}

impl WindowOrder {
    /// The windows at places `first..first + sequences` of the endless sequence of epochs.
    fn windows(&self, seed: u64, first: u64, sequences: usize, windows_per_epoch: u64) -> Vec<u64> {
        let mut windows = Vec::with_capacity(sequences);
        let mut epoch = first / windows_per_epoch;
        let mut from = first % windows_per_epoch;
        while windows.len() < sequences {
            let here = (windows_per_epoch - from).min((sequences - windows.len()) as u64);
            match self {
                WindowOrder::Sequential => windows.extend(from..from + here),
                WindowOrder::Shuffled(shuffle) => {
                    let permutation = shuffle.epoch(seed, epoch);
                    let chosen = &permutation[from as usize..(from + here) as usize];
                    windows.extend(chosen.iter().map(|&window| u64::from(window)));
                }
            }
            epoch += 1;
            from = 0;
        }
        windows
    }
}

/// `wanted` of `windows`, evenly spaced from the first on; all where there are fewer.
fn spread(windows: u64, wanted: usize) -> Vec<u64> {
    let chosen = (wanted as u64).min(windows);
    // u128: the product of two counts of windows may exceed a u64.
    (0..chosen).map(|i| (u128::from(i) * u128::from(windows) / u128::from(chosen)) as u64).collect()
}
