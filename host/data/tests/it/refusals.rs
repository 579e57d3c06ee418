//! Is what cannot be read refused, with what, where and what to do?

use data::{Corpus, DataConfig, DataError, Needs, Order, open};
use engine::Tokens;

use super::files::{Files, recorded, shards, text};

/// The message with the folder's name taken out, and the hint below it.
fn told(files: &Files, error: &DataError) -> String {
    let folder = format!("{}/", files.path().display());
    format!("{error}\nhint: {}", error.hint()).replace(&folder, "")
}

fn refused(files: &Files, config: &DataConfig) -> String {
    told(files, &files.open(config, 4).expect_err("must be refused"))
}

fn one_shard(name: &str) -> DataConfig {
    shards(&[name], &[], Order::Sequential)
}

#[test]
fn paths_that_lead_nowhere_or_to_the_wrong_thing() {
    let files = Files::new().bytes("empty", b"").bytes("folder/x", b"x");
    let missing = "no.txt does not exist\n\
                   hint: check the path; a relative one counts from the folder of the config file";
    let config = |path: &str| DataConfig::Text {
        path: path.into(),
        validation_fraction: 0.1,
        order: Order::Sequential,
    };
    assert_eq!(refused(&files, &config("no.txt")), missing);
    assert_eq!(refused(&files, &one_shard("no.txt")), missing);
    assert_eq!(refused(&files, &recorded("no.txt")), missing);
    assert_eq!(refused(&files, &config("folder")), "folder is a folder, not a file\nhint: name a file");
    assert_eq!(
        refused(&files, &config("empty")),
        "empty is empty\nhint: was it written to the end? write or copy it again"
    );
    assert_eq!(
        refused(&files, &recorded("folder/x")),
        "folder/x is a file, not a folder with batches.npy and eval.npy\n\
         hint: name a folder with batches.npy and eval.npy"
    );
    assert!(refused(&files, &recorded("folder")).starts_with("folder/batches.npy does not exist"));
}

#[test]
fn folders_and_lists_without_shards() {
    let files = Files::new().shard("shards/a_val_0.npy", 0, 9).shard("shards/a_train_0.txt", 0, 9);
    assert_eq!(
        refused(&files, &one_shard("shards")),
        "shards holds no file that matches `*train*.npy` or `*train*.bin`\n\
         hint: name the files one by one, or rename them so that they match `*train*.npy` or `*train*.bin`"
    );
    assert_eq!(
        refused(&files, &shards(&[], &["shards"], Order::Sequential)),
        "`data.train` names no shard\n\
         hint: name files, or a folder with `*train*.npy`, `*train*.bin` or a `tokens.json`"
    );
}

#[test]
fn shards_that_are_none() {
    let files = Files::new()
        .bytes("text", b"not an array")
        .bytes("text.npy", b"not an array")
        .npy("int32", "<i4", "(4,)", &[0; 8])
        .npy("rank", "<u2", "(2, 4)", &[0; 8])
        .npy("cut", "<u2", "(9,)", &[0; 8]);
    assert_eq!(
        refused(&files, &one_shard("text")),
        "text begins neither as an .npy file nor as llm.c's .bin\n\
         hint: if it is ids and nothing else, as nanoGPT writes them: `format = \"raw-uint16\"` in `[data]`"
    );
    assert_eq!(
        refused(&files, &one_shard("text.npy")),
        "text.npy is not an .npy file: it does not begin with \\x93NUMPY\n\
         hint: write it with `numpy.save`, or name another file"
    );
    assert_eq!(
        refused(&files, &one_shard("int32")),
        "int32 holds numbers of type '<i4', neither little-endian uint16 ('<u2') nor uint32 ('<u4')\n\
         hint: convert it: `numpy.save(path, tokens.astype('<u2'))`, or '<u4' where ids exceed 65535"
    );
    assert_eq!(
        refused(&files, &one_shard("rank")),
        "rank holds an array of shape [2, 4], not a one-dimensional list of tokens\n\
         hint: write a one-dimensional list of tokens"
    );
    assert_eq!(
        refused(&files, &one_shard("cut")),
        "cut has 144 bytes, but its header, with shape [9], makes it 146\n\
         hint: it was cut off or added to; write or copy it again"
    );
}

#[test]
fn parts_that_are_too_short() {
    let files = Files::new().text("text", 40).shard("a", 0, 3).shard("b", 0, 1);
    let hint = "hint: use more data, a shorter `model.context`, or fewer sequences at once";
    assert_eq!(
        refused(&files, &text(0.1, Order::Sequential)),
        format!("the validation part (text) holds 4 tokens, but one sequence of 4 targets needs 5\n{hint}")
    );
    let both = shards(&["a", "b"], &[], Order::Sequential);
    assert_eq!(
        refused(&files, &both),
        format!(
            "the training part (2 files, a to b) holds 4 tokens, but one sequence of 4 targets needs 5\n{hint}"
        )
    );
    let corpus = files.open(&text(0.0, Order::Shuffled), 4).expect("nine windows");
    let error = corpus.training_batch(0, Tokens(0), 10).expect_err("nine windows are not ten");
    assert_eq!(
        told(&files, &error),
        format!(
            "the training part (text) holds 40 tokens, but a batch of 10 sequences of 4 targets needs 41\n{hint}"
        )
    );
}

