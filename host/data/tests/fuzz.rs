//! Whatever lies in a file, reading it ends well or in an error that names the file and says what to do: no panic, no
//! case without end, no memory that a header merely claims. A module per kind of file, each case a seed.

mod fuzz {
    /// What damages them, and what a refusal has to say.
    #[path = "../../../../tests/fuzz/damage.rs"]
    mod damage;
    /// Texts on their way to be tokens.
    mod texts;
    /// Shards, folders of shards, recorded batches.
    mod token_files;
    /// `tokenizer.json`.
    mod tokenizers;
}
