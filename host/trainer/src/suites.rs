//! Suites of questions that a run's model is put to at some of its evaluations: what a run's file says of them, who asks
//! them, and what came of it. Not here: how a suite is read and a model scored, which whoever starts a run brings along as
//! [`Questions`]; and when a suite is due (`run/suites.rs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use engine::{ModelShape, Step};
use serde::{Deserialize, Serialize};

use crate::hugging_face::Tensors;
use crate::storage::hash_of_file;
use crate::{ConfigError, TrainError};

/// A suite, as a run's file names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteConfig {
    /// What it is called in logs and reports.
    pub name: String,
    /// What is asked.
    pub kind: SuiteKind,
    /// Its file, one JSON object a line; relative to the study's file.
    pub path: PathBuf,
    /// What makes tokens of its texts: `bytes`, `gpt2`, or a `tokenizer.json` relative to the study's file; without it that
    /// which the data was made with, and where that is not known only token ids are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// So many items, evenly spaced over the file; without it all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<usize>,
    /// It is put to the model at every so manieth evaluation, the first one among them, and always at the last one.
    pub every_evaluations: u64,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteKind {
    /// The most probable of several endings.
    MultipleChoice,
    /// The last word of a passage.
    Lambada,
    /// Loss, perplexity and bits per byte.
    Text,
}

/// A suite that is ready to be put to a model.
pub struct Suite {
    /// What the run's file says of it.
    pub config: SuiteConfig,
    /// What its results depend on.
    pub facts: SuiteFacts,
    /// Its questions.
    pub questions: Box<dyn Questions>,
}

/// What a suite's results depend on beside its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuiteFacts {
    /// Hash of its file.
    pub sha256: String,
    /// Hash of the tokenizer's vocabulary; `None` where none was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_sha256: Option<String>,
}

/// Questions, read and made into tokens.
pub trait Questions: Send + Sync {
    /// [when its suite is due] Puts all of them to a model. `Ok(None)` where it was told to halt before the end: then nothing is
    /// known, and all of them are put again later.
    ///
    /// # Errors
    /// Ends the run; the model and all logs are as they were.
    fn put_to(&self, model: PlainModel, halt: &AtomicBool) -> Result<Option<SuiteResult>, TrainError>;
}

/// A model as plain GPT-2, gates multiplied into its weights: what a checkpoint of this moment would hold.
pub struct PlainModel {
    /// As deep and wide as it is now.
    pub shape: ModelShape,
    /// By names such as `transformer.h.3.mlp.c_fc.weight`.
    pub tensors: Tensors,
}

/// What a suite came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteResult {
    /// Items that were asked.
    pub items: usize,
    /// Items that were too long, and lost their beginning.
    pub cut: usize,
    /// `acc`, `perplexity` …, by name.
    pub numbers: BTreeMap<String, SuiteNumber>,
}

/// A number, and how far it may be off for the items being a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteNumber {
    /// The number; `None` where it is none: e to a large loss overflows.
    pub value: Option<f64>,
    /// Its standard error, where it has one.
    pub standard_error: Option<f64>,
}

impl Suite {
    /// Binds questions to the file that they were read from.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn of_file(
        config: SuiteConfig,
        file: &Path,
        tokenizer_sha256: Option<String>,
        questions: Box<dyn Questions>,
    ) -> Result<Suite, TrainError> {
        let facts = SuiteFacts { sha256: hash_of_file(file)?, tokenizer_sha256 };
        Ok(Suite { config, facts, questions })
    }
}

impl SuiteConfig {
    /// Whether it is asked at a run's regular evaluations before that step.
    pub fn is_due(&self, step: Step, steps_between_evaluations: u64) -> bool {
        step.0.is_multiple_of(steps_between_evaluations.saturating_mul(self.every_evaluations))
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// The first key at fault.
    pub(crate) fn check_all(suites: &[SuiteConfig]) -> Result<(), ConfigError> {
        for (index, suite) in suites.iter().enumerate() {
            let error = |key: &str, message: String, hint: &str| {
                Err(ConfigError::new(format!("evaluation.suites[{index}].{key}"), message, hint))
            };
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if suite.name.is_empty() || suite.name.len() > 24 || !suite.name.chars().all(is_plain) {
                let message = format!("`{}` cannot name a suite", suite.name);
                return error("name", message, "use letters, digits, -, _ and ., at most 24");
            }
            if suites[..index].iter().any(|other| other.name == suite.name) {
                let message = format!("two suites are called `{}`", suite.name);
                return error("name", message, "give each a name of its own: results are kept by it");
            }
            for (key, count) in
                [("items", suite.items.unwrap_or(1) as u64), ("every_evaluations", suite.every_evaluations)]
            {
                if count == 0 {
                    let message = format!("`{key}` of the suite `{}` is 0", suite.name);
                    let hint = "choose at least 1, or leave `items` out for the whole file";
                    return error(key, message, if key == "items" { hint } else { "choose at least 1" });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(name: &str) -> SuiteConfig {
        SuiteConfig {
            name: name.into(),
            kind: SuiteKind::Text,
            path: "suite.jsonl".into(),
            tokenizer: None,
            items: None,
            every_evaluations: 4,
        }
    }

    #[test]
    fn a_suite_is_asked_at_every_so_manieth_evaluation() {
        let due: Vec<u64> = (0..100).filter(|&step| suite("a").is_due(Step(step), 5)).collect();
        assert_eq!(due, [0, 20, 40, 60, 80]);
        let never_again = SuiteConfig { every_evaluations: u64::MAX, ..suite("a") };
        assert!(never_again.is_due(Step(0), 5) && !never_again.is_due(Step(5), 5));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        let check = |suites: &[SuiteConfig]| {
            SuiteConfig::check_all(suites).map_err(|error| format!("{}: {error}", error.key))
        };
        assert_eq!(check(&[suite("a"), suite("b")]), Ok(()));
        for (suites, said) in [
            (vec![suite("a"), suite("a")], "evaluation.suites[1].name: two suites are called `a`"),
            (vec![suite("a/b")], "evaluation.suites[0].name: `a/b` cannot name a suite"),
            (
                vec![SuiteConfig { items: Some(0), ..suite("a") }],
                "evaluation.suites[0].items: `items` of the suite `a` is 0",
            ),
            (
                vec![SuiteConfig { every_evaluations: 0, ..suite("a") }],
                "evaluation.suites[0].every_evaluations: `every_evaluations` of the suite `a` is 0",
            ),
        ] {
            assert_eq!(check(&suites), Err(said.into()));
        }
    }
}
