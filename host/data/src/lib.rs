//! What a step reads: token ids from text, from shards or from recorded batches, cut into
//! [`engine::TokenBatch`]es, as a pure function of seed and cursor, so that a resumed run reads what an
//! uninterrupted one would. And what makes such ids of text, shards of texts, and text of ids.
//!
//! Not here: where a run stands in the stream (the trainer's
//! cursor), and what the batches consumed hash to (the trainer's as well). Files are read by position,
//! never mapped: a file that shrinks under a run is an error, not a signal.

mod config;
mod contained;
mod corpus;
mod error;
mod facts;
mod file;
mod looking;
mod mix;
mod npy;
mod part;
mod read_ahead;
mod recorded;
mod shards;
mod shuffle;
mod stream;
mod texts;
mod tokenize;
mod tokenizer;
mod windows;

pub use config::{ConfigError, DataConfig, Format, MixturePart, Order, ShardList};
pub use corpus::{Corpus, Needs, open};
pub use error::DataError;
pub use facts::{CorpusFacts, FileFacts, Split};
pub use looking::{Checked, Stretch, TokenFileFacts, TokenFiles};
pub use npy::NpyFault;
pub use read_ahead::ReadAhead;
pub use recorded::recorded_sequences_per_step;
pub use shards::bin::BinFault;
pub use shards::manifest::{InputFacts, MANIFEST, Manifest, PartFacts, Recipe, ShardFacts};
pub use texts::{Cut, Kind, Rules, TextError};
pub use tokenize::{Progress, Separator, TokenizeError, TokenizeOrder, Tokenized, tokenize};
pub use tokenizer::{Encoder, Tokenizer, TokenizerError, TokenizerIdentity, tokenizer};
