//! Suites of questions, opened for a run's models: what `inference` reads and asks, as `trainer` wants it. `sapwood eval` asks
//! by the same functions, so that both come to the same numbers.

use std::sync::atomic::AtomicBool;

use engine_native::Cpu;
use inference::suites::{
    ChoiceResult, Estimate, Lambada, LambadaResult, MultipleChoice, Reader, TextResult, Texts,
};
use inference::{InferenceError, Model};
use study::{OpenedSuite, ReadingModel};
use trainer::{PlainModel, Questions, SuiteConfig, SuiteKind, SuiteNumber, SuiteResult, TrainError};

use crate::texts::{OnlyIds, known, vocabulary};

/// A suite, read and made into tokens.
pub(crate) enum Suite {
    MultipleChoice(MultipleChoice),
    Lambada(Lambada),
    Text(Texts),
}

/// Opens a suite of a study, whose paths are seen from here.
///
/// # Errors
/// What is wrong with it, at its key.
pub(crate) fn open(suite: &SuiteConfig, model: &ReadingModel) -> Result<OpenedSuite, TrainError> {
    let fault = |key: &str, reason: String, hint: String| TrainError::Suite { key: key.into(), reason, hint };
    let own = model.tokenizer.as_ref().and_then(known);
    let (named, tokenizer_sha256) = match &suite.tokenizer {
        Some(name) => {
            let found = vocabulary(name, model.vocabulary)
                .map_err(|refused| fault("tokenizer", refused.reason, refused.hint))?;
            (Some(found.tokenizer), Some(found.sha256))
        }
        None if suite.kind == SuiteKind::Lambada && own.is_none() => {
            let reason =
                "lambada cuts texts at their last word, and what makes the model's tokens is not known";
            return Err(fault(
                "tokenizer",
                reason.into(),
                "add `tokenizer = \"gpt2\"`, or a tokenizer.json".into(),
            ));
        }
        None => (own, None),
    };
    let reader = Reader {
        tokenizer: named.as_deref().unwrap_or(&OnlyIds),
        context: model.context,
        vocabulary: model.vocabulary,
        items: suite.items,
    };
    let read = Suite::read(suite.kind, &suite.path, &reader);
    let read = read.map_err(|error| {
        let key = if matches!(error, InferenceError::TooFewItems { .. }) { "items" } else { "path" };
        fault(key, error.to_string(), error.hint())
    })?;
    Ok(OpenedSuite { questions: Box::new(read), tokenizer_sha256 })
}

impl Suite {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(
        kind: SuiteKind,
        path: &std::path::Path,
        reader: &Reader<'_>,
    ) -> Result<Suite, InferenceError> {
        Ok(match kind {
            SuiteKind::MultipleChoice => Suite::MultipleChoice(MultipleChoice::read(path, reader)?),
            SuiteKind::Lambada => Suite::Lambada(Lambada::read(path, reader)?),
            SuiteKind::Text => Suite::Text(Texts::read(path, reader)?),
        })
    }
}

impl Questions for Suite {
    fn put_to(&self, model: PlainModel, halt: &AtomicBool) -> Result<Option<SuiteResult>, TrainError> {
        // The folder of a run whose device gives no numbers is as it was: there is nothing to restore.
        let internal = |error: InferenceError| match error {
            InferenceError::Engine(error) => TrainError::Engine(error),
            error => TrainError::Internal(format!("a suite that was checked cannot be asked: {error}")),
        };
        let model = Model::new(Cpu::new(), &model.shape, model.tensors).map_err(internal)?;
        Ok(match self {
            Suite::MultipleChoice(suite) => {
                suite.put_to(&model, halt).map_err(internal)?.map(|(result, _)| of_choice(&result))
            }
            Suite::Lambada(suite) => {
                suite.put_to(&model, halt).map_err(internal)?.map(|(result, _)| of_lambada(&result))
            }
            Suite::Text(suite) => {
                suite.put_to(&model, halt).map_err(internal)?.map(|(result, _)| of_text(&result))
            }
        })
    }
}

fn of_choice(result: &ChoiceResult) -> SuiteResult {
    let mut numbers = vec![("acc", result.acc), ("acc_norm_tokens", result.acc_norm_tokens)];
    numbers.extend(result.acc_norm_bytes.map(|share| ("acc_norm_bytes", share)));
    named(result.items, result.cut, &numbers)
}

fn of_lambada(result: &LambadaResult) -> SuiteResult {
    named(result.items, result.cut, &[("acc", result.acc), ("perplexity", result.perplexity)])
}

fn of_text(result: &TextResult) -> SuiteResult {
    let mut numbers =
        vec![("loss_nats_per_token", result.loss_nats_per_token), ("perplexity", result.perplexity)];
    let alone = |value| Estimate { value, standard_error: None };
    numbers.extend(result.bits_per_byte.map(|value| ("bits_per_byte", alone(value))));
    // A text that is longer than the model reads is cut into windows, none of it left out.
    named(result.items, 0, &numbers)
}

fn named(items: usize, cut: usize, numbers: &[(&str, Estimate)]) -> SuiteResult {
    let finite = |number: f64| Some(number).filter(|number| number.is_finite());
    let number = |(name, estimate): &(&str, Estimate)| {
        let standard_error = estimate.standard_error.and_then(finite);
        ((*name).to_owned(), SuiteNumber { value: finite(estimate.value), standard_error })
    };
    SuiteResult { items, cut, numbers: numbers.iter().map(number).collect() }
}
