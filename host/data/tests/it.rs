//! The corpus as a run sees it: files in, batches out; one binary, a module per question.

mod it {
    /// Does it say what was read?
    mod facts;
    /// Small corpora, written for a test.
    mod files;
    /// Is each kind of file told from the others?
    mod formats;
    /// Does it give the recorded batches of the golden runs?
    mod golden;
    /// Which tokens does which step read?
    mod order;
    /// Is what cannot be read refused, with what, where and what to do?
    mod refusals;
    /// Does a folder of tokens hold what the tokenizer makes of its texts?
    mod tokenize;
    /// Does it give the ids that others give?
    mod tokenizers;
    /// Is the validation part fixed and apart?
    mod validation;
}
