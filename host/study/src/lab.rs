//! A study ready to run: its file checked, its plugins found, its data opened, every arm rehearsed. What
//! cannot work is refused here, before the first step of the first run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use data::{Corpus, Needs};
use engine::{Engine, EngineError, Flops, ModelShape};
use plugin_host::api::{GrowthStrategy, MetricReporter};
use plugin_host::{Choice, Loaded, Registry, SearchPath};
use trainer::{InitialModel, Initializers, Rehearsal, RunConfig, TrainError, rehearse};

use crate::StudyError;
use crate::file::{Comparison, StudyFile, from_folder, in_arm};
use crate::source::Source;

/// Builds an engine with no block yet.
pub type BuildEngine<'a> = &'a (dyn Fn(&ModelShape) -> Result<Box<dyn Engine>, EngineError> + Sync);

/// A study ready to run.
pub struct Lab<'a> {
    /// The file, checked.
    pub file: StudyFile,
    /// What is read.
    pub corpus: Corpus,
    source: Source,
    registry: Registry,
    build_engine: BuildEngine<'a>,
}

/// An arm as a dry run foresees it.
#[derive(Clone, Debug)]
pub struct PlannedArm {
    /// Its name.
    pub arm: String,
    /// What a run of it will do.
    pub rehearsal: Rehearsal,
    /// The runs, one a seed and budget.
    pub runs: Vec<RunConfig>,
}

impl<'a> Lab<'a> {
    /// Reads and checks a study's file, finds its plugins and opens its data.
    ///
    /// # Errors
    /// Whatever is wrong with them, with its place in the file.
    pub fn open(
        source: Source,
        plugin_path: &[PathBuf],
        build_engine: BuildEngine<'a>,
    ) -> Result<Lab<'a>, StudyError> {
        let file: StudyFile = source.value()?;
        file.check().map_err(|error| source.locate(error))?;
        file.model.check().map_err(|error| {
            source.locate(trainer::ConfigError::new(
                format!("model.{}", error.field),
                error.message,
                error.hint,
            ))
        })?;
        let mut folders = plugin_path.to_vec();
        folders.extend(file.study.plugin_folders.iter().map(|folder| from_folder(source.folder(), folder)));
        let registry = Registry::scan(SearchPath::standard(&folders));
        let needs = Needs { context: file.model.context, vocabulary: file.model.vocabulary };
        let corpus = data::open(&file.data, source.folder(), needs).map_err(TrainError::from)?;
        Ok(Lab { file, corpus, source, registry, build_engine })
    }

    /// Rehearses every arm, the baseline first, and lays out the runs.
    ///
    /// # Errors
    /// An arm that cannot run.
    pub fn plan(&self) -> Result<Vec<PlannedArm>, StudyError> {
        let baseline = &self.file.study.baseline;
        let alone = self.plan_arm(baseline, None)?;
        let flops = alone.rehearsal.costs.flops.total();
        let mut planned = vec![alone];
        for arm in self.file.arms.keys().filter(|arm| *arm != baseline) {
            planned.push(self.plan_arm(arm, Some(flops))?);
        }
        Ok(planned)
    }

    fn plan_arm(&self, arm: &str, baseline_flops: Option<Flops>) -> Result<PlannedArm, StudyError> {
        let seeds = &self.file.study.seeds;
        let budgets = self.budgets(arm, baseline_flops);
        let mut runs = Vec::new();
        for &flops in &budgets {
            for &seed in seeds {
                runs.push(self.file.run(arm, seed, flops).map_err(|error| self.source.locate(error))?);
            }
        }
        // Budgets are in order of length; the last one's dry run shows all that the others do.
        let longest = &runs[runs.len() - 1];
        let slots: BTreeSet<String> = longest.initializers.keys().cloned().collect();
        let rehearsal = self
            .strategy(longest)
            .and_then(|mut strategy| {
                self.initializers(longest)?;
                rehearse(longest, &mut strategy, &slots)
            })
            .map_err(|error| self.in_file(arm, error))?;
        Ok(PlannedArm { arm: arm.to_owned(), rehearsal, runs })
    }

    /// One run where its prefix serves the smaller budget too, else one run for each comparison.
    fn budgets(&self, arm: &str, baseline_flops: Option<Flops>) -> Vec<Option<Flops>> {
        let compare = &self.file.study.compare;
        let schedule = self.file.arms.get(arm).and_then(|arm| arm.schedule.as_ref());
        let constant = schedule.unwrap_or(&self.file.schedule).is_constant();
        match baseline_flops.filter(|_| compare.contains(&Comparison::Compute)) {
            None => vec![None],
            Some(flops) if constant || !compare.contains(&Comparison::Tokens) => vec![Some(flops)],
            Some(flops) => vec![None, Some(flops)],
        }
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

    /// The reporters of the study.
    ///
    /// # Errors
    /// As for [`strategy`](Lab::strategy).
    pub fn reporters(&self) -> Result<Vec<Loaded<dyn MetricReporter>>, StudyError> {
        let load = |choice: &Choice| Ok(self.registry.reporter(&self.at_home(choice))?);
        let all: Result<_, TrainError> = self.file.reporters.iter().map(load).collect();
        all.map_err(|error| self.in_file("", error))
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
    fn in_file(&self, arm: &str, error: TrainError) -> StudyError {
        match (error.key(), self.file.arms.get(arm)) {
            (Some(key), Some(found)) => {
                let (message, hint) = (format!("arm `{arm}`: {error}"), error.hint());
                let class = error.class();
                let key = in_arm(arm, found, key);
                StudyError::Located {
                    source: self.source.locate(trainer::ConfigError { key, message, hint }),
                    class,
                }
            }
            _ => StudyError::Train(error),
        }
    }

    fn at_home(&self, choice: &Choice) -> Choice {
        let library = choice.library.as_deref().map(|path: &Path| from_folder(self.source.folder(), path));
        Choice { library, ..choice.clone() }
    }
}
