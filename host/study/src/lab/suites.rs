//! The suites of questions that a study's file names, opened. Who reads their files and asks them is given from outside (`sapwood`);
//! when they are asked is for a run (`trainer`).

use std::path::Path;

use data::TokenizerIdentity;
use trainer::{ConfigError, ErrorClass, Questions, Suite, SuiteConfig, TrainError};

use super::Lab;
use crate::StudyError;
use crate::file::from_folder;

/// Opens a suite whose paths are seen from where the program runs; whatever is wrong with it is a [`TrainError::Suite`] that
/// names the key.
pub type OpenSuite = fn(&SuiteConfig, &ReadingModel) -> Result<OpenedSuite, TrainError>;

/// What the models of a study can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadingModel {
    /// Most tokens at once.
    pub context: usize,
    /// Ids are below it.
    pub vocabulary: usize,
    /// What makes them, where the data tells.
    pub tokenizer: Option<TokenizerIdentity>,
}

/// A suite's questions, and what made tokens of them.
pub struct OpenedSuite {
    /// Its questions.
    pub questions: Box<dyn Questions>,
    /// Hash of the tokenizer's vocabulary, where one was named.
    pub tokenizer_sha256: Option<String>,
}

impl Lab<'_> {
    /// The suites that runs are put to, of the file as it is now; opened when they are first asked for.
    ///
    /// # Errors
    /// A file that is missing or makes no sense, at its key.
    pub fn suites(&self) -> Result<&[Suite], TrainError> {
        if self.file.evaluation.suites.is_empty() {
            return Ok(&[]);
        }
        if let Some(suites) = self.suites.get() {
            return Ok(suites);
        }
        let opened: Result<Vec<Suite>, TrainError> = (0..)
            .zip(&self.file.evaluation.suites)
            .map(|(index, suite)| {
                self.opened(suite).map_err(|error| match error {
                    TrainError::Suite { key, reason, hint } => {
                        TrainError::Suite { key: format!("evaluation.suites[{index}].{key}"), reason, hint }
                    }
                    error => error,
                })
            })
            .collect();
        let opened = opened?;
        Ok(self.suites.get_or_init(|| opened))
    }

    fn opened(&self, suite: &SuiteConfig) -> Result<Suite, TrainError> {
        let model = &self.file.model;
        let reading = ReadingModel {
            context: model.context,
            vocabulary: model.vocabulary,
            tokenizer: self.corpus()?.tokenizer().cloned(),
        };
        let folder = self.source.folder();
        let tokenizer = suite.tokenizer.as_ref().map(|name| match name.ends_with(".json") {
            true => from_folder(folder, Path::new(name)).display().to_string(),
            false => name.clone(),
        });
        let path = from_folder(folder, &suite.path);
        let from_here = SuiteConfig { path: path.clone(), tokenizer, ..suite.clone() };
        let OpenedSuite { questions, tokenizer_sha256 } = (self.open_suite)(&from_here, &reading)?;
        Suite::of_file(suite.clone(), &path, tokenizer_sha256, questions)
    }

    /// Opens the suites, and makes sure that they can be asked.
    ///
    /// # Errors
    /// As for [`suites`](Lab::suites), with the place in the file.
    pub fn check_suites(&self) -> Result<(), StudyError> {
        self.suites().map(|_| ()).map_err(|error| match error {
            TrainError::Suite { key, reason, hint } => {
                let source = self.source.locate(ConfigError { key, message: reason, hint });
                StudyError::Located { source, class: ErrorClass::Data }
            }
            error => error.into(),
        })
    }
}
