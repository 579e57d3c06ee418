//! Multiple choice, HellaSwag's way: the ending that is most probable after the context.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use engine_native::Kernels;
use serde::{Deserialize, Serialize};

use super::lines::{Said, read, wrong};
use super::scoring::{Greedy, Question, score};
use super::{Estimate, Reader};
use crate::{InferenceError, Model};

/// A line; further keys are the suite's own business.
#[derive(Deserialize)]
struct Line {
    ctx: Said,
    endings: Vec<Said>,
    label: usize,
}

/// What a suite came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChoiceResult {
    /// Items.
    pub items: usize,
    /// Items whose context was too long, and lost its beginning.
    pub cut: usize,
    /// Right by the sum of log-likelihoods.
    pub acc: Estimate,
    /// Right by the mean log-likelihood of a token: what build-nanogpt, and so the paper, call `acc_norm`.
    pub acc_norm_tokens: Estimate,
    /// Right by the log-likelihood divided by the ending's bytes, the space before it not counted; `None` where endings are ids.
    pub acc_norm_bytes: Option<Estimate>,
}

/// One item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChoiceItem {
    /// Its line, from 1.
    pub line: usize,
    /// The right ending, from 0.
    pub label: usize,
    /// The choice by `acc`.
    pub choice: usize,
    /// The choice by `acc_norm_tokens`.
    pub choice_norm_tokens: usize,
    /// The choice by `acc_norm_bytes`.
    pub choice_norm_bytes: Option<usize>,
    /// Of each ending, in nats.
    pub log_likelihoods: Vec<f64>,
    /// Tokens of each ending.
    pub tokens: Vec<usize>,
}

/// Items, made into tokens: a text's ending is encoded apart from its context, with a space before it.
pub struct MultipleChoice {
    items: Vec<Item>,
    questions: Vec<Question>,
    cut: usize,
}

/// What of an item is no question.
struct Item {
    line: usize,
    label: usize,
    /// Of each ending, where all of them are texts.
    bytes: Option<Vec<usize>>,
}

impl MultipleChoice {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or an item that makes no sense.
    pub fn read(path: &Path, reader: &Reader<'_>) -> Result<MultipleChoice, InferenceError> {
        let mut suite = MultipleChoice { items: Vec::new(), questions: Vec::new(), cut: 0 };
        for (number, line) in read::<Line>(path, reader.items)? {
            let at = |reason| wrong(path, number, reason);
            let (mut question, bytes) = question(&line, reader).map_err(at)?;
            suite.cut += usize::from(question.fit(reader.context).map_err(at)?);
            suite.questions.push(question);
            suite.items.push(Item { line: number, label: line.label, bytes });
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
    ) -> Result<Option<(ChoiceResult, Vec<ChoiceItem>)>, InferenceError> {
        let Some(scores) = score(model, &self.questions, Greedy::NotAsked, halt)? else { return Ok(None) };
        let answers = self.items.iter().zip(&self.questions).zip(scores);
        let items: Vec<ChoiceItem> = answers
            .map(|((item, question), scores)| {
                let log_likelihoods = scores.iter().map(|score| score.log_likelihood).collect();
                answered(item, log_likelihoods, question.continuations.iter().map(Vec::len).collect())
            })
            .collect();
        let share = |choice: fn(&ChoiceItem) -> Option<usize>| {
            Estimate::mean(
                items.iter().map(move |item| f64::from(u8::from(choice(item) == Some(item.label)))),
            )
        };
        let has_bytes = items.iter().all(|item| item.choice_norm_bytes.is_some());
        let result = ChoiceResult {
            items: items.len(),
            cut: self.cut,
            acc: share(|item| Some(item.choice)),
            acc_norm_tokens: share(|item| Some(item.choice_norm_tokens)),
            acc_norm_bytes: has_bytes.then(|| share(|item| item.choice_norm_bytes)),
        };
        Ok(Some((result, items)))
    }
}

/// The item as ids, and the bytes of its endings where all of them are texts.
fn question(line: &Line, reader: &Reader<'_>) -> Result<(Question, Option<Vec<usize>>), String> {
    if line.endings.len() < 2 || line.label >= line.endings.len() {
        return Err(format!("has {} endings and the label {}", line.endings.len(), line.label));
    }
    let (context, _) = line.ctx.ids("", reader)?;
    let endings =
        line.endings.iter().map(|ending| ending.ids(" ", reader)).collect::<Result<Vec<_>, String>>()?;
    let bytes = endings.iter().map(|(_, bytes)| bytes.filter(|bytes| *bytes > 0)).collect();
    Ok((Question { context, continuations: endings.into_iter().map(|(ids, _)| ids).collect() }, bytes))
}

fn answered(item: &Item, log_likelihoods: Vec<f64>, tokens: Vec<usize>) -> ChoiceItem {
    let by = |lengths: &[usize]| {
        best(log_likelihoods.iter().zip(lengths).map(|(sum, length)| sum / *length as f64))
    };
    ChoiceItem {
        line: item.line,
        label: item.label,
        choice: best(log_likelihoods.iter().copied()),
        choice_norm_tokens: by(&tokens),
        choice_norm_bytes: item.bytes.as_deref().map(by),
        log_likelihoods,
        tokens,
    }
}

/// The largest; of equal ones the first.
fn best(values: impl Iterator<Item = f64>) -> usize {
    let larger = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    values.enumerate().fold((0, f64::NEG_INFINITY), larger).0
}
