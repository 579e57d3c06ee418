//! A study ready to run: its file checked, its plugins found, its data opened; it gives each run what it is made of. What
//! cannot work is refused here, before the first step of the first run. Arms are rehearsed in `lab/planned.rs`.

mod planned;
mod suites;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use data::{Corpus, Needs};
use engine::{Engine, EngineError, ModelShape, Precision, Tokens};
use plugin_host::api::{GrowthStrategy, Kind, MetricReporter};
use plugin_host::signature::TrustedKey;
use plugin_host::{Choice, Isolation, Loaded, PluginError, PluginLock, Registry, SearchPath};
use trainer::{ConfigError, InitialModel, Initializers, RunConfig, Suite, TrainError};

use crate::StudyError;
use crate::file::{StudyFile, from_folder, in_arm};
use crate::source::Source;

pub use planned::PlannedArm;
pub use suites::{OpenSuite, OpenedSuite, ReadingModel};

/// Builds an engine with no block yet.
pub type BuildEngine<'a> =
    &'a (dyn Fn(&ModelShape, Precision) -> Result<Box<dyn Engine>, EngineError> + Sync);

/// A study ready to run.
pub struct Lab<'a> {
    /// The file, checked.
    pub file: StudyFile,
    source: Source,
    corpus: OnceLock<Corpus>,
    suites: OnceLock<Vec<Suite>>,
    registry: Registry,
    build_engine: BuildEngine<'a>,
    open_suite: OpenSuite,
}

