//! LAMBADA: the last word of a passage, whose every token has to be the most probable one.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use engine_native::Kernels;
use serde::{Deserialize, Serialize};

use super::lines::{read, wrong};
use super::scoring::{Greedy, Question, score};
use super::{Estimate, Reader};
use crate::{InferenceError, Model};

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

/// Passages, made into tokens: the last word is encoded apart from what is before it, with the space before it.
pub struct Lambada {
    lines: Vec<usize>,
    questions: Vec<Question>,
    cut: usize,
}

impl Lambada {
    /// Reads a file.
    ///
    /// # Errors
    /// As for [`MultipleChoice::read`](super::MultipleChoice::read).
    pub fn read(path: &Path, reader: &Reader<'_>) -> Result<Lambada, InferenceError> {
        let mut suite = Lambada { lines: Vec::new(), questions: Vec::new(), cut: 0 };
        for (number, line) in read::<Line>(path, reader.items)? {
            let at = |reason| wrong(path, number, reason);
            let (context, word) = line
                .text
                .trim_end()
                .rsplit_once(char::is_whitespace)
                .ok_or_else(|| at("has a single word".into()))?;
            let encode = |text: &str| reader.encode(text).map_err(at);
            let continuations = vec![encode(&format!(" {word}"))?];
            let mut question = Question { context: encode(context.trim_end())?, continuations };
            suite.cut += usize::from(question.fit(reader.context).map_err(at)?);
            suite.questions.push(question);
            suite.lines.push(number);
        }
        Ok(suite)
    }

    /// Asks every item; `None` where it was told to halt before the last.
    ///
    /// # Errors
    /// A failing device.
    pub fn put_to<K: Kernels>(
        &self,
        model: &Model<K>,
        halt: &AtomicBool,
    ) -> Result<Option<(LambadaResult, Vec<LambadaItem>)>, InferenceError> {
        let Some(scores) = score(model, &self.questions, Greedy::Asked, halt)? else { return Ok(None) };
        let items: Vec<LambadaItem> = (0..self.lines.len())
            .map(|i| LambadaItem {
                line: self.lines[i],
                is_right: scores[i][0].is_greedy,
                log_likelihood: scores[i][0].log_likelihood,
                tokens: self.questions[i].continuations[0].len(),
            })
            .collect();
        let loss = Estimate::mean(items.iter().map(|item| -item.log_likelihood));
        let perplexity = loss.value.exp();
        let result = LambadaResult {
            items: items.len(),
            cut: self.cut,
            acc: Estimate::mean(items.iter().map(|item| f64::from(u8::from(item.is_right)))),
            perplexity: loss.through(perplexity, perplexity),
        };
        Ok(Some((result, items)))
    }
}
