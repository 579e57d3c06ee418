//! What can be wrong with data: which file, what about it, and what to do.

use std::io;
use std::path::PathBuf;

use crate::{BinFault, NpyFault, Split};

/// What can be wrong with data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Nothing is there.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// A folder where a file belongs, or the other way round.
    #[error("{} is {found}, not {wanted}", path.display())]
    WrongKind {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it has to be.
        wanted: &'static str,
    },
    /// The file has no content.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses to open or read it.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file became shorter while it was in use.
    #[error("{} became shorter while it was read: byte {byte} is gone", path.display())]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// The first byte that was asked for.
        byte: u64,
    },
    /// An `.npy` file that is none, or holds something else.
    #[error("{} {fault}", path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: NpyFault,
    },
    /// A `.bin` file that is none, or not what it was said to be.
    #[error("{} {fault}", path.display())]
    Bin {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: BinFault,
    },
    /// A manifest that is none.
    #[error("{} {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A shard that is not the one that its manifest tells of.
    #[error("{} {reason}", path.display())]
    NotOfTheManifest {
        /// The shard.
        path: PathBuf,
        /// In what it differs.
        reason: String,
    },
    /// A folder that was made without that part.
    #[error("{} has no {split} part", path.display())]
    NoPart {
        /// The manifest.
        path: PathBuf,
        /// The part.
        split: Split,
    },
    /// Ids of a tokenizer that has more than the model.
    #[error("{} is of the tokenizer {name}, which has {ids} ids, but the model's vocabulary has {vocabulary}", path.display())]
    TokenizerTooLarge {
        /// The manifest.
        path: PathBuf,
        /// The tokenizer.
        name: String,
        /// Its ids.
        ids: u32,
        /// Ids that the model has.
        vocabulary: usize,
    },
    /// Ids of two tokenizers.
    #[error("{place} is of the tokenizer {}, but what stands before it in `[data]` is of {}", names[1], names[0])]
    TokenizersDiffer {
        /// The file or files.
        place: String,
        /// The one before, and this one.
        names: [String; 2],
    },
    /// A mixture of nothing.
    #[error("`data.parts` is empty")]
    NoParts,
    /// A weight that gives no share.
    #[error("the weight of part {part} of the mixture (counted from 0) is {weight}")]
    Weight {
        /// Which part.
        part: usize,
        /// What it is.
        weight: f64,
    },
    /// A folder has no shard of the kind.
    #[error("{} holds no file that matches `{pattern}`", folder.display())]
    NoShards {
        /// The folder.
        folder: PathBuf,
        /// What was looked for.
        pattern: &'static str,
    },
    /// The list of training shards is empty.
    #[error("`data.train` names no shard")]
    NoTraining,
    /// There is nothing to validate on.
    #[error("the data has no validation part")]
    NoValidation,
    /// A shard is trained on and validated on.
    #[error("{} is among the training shards and among the validation shards", path.display())]
    TrainedAndValidated {
        /// The shard.
        path: PathBuf,
    },
    /// `validation_fraction` is no fraction.
    #[error("`data.validation_fraction` is {fraction}, but has to be at least 0 and less than 1")]
    Fraction {
        /// What it is.
        fraction: f64,
    },
    /// A part has fewer tokens than what is to be cut from it.
    #[error("the {split} part ({place}) holds {tokens} tokens, but {wanted} needs {needed}")]
    TooShort {
        /// Which part.
        split: Split,
        /// The file or files.
        place: String,
        /// Tokens there.
        tokens: u64,
        /// What is to be cut, in words.
        wanted: String,
        /// Tokens that it needs.
        needed: u64,
    },
    /// More windows than a permutation can hold.
    #[error("{place} has {windows} windows, too many to shuffle")]
    TooManyToShuffle {
        /// The file or files.
        place: String,
        /// Windows there.
        windows: u64,
    },
    /// A token that the model has no row for.
    #[error("token {position} of {} has the id {id}, but the vocabulary has {vocabulary}", path.display())]
    OutsideVocabulary {
        /// The file.
        path: PathBuf,
        /// Which of its tokens, counted from 0.
        position: u64,
        /// The id.
        id: u32,
        /// Ids that the model has.
        vocabulary: usize,
    },
    /// A cursor that is not at the start of a window.
    #[error("the cursor is at token {cursor}, which is not a multiple of {multiple}")]
    Cursor {
        /// Where it is.
        cursor: u64,
        /// Tokens of the unit that is read at once.
        multiple: u64,
    },
    /// Recorded sequences have another length than the model's context.
    #[error("{} holds sequences of {recorded} targets, but the model's context is {context}", path.display())]
    RecordedContext {
        /// The file.
        path: PathBuf,
        /// Its targets in a sequence.
        recorded: u64,
        /// The model's.
        context: usize,
    },
    /// A step of another size than was recorded.
    #[error("{} holds {recorded} sequences a step, but the run reads {asked}", path.display())]
    RecordedSequences {
        /// The file.
        path: PathBuf,
        /// Its sequences in a step.
        recorded: u64,
        /// What was asked for.
        asked: usize,
    },
    /// A step after the last recorded one.
    #[error("{} holds {steps} steps, but step {asked} is read (counted from 0)", path.display())]
    RecordedEnd {
        /// The file.
        path: PathBuf,
        /// Steps there.
        steps: u64,
        /// The step that was asked for.
        asked: u64,
    },
    /// Zero of something that has to be at least one.
    #[error("{what} is 0")]
    Zero {
        /// What.
        what: &'static str,
    },
}