impl<'a> Lab<'a> {
    /// Reads and checks a study's file, and looks for plugins.
    ///
    /// # Errors
    /// Whatever is wrong with them, with its place in the file.
    pub fn open(
        source: Source,
        plugin_path: &[PathBuf],
        build_engine: BuildEngine<'a>,
        open_suite: OpenSuite,
    ) -> Result<Lab<'a>, StudyError> {
        let file: StudyFile = source.value()?;
        file.check().map_err(|error| source.locate(error))?;
        file.model.check().map_err(|error| {
            source.locate(ConfigError::new(format!("model.{}", error.field), error.message, error.hint))
        })?;
        let mut folders = plugin_path.to_vec();
        folders.extend(file.study.plugin_folders.iter().map(|folder| from_folder(source.folder(), folder)));
        let registry = Registry::scan(SearchPath::standard(&folders));
        let (corpus, suites) = (OnceLock::new(), OnceLock::new());
        Ok(Lab { file, source, corpus, suites, registry, build_engine, open_suite })
    }

    /// From here on refuses every library that none of these keys has signed.
    pub fn require_signatures(&mut self, keys: Vec<TrustedKey>) {
        self.registry.require_signatures(keys);
    }

    /// What is read; opened when it is first asked for, since a dry run needs none.
    ///
    /// # Errors
    /// A file that is missing, or too short, or not what it should be.
    pub fn corpus(&self) -> Result<&Corpus, TrainError> {
        if let Some(corpus) = self.corpus.get() {
            return Ok(corpus);
        }
        let needs = Needs { context: self.file.model.context, vocabulary: self.file.model.vocabulary };
        let corpus = data::open(&self.file.data, self.source.folder(), needs)?;
        // Where two threads opened it at once, either will do.
        Ok(self.corpus.get_or_init(|| corpus))
    }

    /// Opens the data, and makes sure that a step and an evaluation can be cut from them.
    ///
    /// # Errors
    /// As for [`corpus`](Lab::corpus), with the place in the file.
    pub(crate) fn check_data(&self) -> Result<(), StudyError> {
        self.check_suites()?;
        let StudyFile { study, training, evaluation, .. } = &self.file;
        let check = |corpus: &Corpus| {
            corpus.training_batch(study.seeds[0], Tokens(0), training.sequences_per_step)?;
            corpus.validation_batches(evaluation.sequences, training.sequences_per_step)
        };
        let checked = self.corpus().and_then(|corpus| Ok(check(corpus)?));
        checked.map(|_| ()).map_err(|error| self.at_choice("data", error))
    }

    /// Every plugin that the study names, as it is found now.
    ///
    /// # Errors
    /// One that is not there, or is refused.
    pub fn lock(&self) -> Result<PluginLock, StudyError> {
        let mut found = Vec::new();
        let mut find = |kind, key: String, choice: &Choice| {
            let provenance = self.registry.provenance(kind, &self.at_home(choice));
            found.push(provenance.map_err(|error| self.at_choice(&key, error.into()))?);
            Ok::<(), StudyError>(())
        };
        for (name, arm) in &self.file.arms {
            find(Kind::Strategy, format!("arms.{name}.strategy"), &arm.strategy)?;
            for (slot, choice) in &arm.initializers {
                find(Kind::Initializer, format!("arms.{name}.initializers.{slot}"), choice)?;
            }
            for (index, choice) in arm.shadows.iter().enumerate() {
                find(Kind::Strategy, format!("arms.{name}.shadows[{index}]"), choice)?;
            }
        }
        for (index, choice) in self.file.reporters.iter().enumerate() {
            find(Kind::Reporter, format!("reporters[{index}]"), choice)?;
        }
        Ok(PluginLock::new(found))
    }

    /// From here on refuses every plugin that is not in the lock.
    pub fn require(&mut self, lock: PluginLock) {
        self.registry.require(lock);
    }

    /// The strategy of a run.
    ///
    /// # Errors
    /// It is not there, or refuses its configuration.
    pub fn strategy(&self, run: &RunConfig) -> Result<Loaded<dyn GrowthStrategy>, TrainError> {
        Ok(self.registry.strategy(&self.at_home(&run.strategy))?)
    }

    /// The initializers of a run.
    ///
    /// # Errors
    /// As for [`strategy`](Lab::strategy).
    pub fn initializers(&self, run: &RunConfig) -> Result<Initializers, TrainError> {
        let load = |(slot, choice): (&String, &Choice)| {
            Ok((slot.clone(), self.registry.initializer(&self.at_home(choice))?))
        };
        run.initializers.iter().map(load).collect()
    }

    /// The strategies that ride along in a run.
    ///
    /// # Errors
    /// As for [`strategy`](Lab::strategy).
    pub fn shadows(&self, run: &RunConfig) -> Result<Vec<Loaded<dyn GrowthStrategy>>, TrainError> {
        run.shadows.iter().map(|choice| self.shadow(choice)).collect()
    }

    /// Always in a process of its own: one that crashes, hangs or ends its process must not take the run along.
    fn shadow(&self, choice: &Choice) -> Result<Loaded<dyn GrowthStrategy>, TrainError> {
        let apart = Choice { isolation: Isolation::Process, ..self.at_home(choice) };
        Ok(self.registry.strategy(&apart)?)
    }

    /// The reporters of the study.
    ///
    /// # Errors
    /// As for [`strategy`](Lab::strategy).
    pub fn reporters(&self) -> Result<Vec<Loaded<dyn MetricReporter>>, StudyError> {
        let load = |(index, choice): (usize, &Choice)| {
            let loaded = self.registry.reporter(&self.at_home(choice)).map_err(TrainError::from);
            loaded.map_err(|error| self.at_choice(&format!("reporters[{index}]"), error))
        };
        self.file.reporters.iter().enumerate().map(load).collect()
    }

    /// The model that the runs of a seed share.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn initial_model(&self, run: &RunConfig) -> Result<InitialModel, TrainError> {
        match &run.initial_model.from {
            Some(folder) => InitialModel::of_folder(&run.model, &from_folder(self.source.folder(), folder)),
            None => Ok(InitialModel::of_seed(&run.model, run.seed)),
        }
    }

    /// An engine with no block yet.
    ///
    /// # Errors
    /// A device that is not there, or a model that it does not implement.
    pub fn engine(&self, run: &RunConfig) -> Result<Box<dyn Engine>, TrainError> {
        Ok((self.build_engine)(&run.model, run.training.precision)?)
    }

    /// The study's file as it was read.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// An error of one arm, with its place in the file where it has one.
    fn in_arm(&self, arm: &str, error: TrainError) -> StudyError {
        match (error, self.file.arms.get(arm)) {
            (TrainError::Config(error), Some(found)) => {
                let message = format!("arm `{arm}`: {error}");
                let key = in_arm(arm, found, error.key);
                self.source.locate(ConfigError { key, message, hint: error.hint }).into()
            }
            (error @ TrainError::Plugin(_), _) => self.at_choice(&format!("arms.{arm}.strategy"), error),
            (error, _) => StudyError::Train(error),
        }
    }

    /// An error of what the file chooses at that key: a plugin, or the data.
    fn at_choice(&self, choice: &str, error: TrainError) -> StudyError {
        let below = match &error {
            TrainError::Plugin(PluginError::BadConfig { field, .. }) if field.is_empty() => ".config".into(),
            TrainError::Plugin(PluginError::BadConfig { field, .. }) => format!(".config.{field}"),
            TrainError::Plugin(PluginError::Refused { .. }) => ".library".into(),
            TrainError::Plugin(_) => ".use".into(),
            _ => String::new(),
        };
        let (message, hint, class) = (error.to_string(), error.hint(), error.class());
        let source = self.source.locate(ConfigError { key: format!("{choice}{below}"), message, hint });
        StudyError::Located { source, class }
    }

    fn at_home(&self, choice: &Choice) -> Choice {
        let library = choice.library.as_deref().map(|path: &Path| from_folder(self.source.folder(), path));
        Choice { library, ..choice.clone() }
    }
}
