//! A study ready to run: its file checked, its plugins found, every arm rehearsed, its data opened. What
//! cannot work is refused here, before the first step of the first run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use data::{Corpus, Needs, TokenizerIdentity};
use engine::{Engine, EngineError, EngineInfo, Flops, ModelShape, Tokens};
use plugin_host::api::{GrowthStrategy, Kind, MetricReporter};
use plugin_host::signature::TrustedKey;
use plugin_host::{Choice, Isolation, Loaded, PluginError, PluginLock, Registry, SearchPath};
use trainer::{
    ConfigError, ErrorClass, InitialModel, Initializers, Questions, Rehearsal, RehearsedPhase, RunConfig,
    Suite, SuiteConfig, TrainError, check_shadow, rehearse,
};

use crate::StudyError;
use crate::file::{StudyFile, from_folder, in_arm};
use crate::planning::foresight::{RunDisk, StagedPart};
use crate::planning::memory::{PhaseMemory, begun_with, fitting};
use crate::source::Source;

/// Builds an engine with no block yet.
pub type BuildEngine<'a> = &'a (dyn Fn(&ModelShape) -> Result<Box<dyn Engine>, EngineError> + Sync);

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

/// An arm as a dry run foresees it.
#[derive(Clone, Debug)]
pub struct PlannedArm {
    /// Its name.
    pub arm: String,
    /// What a run of it with the longest budget will do.
    pub rehearsal: Rehearsal,
    /// What those with shorter budgets will do, in the order of the runs.
    pub shorter: Vec<Rehearsal>,
    /// What its phases before the last cost against the baseline; `None` where there are none.
    pub staged: Option<StagedPart>,
    /// What a run of it takes on disk.
    pub disk: RunDisk,
    /// What each of its phases holds in memory; `None` where the engine cannot tell.
    pub memory: Option<Vec<PhaseMemory>>,
    /// The runs, one a seed and budget.
    pub runs: Vec<RunConfig>,
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

    /// Rehearses every arm, the baseline first, and lays out the runs.
    ///
    /// # Errors
    /// An arm that cannot run.
    pub fn plan(&self) -> Result<Vec<PlannedArm>, StudyError> {
        self.plan_beside(None, &[])
    }

    /// The same of the baseline and these arms; of all where none is named. What is wrong with others is not found.
    ///
    /// # Errors
    /// One of them that cannot run.
    pub fn plan_arms(&self, arms: &[String]) -> Result<Vec<PlannedArm>, StudyError> {
        self.plan_beside(None, arms)
    }

    /// The same for runs in that folder: a micro-batch that was found when they were begun is kept.
    ///
    /// # Errors
    /// An arm that cannot run, or a micro-batch that does not fit below the limit as it is now.
    pub fn plan_for(&self, folder: &Path) -> Result<Vec<PlannedArm>, StudyError> {
        self.plan_beside(Some(folder), &[])
    }

    fn plan_beside(&self, folder: Option<&Path>, only: &[String]) -> Result<Vec<PlannedArm>, StudyError> {
        let baseline = &self.file.study.baseline;
        let engine = (self.build_engine)(&self.file.model).map_err(TrainError::from)?;
        let alone = self.plan_arm(baseline, None, &*engine)?;
        let flops = alone.rehearsal.costs.flops.total();
        let mut planned = vec![alone];
        let is_wanted = |arm: &String| only.is_empty() || only.contains(arm);
        for arm in self.file.arms.keys().filter(|arm| *arm != baseline && is_wanted(arm)) {
            planned.push(self.plan_arm(arm, Some(flops), &*engine)?);
        }
        let whole = planned[0].rehearsal.clone();
        for arm in &mut planned {
            arm.staged = StagedPart::of(&arm.rehearsal, &whole);
        }
        self.tell_memory(&mut planned, &*engine, folder)?;
        Ok(planned)
    }

