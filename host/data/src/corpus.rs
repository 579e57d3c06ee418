//! The corpus: what a run asks for its batches. Which files they come from, and how files are read,
//! lies below.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{TokenBatch, Tokens};

use crate::config::{MixturePart, ShardList};
use crate::facts::hash_files;
use crate::file::DataFile;
use crate::mix::Mix;
use crate::part::Part;
use crate::recorded::Recorded;
use crate::shards::{ShardFile, check_apart, open_shards};
use crate::stream::TokenStream;
use crate::tokenizer::TokenizerIdentity;
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

/// Opened data. Runs share it: it keeps no position, and every answer depends on the question alone. A clone is the
/// same data.
#[derive(Clone, Debug)]
pub struct Corpus(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    source: Source,
    context: usize,
    tokenizer: Option<TokenizerIdentity>,
    files: Vec<(Split, ShardFile)>,
    facts: Mutex<Option<CorpusFacts>>,
}

#[derive(Debug)]
enum Source {
    Parts { parts: Vec<Part>, mix: Mix },
    Recorded(Recorded),
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
        DataConfig::Shards { files, order } => {
            let mut opening = Opening { base, needs, order: *order, tokenizer: None, files: Vec::new() };
            let part = opening.part(0, files)?;
            opening.corpus(vec![part], Mix::of_one())
        }
        DataConfig::Mixture { parts, order } => {
            if parts.is_empty() {
                return Err(DataError::NoParts);
            }
            let mix = Mix::new(&parts.iter().map(|part| part.weight).collect::<Vec<_>>())?;
            let mut opening = Opening { base, needs, order: *order, tokenizer: None, files: Vec::new() };
            let part = |(number, part): (usize, &MixturePart)| opening.part(number, &part.files);
            let parts = parts.iter().enumerate().map(part).collect::<Result<Vec<_>, _>>()?;
            opening.corpus(parts, mix)
        }
        DataConfig::Recorded { folder } => {
            let recorded = Recorded::open(&base.join(folder), needs)?;
            let files = vec![
                (Split::Training, ShardFile { file: recorded.training_file(), sha256: None }),
                (Split::Validation, ShardFile { file: recorded.validation_file(), sha256: None }),
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
    let (train, validation) = cut(train, validation, needs.context)?;
    let parts = vec![Part::new(0, train, validation, order, Some(1.0))?];
    let files = vec![(Split::Both, ShardFile { file, sha256: None })];
    let tokenizer = Some(TokenizerIdentity::of_bytes());
    Ok(Corpus::new(Source::Parts { parts, mix: Mix::of_one() }, needs, tokenizer, files))
}

/// Two streams, the second of which may be empty, as windows.
fn cut(
    train: TokenStream,
    validation: TokenStream,
    context: usize,
) -> Result<(Windows, Option<Windows>), DataError> {
    let train = Windows::cut(Split::Training, train, context)?;
    let validation = match validation.tokens() {
        0 => None,
        _ => Some(Windows::cut(Split::Validation, validation, context)?),
    };
    Ok((train, validation))
}

/// Lists of shards on their way to become a corpus.
struct Opening<'a> {
    base: &'a Path,
    needs: Needs,
    order: Order,
    tokenizer: Option<TokenizerIdentity>,
    files: Vec<(Split, ShardFile)>,
}

impl Opening<'_> {
    fn part(&mut self, number: usize, list: &ShardList) -> Result<Part, DataError> {
        let Needs { context, vocabulary } = self.needs;
        let open = |split, listed| open_shards(split, listed, list.format, self.base, vocabulary);
        let (train, validation) =
            (open(Split::Training, &list.train)?, open(Split::Validation, &list.validation)?);
        if train.files.is_empty() {
            return Err(DataError::NoTraining);
        }
        for tokenizer in [&train.tokenizer, &validation.tokenizer].into_iter().flatten() {
            self.made_by(tokenizer, &train.stream)?;
        }
        let judged_by = if validation.files.is_empty() { &train } else { &validation };
        let bytes_per_token =
            judged_by.text_bytes.map(|bytes| bytes as f64 / judged_by.stream.tokens().max(1) as f64);
        self.files.extend(train.files.into_iter().map(|file| (Split::Training, file)));
        self.files.extend(validation.files.into_iter().map(|file| (Split::Validation, file)));
        let (train, validation) = cut(train.stream, validation.stream, context)?;
        Part::new(number, train, validation, self.order, bytes_per_token)
    }

