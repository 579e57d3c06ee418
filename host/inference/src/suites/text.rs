//! The loss on texts: each is cut into windows of the context's length, every token but a text's first is predicted once.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use engine_native::Kernels;
use serde::{Deserialize, Serialize};

use super::lines::{Said, read, wrong};
use super::{Estimate, Reader};
use crate::cache::Piece;
use crate::{InferenceError, Model};

#[derive(Deserialize)]
struct Line {
    text: Said,
}

/// What texts came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextResult {
    /// Texts.
    pub items: usize,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Nats per token; the error is that of a ratio over texts.
    pub loss_nats_per_token: Estimate,
    /// e to that.
    pub perplexity: Estimate,
    /// Bits per byte of what was predicted; `None` where a text is given as ids.
    pub bits_per_byte: Option<f64>,
}

/// One text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextItem {
    /// Its line, from 1.
    pub line: usize,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Sum of their losses, in nats.
    pub loss_nats: f64,
    /// Bytes of what was predicted.
    pub bytes: Option<usize>,
}

/// Texts, made into tokens.
pub struct Texts {
    texts: Vec<Text>,
}

struct Text {
    line: usize,
    ids: Vec<u32>,
    /// Bytes of what is predicted; `None` where the text is given as ids.
    bytes: Option<usize>,
}

impl Texts {
    /// Reads a file.
    ///
    /// # Errors
    /// As for [`MultipleChoice::read`](super::MultipleChoice::read).
    pub fn read(path: &Path, reader: &Reader<'_>) -> Result<Texts, InferenceError> {
        let mut texts = Vec::new();
        for (line, Line { text }) in read(path, reader.items)? {
            let at = |reason| wrong(path, line, reason);
            let (ids, bytes) = text.ids("", reader).map_err(at)?;
            let (Some(&first), true) = (ids.first(), ids.len() > 1) else {
                return Err(at("has less than two tokens".into()));
            };
            let bytes = bytes.map(|bytes| bytes.saturating_sub(reader.tokenizer.bytes_of(first).len()));
            texts.push(Text { line, ids, bytes });
        }
        Ok(Texts { texts })
    }

    /// Has every text predicted; `None` where it was told to halt before the last.
    ///
    /// # Errors
    /// A failing device.
    pub fn put_to<K: Kernels>(
        &self,
        model: &Model<K>,
        halt: &AtomicBool,
    ) -> Result<Option<(TextResult, Vec<TextItem>)>, InferenceError> {
        let mut items = Vec::new();
        for Text { line, ids, bytes } in &self.texts {
            if halt.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let loss_nats = loss(model, ids)?;
            items.push(TextItem { line: *line, tokens: ids.len() - 1, loss_nats, bytes: *bytes });
        }
        Ok(Some((of_items(&items), items)))
    }
}

fn of_items(items: &[TextItem]) -> TextResult {
    let tokens: usize = items.iter().map(|item| item.tokens).sum();
    let nats: f64 = items.iter().map(|item| item.loss_nats).sum();
    let mean = nats / tokens as f64;
    let loss = Estimate { value: mean, standard_error: ratio_error(items, mean, tokens) };
    let bytes: Option<usize> = items.iter().map(|item| item.bytes).sum();
    TextResult {
        items: items.len(),
        tokens,
        loss_nats_per_token: loss,
        perplexity: loss.through(mean.exp(), mean.exp()),
        bits_per_byte: bytes
            .filter(|bytes| *bytes > 0)
            .map(|bytes| nats / std::f64::consts::LN_2 / bytes as f64),
    }
}

fn loss<K: Kernels>(model: &Model<K>, ids: &[u32]) -> Result<f64, InferenceError> {
    let mut sum = 0.0;
    for (inputs, targets) in
        ids[..ids.len() - 1].chunks(model.shape().context).zip(ids[1..].chunks(model.shape().context))
    {
        let rows = model.forward(&[Piece { prefix: None, tokens: inputs }])?.rows;
        sum += model.losses(&rows, targets)?.into_iter().map(f64::from).sum::<f64>();
    }
    Ok(sum)
}

/// Of a ratio of sums over texts, which differ in length.
fn ratio_error(items: &[TextItem], mean: f64, tokens: usize) -> Option<f64> {
    let count = items.len() as f64;
    let off: f64 = items.iter().map(|item| (item.loss_nats - mean * item.tokens as f64).powi(2)).sum();
    (count > 1.0).then(|| (off * count / (count - 1.0)).sqrt() / tokens as f64)
}
