//! How probable each of several continuations is after a context. The context is read once for all of them; many items
//! go through the model together, packed row below row, so that none is padded to another's length.

use std::sync::atomic::{AtomicBool, Ordering};

use engine_native::Kernels;

use crate::cache::{Cache, Piece};
use crate::{InferenceError, Model};

/// Rows that go through the model at once, roughly.
pub(super) const ROWS_AT_ONCE: usize = 2048;

/// A context and what may follow it, as ids.
pub(super) struct Question {
    pub(super) context: Vec<u32>,
    pub(super) continuations: Vec<Vec<u32>>,
}

/// A continuation's tokens after the context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Score {
    /// Sum of the logarithms of their probabilities.
    pub(super) log_likelihood: f64,
    /// Whether each of them is the most probable one there; `false` where nobody asked.
    pub(super) is_greedy: bool,
}

/// Whether it is asked which token is the most probable.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Greedy {
    Asked,
    NotAsked,
}

impl Question {
    /// Leaves the end of the context that fits before the longest continuation; answers whether something was cut off.
    pub(super) fn fit(&mut self, most: usize) -> Result<bool, String> {
        let longest = self.continuations.iter().map(Vec::len).max().unwrap_or(0);
        if self.context.is_empty() || self.continuations.iter().any(Vec::is_empty) {
            return Err("has a context or a continuation without a token".into());
        }
        if longest > most {
            return Err(format!("has a continuation of {longest} tokens; the model reads {most}"));
        }
        // The last token of a continuation is predicted, not read.
        let surplus = (self.context.len() + longest - 1).saturating_sub(most);
        self.context.drain(..surplus);
        Ok(surplus > 0)
    }

    fn rows(&self) -> usize {
        self.context.len() + self.continuations.iter().map(Vec::len).sum::<usize>()
    }
}

/// Scores of every continuation, question by question; `None` where it was told to halt before the last.
pub(super) fn score<K: Kernels>(
    model: &Model<K>,
    questions: &[Question],
    greedy: Greedy,
    halt: &AtomicBool,
) -> Result<Option<Vec<Vec<Score>>>, InferenceError> {
    let mut scores = Vec::with_capacity(questions.len());
    let mut first = 0;
    while first < questions.len() {
        if halt.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (mut end, mut rows) = (first, 0);
        while end < questions.len() && (end == first || rows + questions[end].rows() <= ROWS_AT_ONCE) {
            rows += questions[end].rows();
            end += 1;
        }
        scores.extend(together(model, &questions[first..end], greedy)?);
        first = end;
    }
    Ok(Some(scores))
}

fn together<K: Kernels>(
    model: &Model<K>,
    questions: &[Question],
    greedy: Greedy,
) -> Result<Vec<Vec<Score>>, InferenceError> {
    // The context's last token is read with each continuation, whose first one it predicts.
    let shared: Vec<&[u32]> =
        questions.iter().map(|question| &question.context[..question.context.len() - 1]).collect();
    let pieces: Vec<Piece<'_>> = shared
        .iter()
        .filter(|tokens| !tokens.is_empty())
        .map(|tokens| Piece { prefix: None, tokens })
        .collect();
    let mut read = model.forward(&pieces)?.caches.into_iter();
    let caches: Vec<Option<Cache>> =
        shared.iter().map(|tokens| if tokens.is_empty() { None } else { read.next() }).collect();
    let inputs: Vec<Vec<Vec<u32>>> = questions.iter().map(inputs).collect();
    let pieces: Vec<Piece<'_>> = caches
        .iter()
        .zip(&inputs)
        .flat_map(|(cache, inputs)| inputs.iter().map(move |tokens| Piece { prefix: cache.as_ref(), tokens }))
        .collect();
    let rows = model.forward(&pieces)?.rows;
    let targets: Vec<u32> = questions.iter().flat_map(|question| question.continuations.concat()).collect();
    let losses = model.losses(&rows, &targets)?;
    let hits =
        if greedy == Greedy::Asked { hits(model, &rows, &targets)? } else { vec![false; targets.len()] };
    let mut tokens = losses.into_iter().zip(hits);
    let mut of = |continuation: &Vec<u32>| {
        let mut score = Score { log_likelihood: 0.0, is_greedy: true };
        for (loss, hit) in tokens.by_ref().take(continuation.len()) {
            score.log_likelihood -= f64::from(loss);
            score.is_greedy &= hit;
        }
        score
    };
    Ok(questions.iter().map(|question| question.continuations.iter().map(&mut of).collect()).collect())
}

fn inputs(question: &Question) -> Vec<Vec<u32>> {
    let last = question.context.last().copied();
    let input = |continuation: &Vec<u32>| {
        last.into_iter().chain(continuation[..continuation.len() - 1].iter().copied()).collect()
    };
    question.continuations.iter().map(input).collect()
}

/// Whether each target has the largest logit; of equal ones the lower id counts.
fn hits<K: Kernels>(model: &Model<K>, rows: &[f32], targets: &[u32]) -> Result<Vec<bool>, InferenceError> {
    let (width, vocabulary) = (model.shape().width, model.shape().vocabulary);
    let mut hits = Vec::with_capacity(targets.len());
    for (rows, targets) in rows.chunks(64 * width).zip(targets.chunks(64)) {
        let logits = model.logits(rows)?;
        for (logits, &target) in logits.chunks_exact(vocabulary).zip(targets) {
            let best = (1..vocabulary).fold(0, |best, id| if logits[id] > logits[best] { id } else { best });
            hits.push(best == target as usize);
        }
    }
    Ok(hits)
}