    /// All that is read has to be made by one tokenizer, as far as files tell.
    fn made_by(&mut self, tokenizer: &TokenizerIdentity, stream: &TokenStream) -> Result<(), DataError> {
        match &self.tokenizer {
            Some(known) if known.sha256 != tokenizer.sha256 => Err(DataError::TokenizersDiffer {
                place: stream.place(),
                names: [known.name.clone(), tokenizer.name.clone()],
            }),
            _ => {
                self.tokenizer = Some(tokenizer.clone());
                Ok(())
            }
        }
    }

    fn corpus(mut self, parts: Vec<Part>, mix: Mix) -> Result<Corpus, DataError> {
        // Those for training first.
        self.files.sort_by_key(|(split, _)| *split == Split::Validation);
        let of = |wanted| self.files.iter().filter(move |(split, _)| *split == wanted).map(|(_, file)| file);
        check_apart(of(Split::Training), of(Split::Validation))?;
        Ok(Corpus::new(Source::Parts { parts, mix }, self.needs, self.tokenizer, self.files))
    }
}

impl Corpus {
    fn new(
        source: Source,
        needs: Needs,
        tokenizer: Option<TokenizerIdentity>,
        files: Vec<(Split, ShardFile)>,
    ) -> Corpus {
        Corpus(Arc::new(Opened { source, context: needs.context, tokenizer, files, facts: Mutex::new(None) }))
    }