#[test]
fn validation_that_is_not_there_or_not_apart() {
    let files = Files::new().text("text", 40).shard("a_train_val.npy", 0, 9);
    let corpus = files.open(&text(0.0, Order::Sequential), 4).expect("a text to train on");
    let error = corpus.validation_batches(1, 1).expect_err("all of it is for training");
    assert_eq!(
        told(&files, &error),
        "the data has no validation part\n\
         hint: set `data.validation_fraction` above 0, or name shards in `data.validation`"
    );
    assert_eq!(
        refused(&files, &shards(&["a_train_val.npy"], &["."], Order::Sequential)),
        "./a_train_val.npy is among the training shards and among the validation shards\n\
         hint: a loss on what was trained on says nothing; take it out of one of the two"
    );
    for fraction in [-0.1, 1.0, f64::NAN] {
        let message = refused(&files, &text(fraction, Order::Sequential));
        assert!(message.starts_with("`data.validation_fraction` is"), "{message}");
    }
}

#[test]
fn ids_that_the_model_does_not_have() {
    let files =
        Files::new().bytes("text", b"abcdefgh\xffijklmnopqrst").shard("a", 0, 10).shard("b", 250, 270);
    let needs = Needs { context: 4, vocabulary: 128 };
    let error = |config: &DataConfig, cursor: u64| {
        let corpus = open(config, files.path(), needs).expect("content is checked when it is read");
        corpus.training_batch(0, Tokens(0), 1).expect("ids below 128");
        told(&files, &corpus.training_batch(0, Tokens(cursor), 2).expect_err("an id outside"))
    };
    assert_eq!(
        error(&text(0.0, Order::Sequential), 4),
        "token 8 of text has the id 255, but the vocabulary has 128\n\
         hint: set `model.vocabulary` above 255, or take data of the model's own tokenizer"
    );
    assert_eq!(
        error(&shards(&["a", "b"], &[], Order::Sequential), 8),
        "token 0 of b has the id 250, but the vocabulary has 128\n\
         hint: set `model.vocabulary` above 250, or take data of the model's own tokenizer"
    );
    let files = Files::new().bytes("text", b"0123456789012345678901234567890123456\xf0\xf1\xf2");
    let corpus = open(&text(0.25, Order::Sequential), files.path(), needs).expect("40 bytes");
    let error = corpus.validation_batches(2, 2).expect_err("its second window ends with byte 38");
    assert!(told(&files, &error).starts_with("token 37 of text has the id 240"), "{error}");
}

#[test]
fn questions_that_have_no_answer() {
    let files = Files::new().text("text", 40);
    let corpus = files.open(&text(0.5, Order::Sequential), 4).expect("two parts");
    let ask = |error: Result<(), DataError>| told(&files, &error.expect_err("must be refused"));
    let batch =
        |cursor: u64, sequences: usize| corpus.training_batch(0, Tokens(cursor), sequences).map(|_| ());
    assert!(ask(batch(6, 1)).starts_with("the cursor is at token 6, which is not a multiple of 4\nhint: "));
    assert_eq!(
        ask(batch(0, 0)),
        "number of sequences in a batch is 0\nhint: set the number of sequences in a batch to 1 or more"
    );
    assert!(
        ask(corpus.validation_batches(0, 1).map(|_| ())).starts_with("number of validation sequences is 0")
    );
    assert!(
        ask(corpus.validation_batches(1, 0).map(|_| ())).starts_with("number of sequences in a batch is 0")
    );
    assert!(ask(files.open(&text(0.5, Order::Sequential), 0).map(|_| ())).starts_with("context is 0"));
}

/// Three steps of two sequences of four targets, and one held-out row.
fn recording() -> (Files, Corpus) {
    let ids: Vec<u16> = (0..30).collect();
    let files = Files::new().npy("r/batches.npy", "<u2", "(3, 2, 5)", &ids).npy(
        "r/eval.npy",
        "<u2",
        "(1, 5)",
        &ids[..5],
    );
    let corpus = files.open(&recorded("r"), 4).expect("a recording");
    (files, corpus)
}

#[test]
fn recorded_steps_of_another_size_or_after_the_end() {
    let (files, corpus) = recording();
    assert_eq!(corpus.training_batch(0, Tokens(16), 2).expect("the last step").rows()[0], 20);
    let ask = |cursor: u64, sequences: usize| {
        told(&files, &corpus.training_batch(0, Tokens(cursor), sequences).expect_err("must be refused"))
    };
    assert_eq!(
        ask(24, 2),
        "r/batches.npy holds 3 steps, but step 3 is read (counted from 0)\nhint: end the run after 3 steps"
    );
    assert_eq!(
        ask(0, 1),
        "r/batches.npy holds 2 sequences a step, but the run reads 1\nhint: set the batch size to 2 sequences"
    );
    assert!(ask(4, 2).starts_with("the cursor is at token 4, which is not a multiple of 8"));
    assert_eq!(
        told(&files, &files.open(&recorded("r"), 5).expect_err("four targets are recorded")),
        "r/batches.npy holds sequences of 4 targets, but the model's context is 5\n\
         hint: set `model.context = 4`"
    );
}
