//! LAMBADA: the last word of a passage, whose every token has to be the most probable one.

use std::path::Path;

use engine_native::Kernels;
use serde::{Deserialize, Serialize};

use super::Estimate;
use super::lines::{read, wrong};
use super::scoring::{Greedy, Question, score};
use crate::{InferenceError, Model, Tokenizer};

#[derive(Deserialize)]
struct Line {
    text: String,
}

/// What a suite came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LambadaResult {
    /// Items.
    pub items: usize,
    /// Items whose context was too long, and lost its beginning.
    pub cut: usize,
    /// Last words that are guessed token by token, greedily.
    pub acc: Estimate,
    /// Of a last word: e to the mean of their losses, each the sum over its tokens.
    pub perplexity: Estimate,
}

/// One item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LambadaItem {
    /// Its line, from 1.
    pub line: usize,
    /// Whether its last word is guessed.
    pub is_right: bool,
    /// Of the last word, in nats.
    pub log_likelihood: f64,
    /// Tokens of the last word.
    pub tokens: usize,
}

/// Asks every item of a file; the last word is encoded apart from what is before it, with the space before it.
///
/// # Errors
/// As for [`multiple_choice`](super::multiple_choice).
pub fn lambada<K: Kernels>(
    model: &Model<K>,
    path: &Path,
    tokenizer: &dyn Tokenizer,
) -> Result<(LambadaResult, Vec<LambadaItem>), InferenceError> {
    let (mut questions, mut cut) = (Vec::new(), 0);
    let lines: Vec<(usize, Line)> = read(path)?;
    for (number, line) in &lines {
        let at = |reason| wrong(path, *number, reason);
        let (context, word) = line
            .text
            .trim_end()
            .rsplit_once(char::is_whitespace)
            .ok_or_else(|| at("has a single word".into()))?;
        let encode = |text: &str| tokenizer.encode(text).map_err(at);
        let continuations = vec![encode(&format!(" {word}"))?];
        let mut question = Question { context: encode(context.trim_end())?, continuations };
        cut += usize::from(question.fit(model.shape().context).map_err(at)?);
        questions.push(question);
    }
    let scores = score(model, &questions, Greedy::Asked)?;
    let items: Vec<LambadaItem> = (0..lines.len())
        .map(|i| LambadaItem {
            line: lines[i].0,
            is_right: scores[i][0].is_greedy,
            log_likelihood: scores[i][0].log_likelihood,
            tokens: questions[i].continuations[0].len(),
        })
        .collect();
    let loss = Estimate::mean(items.iter().map(|item| -item.log_likelihood));
    let perplexity = loss.value.exp();
    let result = LambadaResult {
        items: items.len(),
        cut,
        acc: Estimate::mean(items.iter().map(|item| f64::from(u8::from(item.is_right)))),
        perplexity: loss.through(perplexity, perplexity),
    };
    Ok((result, items))
}