impl DataError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            DataError::Missing { .. } => {
                "check the path; a relative one counts from the folder of the config file".into()
            }
            DataError::WrongKind { wanted, .. } => format!("name {wanted}"),
            DataError::Empty { .. } => "was it written to the end? write or copy it again".into(),
            DataError::Unreadable { source, .. } => unreadable_hint(source),
            DataError::Shrunk { .. } => {
                "nothing may write to data that a run reads; restore it and resume the run".into()
            }
            DataError::Npy { fault, .. } => fault.hint(),
            DataError::Bin { fault, .. } => fault.hint(),
            DataError::Manifest { .. } => "make the folder again with `sapwood data tokenize`".into(),
            DataError::NotOfTheManifest { .. } => {
                "it was altered or mixed up; copy it again, or make the folder again".into()
            }
            DataError::NoPart { split: Split::Validation, .. } => {
                "make it again with a larger `--validation`, or name other shards in `validation`".into()
            }
            DataError::NoPart { .. } => "name other shards in `train`".into(),
            DataError::TokenizerTooLarge { ids, .. } => {
                format!("set `model.vocabulary` to {ids} or more; a multiple of 64 is faster")
            }
            DataError::TokenizersDiffer { .. } => "make all of it with one tokenizer".into(),
            DataError::NoParts => "add a `[[data.parts]]` with `weight`, `train` and `validation`".into(),
            DataError::Weight { .. } => {
                "weights are positive numbers, none of them a billionth of the others".into()
            }
            DataError::NoShards { pattern, .. } => {
                format!("name the files one by one, or rename them so that they match `{pattern}`")
            }
            DataError::NoTraining => {
                "name files, or a folder with `*train*.npy`, `*train*.bin` or a `tokens.json`".into()
            }
            DataError::NoValidation => {
                "set `data.validation_fraction` above 0, or name shards in `data.validation`".into()
            }
            DataError::TrainedAndValidated { .. } => {
                "a loss on what was trained on says nothing; take it out of one of the two".into()
            }
            DataError::Fraction { .. } => "0.1 keeps the last tenth of the file for validation".into(),
            DataError::TooShort { .. } => {
                "use more data, a shorter `model.context`, or fewer sequences at once".into()
            }
            DataError::TooManyToShuffle { .. } => {
                format!("at most {} can be: use `order = \"sequential\"` or a longer context", u32::MAX)
            }
            DataError::OutsideVocabulary { id, .. } => {
                format!("set `model.vocabulary` above {id}, or take data of the model's own tokenizer")
            }
            DataError::Cursor { multiple, .. } => format!(
                "the checkpoint is of another context or batch size; resume with steps of {multiple} tokens"
            ),
            DataError::RecordedContext { recorded, .. } => format!("set `model.context = {recorded}`"),
            DataError::RecordedSequences { recorded, .. } => {
                format!("set the batch size to {recorded} sequences")
            }
            DataError::RecordedEnd { steps, .. } => format!("end the run after {steps} steps"),
            DataError::Zero { what } => format!("set the {what} to 1 or more"),
        }
    }
}

fn unreadable_hint(source: &io::Error) -> String {
    // EMFILE: every shard stays open, so that a run keeps reading what it was started on.
    const TOO_MANY_OPEN_FILES: i32 = 24;
    if source.raw_os_error() == Some(TOO_MANY_OPEN_FILES) {
        return "raise the limit on open files (`ulimit -n`) above the number of shards".into();
    }
    match source.kind() {
        io::ErrorKind::PermissionDenied => "give yourself permission to read it".into(),
        _ => "check the disk, then resume the run".into(),
    }
}
