//! Does it give the recorded batches of the golden runs? Expected ids were read from the files with numpy
//! (`numpy.load(f)[...]`), not with this crate.

use std::path::{Path, PathBuf};

use data::{Corpus, CorpusFacts, DataConfig, Needs, open};
use engine::Tokens;

const TOKENS_PER_STEP: u64 = 4 * 64;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn corpus() -> Corpus {
    let config = DataConfig::Recorded { folder: "torch_reference".into() };
    open(&config, &golden(), Needs { context: 64, vocabulary: 256 }).expect("a folder of the repository")
}

#[test]
fn steps_come_as_recorded() {
    let corpus = corpus();
    let first = corpus.training_batch(1, Tokens(0), 4).expect("40 steps");
    assert_eq!((first.sequences(), first.length()), (4, 64));
    assert_eq!(first.rows()[..6], FIRST);
    let last = corpus.training_batch(9, Tokens(39 * TOKENS_PER_STEP), 4).expect("40 steps");
    assert_eq!(last.rows()[254..], LAST);
    let sum: u64 = (0..40)
        .map(|step| corpus.training_batch(0, Tokens(step * TOKENS_PER_STEP), 4).expect("40 steps"))
        .flat_map(|batch| batch.rows().to_vec())
        .map(u64::from)
        .sum();
    assert_eq!(sum, SUM);
}

#[test]
fn the_held_out_rows_come_whole_in_batches_of_any_size() {
    let corpus = corpus();
    let whole = corpus.validation_batches(1, 4).expect("four rows");
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].rows().iter().map(|&id| u64::from(id)).sum::<u64>(), EVAL_SUM);
    let parts = corpus.validation_batches(1, 3).expect("four rows");
    assert_eq!(parts.iter().map(|batch| batch.sequences()).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(parts[1].rows(), &whole[0].rows()[3 * 65..]);
}

#[test]
fn it_knows_its_size() {
    let corpus = corpus();
    let CorpusFacts { train_tokens, validation_tokens, epoch_tokens, .. } =
        corpus.describe().expect("readable files");
    assert_eq!((train_tokens.0, validation_tokens.0, epoch_tokens.0), (40 * 4 * 65, 4 * 65, 40 * 256));
    assert_eq!(corpus.epochs_at(Tokens(20 * TOKENS_PER_STEP)), 0.5);
}

/// `batches[0, 0, :6]`, `batches[39].ravel()[254:]`, and the sums of both arrays.
const FIRST: [u32; 6] = [101, 110, 99, 121, 32, 111];
const LAST: [u32; 6] = [105, 115, 101, 44, 32, 97];
const SUM: u64 = 945377;
const EVAL_SUM: u64 = 23709;
