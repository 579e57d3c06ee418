//! Multiple choice, HellaSwag's way: the ending that is most probable after the context.

use std::path::Path;

use engine_native::Kernels;
use serde::{Deserialize, Serialize};

use super::Estimate;
use super::lines::{Said, read, wrong};
use super::scoring::{Greedy, Question, score};
use crate::{InferenceError, Model, Tokenizer};

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

/// Asks every item of a file; a text's ending is encoded apart from its context, with a space before it.
///
/// # Errors
/// A file that cannot be read, an item that makes no sense, or a failing device.
pub fn multiple_choice<K: Kernels>(
    model: &Model<K>,
    path: &Path,
    tokenizer: &dyn Tokenizer,
) -> Result<(ChoiceResult, Vec<ChoiceItem>), InferenceError> {
    let (mut questions, mut bytes, mut cut) = (Vec::new(), Vec::new(), 0);
    let lines: Vec<(usize, Line)> = read(path)?;
    for (number, line) in &lines {
        let at = |reason| wrong(path, *number, reason);
        let (mut question, lengths) = question(line, tokenizer).map_err(at)?;
        cut += usize::from(question.fit(model.shape().context).map_err(at)?);
        questions.push(question);
        bytes.push(lengths);
    }
    let scores = score(model, &questions, Greedy::NotAsked)?;
    let items: Vec<ChoiceItem> = (0..lines.len())
        .map(|i| {
            let log_likelihoods: Vec<f64> = scores[i].iter().map(|score| score.log_likelihood).collect();
            let tokens: Vec<usize> = questions[i].continuations.iter().map(Vec::len).collect();
            let (number, line) = &lines[i];
            item(*number, line.label, log_likelihoods, tokens, bytes[i].as_deref())
        })
        .collect();
    let share = |choice: fn(&ChoiceItem) -> Option<usize>| {
        Estimate::mean(items.iter().map(move |item| f64::from(u8::from(choice(item) == Some(item.label)))))
    };
    let has_bytes = items.iter().all(|item| item.choice_norm_bytes.is_some());
    let result = ChoiceResult {
        items: items.len(),
        cut,
        acc: share(|item| Some(item.choice)),
        acc_norm_tokens: share(|item| Some(item.choice_norm_tokens)),
        acc_norm_bytes: has_bytes.then(|| share(|item| item.choice_norm_bytes)),
    };
    Ok((result, items))
}

/// The item as ids, and the bytes of its endings where all of them are texts.
fn question(line: &Line, tokenizer: &dyn Tokenizer) -> Result<(Question, Option<Vec<usize>>), String> {
    if line.endings.len() < 2 || line.label >= line.endings.len() {
        return Err(format!("has {} endings and the label {}", line.endings.len(), line.label));
    }
    let (context, _) = line.ctx.ids("", tokenizer)?;
    let endings =
        line.endings.iter().map(|ending| ending.ids(" ", tokenizer)).collect::<Result<Vec<_>, String>>()?;
    let bytes = endings.iter().map(|(_, bytes)| bytes.filter(|bytes| *bytes > 0)).collect();
    Ok((Question { context, continuations: endings.into_iter().map(|(ids, _)| ids).collect() }, bytes))
}

fn item(
    line: usize,
    label: usize,
    log_likelihoods: Vec<f64>,
    tokens: Vec<usize>,
    bytes: Option<&[usize]>,
) -> ChoiceItem {
    let by = |lengths: &[usize]| {
        best(log_likelihoods.iter().zip(lengths).map(|(sum, length)| sum / *length as f64))
    };
    ChoiceItem {
        line,
        label,
        choice: best(log_likelihoods.iter().copied()),
        choice_norm_tokens: by(&tokens),
        choice_norm_bytes: bytes.map(by),
        log_likelihoods,
        tokens,
    }
}

/// The largest; of equal ones the first.
fn best(values: impl Iterator<Item = f64>) -> usize {
    let larger = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    values.enumerate().fold((0, f64::NEG_INFINITY), larger).0
}
