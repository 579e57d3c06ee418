//! Batches that are there before they are asked for: a thread reads on while a run computes. What a batch is made
//! of does not depend on it, and neither does when an error is told: at the batch that it concerns.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use engine::{TokenBatch, Tokens};

use crate::{Corpus, DataError};

/// Ids that are read in one go: for small batches waking the thread would cost more than reading does.
const IDS_AT_ONCE: u64 = 1 << 18;
const MOST_BATCHES_AT_ONCE: u64 = 64;

/// Reads a run's training batches before it asks for them.
#[derive(Debug)]
pub struct ReadAhead {
    corpus: Corpus,
    seed: u64,
    ready: VecDeque<Read>,
    coming: Option<Coming>,
    /// The thread, by what it takes requests from; it ends with this.
    requests: Option<Sender<Request>>,
}

/// A batch that was read, or why it could not be.
#[derive(Debug)]
struct Read {
    cursor: Tokens,
    sequences: usize,
    batch: Result<TokenBatch, DataError>,
}

/// Batches that are being read.
#[derive(Debug)]
struct Coming {
    first: Tokens,
    sequences: usize,
    batches: Receiver<VecDeque<Read>>,
}

/// What is to be read: consecutive batches of one size.
#[derive(Debug)]
struct Request {
    first: Tokens,
    sequences: usize,
    answer: Sender<VecDeque<Read>>,
}

impl ReadAhead {
    /// Of that data, for a run of that seed.
    pub fn new(corpus: &Corpus, seed: u64) -> ReadAhead {
        let corpus = corpus.clone();
        ReadAhead {
            requests: reading_thread(corpus.clone(), seed),
            corpus,
            seed,
            ready: VecDeque::new(),
            coming: None,
        }
    }

    /// As [`Corpus::training_batch`]. Whoever asks for what does not follow on the last answer waits for the disk.
    ///
    /// # Errors
    /// As there.
    pub fn batch(&mut self, cursor: Tokens, sequences: usize) -> Result<TokenBatch, DataError> {
        if self.ready.is_empty() {
            self.take_coming(cursor, sequences);
        }
        let found =
            self.ready.pop_front().filter(|read| (read.cursor, read.sequences) == (cursor, sequences));
        if let Some(read) = found {
            if self.coming.is_none() {
                let last = self.ready.back().map_or(cursor, |read| read.cursor);
                self.request(last, sequences);
            }
            return read.batch;
        }
        self.ready.clear();
        self.coming = None;
        self.request(cursor, sequences);
        self.corpus.training_batch(self.seed, cursor, sequences)
    }

    /// Waits for what is being read, where it is what is wanted.
    fn take_coming(&mut self, cursor: Tokens, sequences: usize) {
        let wanted = self.coming.take_if(|coming| (coming.first, coming.sequences) == (cursor, sequences));
        // A thread that is gone has no answer: then it is read here.
        self.ready = wanted.and_then(|coming| coming.batches.recv().ok()).unwrap_or_default();
    }

    /// Has read what follows on the batch at `last`.
    fn request(&mut self, last: Tokens, sequences: usize) {
        let Some(requests) = &self.requests else { return };
        let (answer, batches) = mpsc::channel();
        let first = Tokens(last.0 + self.corpus.targets_of(sequences));
        if requests.send(Request { first, sequences, answer }).is_ok() {
            self.coming = Some(Coming { first, sequences, batches });
        }
    }
}

/// `None` where the system has no thread left: then nothing is read ahead.
fn reading_thread(corpus: Corpus, seed: u64) -> Option<Sender<Request>> {
    let (sender, requests) = mpsc::channel::<Request>();
    let work = move || {
        for Request { first, sequences, answer } in requests {
            // Nobody waits any more for what was asked for before a run went another way.
            let _ = answer.send(read(&corpus, seed, first, sequences));
        }
    };
    thread::Builder::new().name("read-ahead".into()).spawn(work).ok().map(|_| sender)
}

/// Batches from `first` on, up to the first that cannot be read.
fn read(corpus: &Corpus, seed: u64, first: Tokens, sequences: usize) -> VecDeque<Read> {
    let targets = corpus.targets_of(sequences);
    let batches = (IDS_AT_ONCE / targets.max(1)).clamp(1, MOST_BATCHES_AT_ONCE);
    let mut read = VecDeque::new();
    for cursor in (0..batches).map(|batch| Tokens(first.0 + batch * targets)) {
        let batch = corpus.training_batch(seed, cursor, sequences);
        let failed = batch.is_err();
        read.push_back(Read { cursor, sequences, batch });
        if failed {
            break;
        }
    }
    read
}
