//! What texts become tokens with, and what tokens are looked at with.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::at_least_one;

pub(super) const TOKENIZE_HELP: &str = "\
Example: sapwood data tokenize fineweb-edu/ --tokenizer gpt2 --validation 0.001 --out tokens/fineweb-edu

Reads .txt, .jsonl (also .gz, .zst) and .parquet; of folders all such files. Writes .npy shards and a tokens.json, which \
a study reads by `[data] source = \"shards\"`. The same inputs give the same bytes, however many threads there are. Broken \
off, the same command goes on.
Exit codes: 0 made, or there already · 3 the folder was made otherwise · 4 an input, a tokenizer, or no document for a part · \
8 a file cannot be written";

/// What the commands that look have in common, behind an example of each.
macro_rules! look_help {
    ($example:literal) => {
        concat!(
            "Example: sapwood data ",
            $example,
            "\n\nA file, or a folder: with a tokens.json what that names, else *.npy and *.bin. Known are .npy of uint16 or \
             uint32, llm.c's .bin, and by --format ids and nothing else (nanoGPT's .bin).\nExit codes: 0 good · 4 a file that \
             is none, or is damaged"
        )
    };
}

/// Make, inspect, verify and sample files of token ids.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Make shards of token ids of texts, with a manifest that says what they are made of
    #[command(after_help = TOKENIZE_HELP)]
    Tokenize(TokenizeArgs),
    /// Tell what files of token ids are, by their headers
    #[command(after_help = look_help!("inspect tokens/fineweb-edu"))]
    Inspect(LookArgs),
    /// Read files of token ids to the end: hashes, and ids that a vocabulary does not have
    #[command(after_help = look_help!("verify tokens/fineweb-edu"))]
    Verify(VerifyDataArgs),
    /// Show stretches of files of token ids, as text where the tokenizer is known
    #[command(after_help = look_help!("sample tokens/fineweb-edu --count 3"))]
    Sample(SampleDataArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    /// Files and folders of texts
    #[arg(required = true, value_name = "INPUT")]
    pub(crate) inputs: Vec<PathBuf>,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// What makes tokens of texts: bytes, gpt2, or a tokenizer.json
    #[arg(long, value_name = "NAME")]
    pub(crate) tokenizer: String,
    /// The share of documents that is for validation, from 0; a hash of its text decides where a document goes
    #[arg(long, value_name = "FRACTION")]
    pub(crate) validation: f64,
    /// The key of JSON lines, and the column of Parquet, that holds the text
    #[arg(long, default_value = "text", value_name = "NAME")]
    pub(crate) field: String,
    /// What of a plain text is a document
    #[arg(long, value_enum, default_value_t = CutName::Files)]
    pub(crate) documents: CutName,
    /// What stands before each document: `usual` for the tokenizer (gpt2: <|endoftext|>), `none`, a token or its id
    #[arg(long, default_value = "usual", value_name = "TOKEN")]
    pub(crate) separator: String,
    /// Tokens of a shard, but for the last
    #[arg(long, default_value_t = 100_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) shard_tokens: u64,
    /// Leave documents out that cannot be read, and count them
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// What all inputs are, whatever their names say
    #[arg(long = "as", value_enum, value_name = "KIND")]
    pub(crate) all_are: Option<KindOfInput>,
    /// Inputs that are worked on at a time [default: one a core]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Print the manifest
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CutName {
    /// Each file
    Files,
    /// Each line that is not blank
    Lines,
    /// What stands between blank lines
    Paragraphs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindOfInput {
    /// Plain text in UTF-8
    Text,
    /// A JSON object a line
    Jsonl,
    /// Apache Parquet
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RawFormat {
    /// Two bytes an id, the lower first
    #[value(name = "raw-uint16")]
    Uint16,
    /// Four bytes an id, the lowest first
    #[value(name = "raw-uint32")]
    Uint32,
}

#[derive(Debug, Args)]
pub(crate) struct LookArgs {
    /// A file, or a folder of files
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// What the files are, where they have no header
    #[arg(long, value_enum)]
    pub(crate) format: Option<RawFormat>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyDataArgs {
    #[command(flatten)]
    pub(crate) of: LookArgs,
    /// Ids have to be below it [default: the manifest's]
    #[arg(long, value_name = "N")]
    pub(crate) vocabulary: Option<NonZero<usize>>,
}

#[derive(Debug, Args)]
pub(crate) struct SampleDataArgs {
    #[command(flatten)]
    pub(crate) of: LookArgs,
    /// What made the ids: bytes, gpt2, or a tokenizer.json [default: the manifest's, else ids are shown]
    #[arg(long, value_name = "NAME")]
    pub(crate) tokenizer: Option<String>,
    /// How many stretches
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = at_least_one)]
    pub(crate) count: usize,
    /// Tokens of each
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = at_least_one)]
    pub(crate) tokens: usize,
    /// Same seed, same stretches
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(crate) seed: u64,
}