    /// What each phase will hold, after the micro-batch was found where the file leaves that to us.
    fn tell_memory(
        &self,
        planned: &mut [PlannedArm],
        engine: &dyn Engine,
        folder: Option<&Path>,
    ) -> Result<(), StudyError> {
        if let Some(limit) = self.file.training.memory_limit_mib {
            let runs: Vec<(&RunConfig, &[RehearsedPhase])> =
                planned.iter().map(|arm| (&arm.runs[0], arm.rehearsal.phases.as_slice())).collect();
            let begun_with = folder.and_then(begun_with);
            let sequences = fitting(engine, &runs, limit << 20, begun_with);
            let sequences = sequences.map_err(|error| self.source.locate(error))?;
            let runs = planned.iter_mut().flat_map(|arm| &mut arm.runs);
            runs.for_each(|run| run.training.micro_batch_sequences = sequences);
        }
        for PlannedArm { rehearsal, memory, runs, .. } in planned {
            let run = &runs[0];
            let sequences = run.training.micro_batch_sequences;
            *memory = PhaseMemory::of_phases(engine, run, &rehearsal.phases, sequences);
        }
        Ok(())
    }

    fn plan_arm(
        &self,
        arm: &str,
        baseline_flops: Option<Flops>,
        engine: &dyn Engine,
    ) -> Result<PlannedArm, StudyError> {
        let seeds = &self.file.study.seeds;
        let (mut runs, budgets) = (Vec::new(), self.file.budgets(arm));
        for budget in &budgets {
            let flops = baseline_flops.filter(|_| *budget == "compute");
            for &seed in seeds {
                runs.push(self.file.run(arm, seed, flops).map_err(|error| self.source.locate(error))?);
            }
        }
        // Budgets are in order of length.
        let longest = &runs[runs.len() - 1];
        let mut initializers = Initializers::new();
        for (slot, choice) in &longest.initializers {
            let loaded = self.registry.initializer(&self.at_home(choice)).map_err(TrainError::from);
            let at_slot = |error| self.at_choice(&format!("arms.{arm}.initializers.{slot}"), error);
            initializers.insert(slot.clone(), loaded.map_err(at_slot)?);
        }
        let mut shorter = Vec::new();
        for of_budget in runs.chunks(seeds.len()).take(budgets.len() - 1) {
            shorter.push(self.rehearse(arm, &of_budget[0], engine)?);
        }
        let rehearsal = self.rehearse(arm, longest, engine)?;
        for wanted in &rehearsal.wanted {
            if let Some(initializer) = initializers.get_mut(&wanted.slot) {
                let tried = wanted.try_out(initializer, self.file.model.width);
                tried.map_err(|error| self.in_arm(arm, error))?;
            }
        }
        self.check_shadows(arm, longest, &engine.info())?;
        let disk = RunDisk::of(&rehearsal, &self.file.model, &self.file.checkpoints);
        Ok(PlannedArm { arm: arm.to_owned(), rehearsal, shorter, staged: None, disk, memory: None, runs })
    }

    fn rehearse(&self, arm: &str, run: &RunConfig, engine: &dyn Engine) -> Result<Rehearsal, StudyError> {
        let slots: BTreeSet<String> = run.initializers.keys().cloned().collect();
        let strategy = self.strategy(run);
        let mut strategy =
            strategy.map_err(|error| self.at_choice(&format!("arms.{arm}.strategy"), error))?;
        rehearse(run, &mut strategy, &slots, &engine.info()).map_err(|error| self.in_arm(arm, error))
    }

    /// A shadow that cannot ride along is told of before anything is trained, as all that a study names is.
    fn check_shadows(&self, arm: &str, run: &RunConfig, engine: &EngineInfo) -> Result<(), StudyError> {
        for (index, choice) in run.shadows.iter().enumerate() {
            let loaded = self.shadow(choice);
            let checked = loaded.and_then(|shadow| check_shadow(shadow, run, engine));
            checked.map_err(|error| self.at_choice(&format!("arms.{arm}.shadows[{index}]"), error))?;
        }
        Ok(())
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
        Ok((self.build_engine)(&run.model)?)
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