    /// The batch that begins at `cursor`, a pure function of the arguments, so that a resumed run goes on
    /// with exactly the batches that it would have read.
    ///
    /// Text and shards begin again after the last window, each part of a mixture by itself. Their sequential order is
    /// the same for every seed. Recorded batches have neither seed nor end to wrap around.
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
        match &self.0.source {
            Source::Recorded(recorded) => recorded.step(cursor, sequences),
            Source::Parts { parts, mix } => {
                for (part, wanted) in parts.iter().zip(mix.counts(sequences as u64)) {
                    part.train.check_for(wanted as usize)?;
                }
                let context = self.0.context as u64;
                if !cursor.0.is_multiple_of(context) {
                    return Err(DataError::Cursor { cursor: cursor.0, multiple: context });
                }
                self.read(sequences, cursor.0 / context, |place, rows| {
                    let (part, before) = mix.at(place);
                    parts[part].train.read(parts[part].window(seed, before), rows)
                })
            }
        }
    }

    /// A batch of the windows at so many places from the first on.
    fn read(
        &self,
        sequences: usize,
        first: u64,
        mut window: impl FnMut(u64, &mut Vec<u32>) -> Result<(), DataError>,
    ) -> Result<TokenBatch, DataError> {
        let mut rows = Vec::with_capacity(sequences * (self.0.context + 1));
        for place in first..first + sequences as u64 {
            window(place, &mut rows)?;
        }
        Ok(TokenBatch::new(rows, sequences, self.0.context))
    }

    /// The same `sequences` windows of the validation part at every call, spread evenly over it; all
    /// windows where there are fewer. Of a mixture, each part's share of them. Recorded: all of `eval.npy`, whatever
    /// `sequences` is. The last batch may be smaller than the others.
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
        match &self.0.source {
            Source::Recorded(recorded) => recorded.eval_batches(sequences_per_batch),
            Source::Parts { .. } if sequences == 0 => {
                Err(DataError::Zero { what: "number of validation sequences" })
            }
            Source::Parts { parts, mix } => {
                let chosen = chosen_for_validation(parts, mix, sequences)?;
                let batch = |chosen: &[(&Windows, u64)]| {
                    self.read(chosen.len(), 0, |place, rows| {
                        let (windows, window) = chosen[place as usize];
                        windows.read(window, rows)
                    })
                };
                chosen.chunks(sequences_per_batch).map(batch).collect()
            }
        }
    }

    /// Targets in so many sequences.
    pub(crate) fn targets_of(&self, sequences: usize) -> u64 {
        sequences as u64 * self.0.context as u64
    }

    /// How often the training part has been read at `cursor`: 1.0 is once. Above that, windows repeat; of a mixture,
    /// those of the part that is used up first.
    pub fn epochs_at(&self, cursor: Tokens) -> f64 {
        cursor.0 as f64 / self.epoch_tokens().0 as f64
    }

    /// What made the ids, where the data tells.
    pub fn tokenizer(&self) -> Option<&TokenizerIdentity> {
        self.0.tokenizer.as_ref()
    }

    /// Sizes, files and hashes. The first call reads all content to hash it; later ones answer at once.
    ///
    /// # Errors
    /// A shard that is not what its manifest says, and what a disk can do.
    pub fn describe(&self) -> Result<CorpusFacts, DataError> {
        // Held while hashing: a second caller waits for the answer instead of reading everything again.
        let mut known = self.0.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = &*known {
            return Ok(facts.clone());
        }
        let (sha256, files) = hash_files(&self.0.files)?;
        let (train_tokens, validation_tokens) = self.ids();
        let facts = CorpusFacts {
            train_tokens,
            validation_tokens,
            epoch_tokens: self.epoch_tokens(),
            sha256,
            bytes_per_token: self.bytes_per_token(),
            tokenizer: self.0.tokenizer.clone(),
            files,
        };
        *known = Some(facts.clone());
        Ok(facts)
    }

    /// Of a mixture, the parts' by their shares of validation.
    fn bytes_per_token(&self) -> Option<f64> {
        let Source::Parts { parts, mix } = &self.0.source else { return None };
        let judged =
            |part: &Part| part.validation.is_some() || parts.iter().all(|part| part.validation.is_none());
        let shares = (0..parts.len()).filter(|&part| judged(&parts[part]));
        let whole: f64 = shares.clone().map(|part| mix.fraction(part)).sum();
        shares.map(|part| Some(mix.fraction(part) / whole * parts[part].bytes_per_token?)).sum()
    }

    /// Ids for training and for validation.
    fn ids(&self) -> (Tokens, Tokens) {
        match &self.0.source {
            Source::Recorded(recorded) => (recorded.training_ids(), recorded.validation_ids()),
            Source::Parts { parts, .. } => {
                let train = parts.iter().map(|part| part.train.stream().tokens()).sum();
                let validation = parts.iter().filter_map(|part| part.validation.as_ref());
                (Tokens(train), Tokens(validation.map(|windows| windows.stream().tokens()).sum()))
            }
        }
    }

    fn epoch_tokens(&self) -> Tokens {
        match &self.0.source {
            Source::Recorded(recorded) => recorded.targets(),
            Source::Parts { parts, mix } => {
                let until_read = |(number, part): (usize, &Part)| mix.until_read(number, part.train.count());
                let windows = parts.iter().enumerate().map(until_read).min().unwrap_or(0);
                Tokens(windows * self.0.context as u64)
            }
        }
    }
}

/// Of each part that has one, its share of validation windows, evenly spaced.
fn chosen_for_validation<'a>(
    parts: &'a [Part],
    mix: &Mix,
    sequences: usize,
) -> Result<Vec<(&'a Windows, u64)>, DataError> {
    let (weights, judged): (Vec<f64>, Vec<&Windows>) = parts
        .iter()
        .enumerate()
        .filter_map(|(number, part)| Some((mix.fraction(number), part.validation.as_ref()?)))
        .unzip();
    if judged.is_empty() {
        return Err(DataError::NoValidation);
    }
    let counts = Mix::new(&weights)?.counts(sequences as u64);
    let of_part = |(windows, wanted): (&'a Windows, u64)| {
        spread(windows.count(), wanted).map(move |window| (windows, window))
    };
    Ok(judged.into_iter().zip(counts).flat_map(of_part).collect())
}

/// `wanted` of `windows`, evenly spaced from the first on; all where there are fewer.
fn spread(windows: u64, wanted: u64) -> impl Iterator<Item = u64> {
    let chosen = wanted.min(windows);
    // u128: the product of two counts of windows may exceed a u64.
    (0..chosen).map(move |i| (u128::from(i) * u128::from(windows) / u128::from(chosen)) as u64)
}
