//! A study's file: model, data, optimizer, budget, arms, seeds. What it says is frozen with the results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data::DataConfig;
use engine::{ModelShape, Precision, Recompute, Tokens};
use indexmap::IndexMap;
use plugin_host::Choice;
use serde::{Deserialize, Serialize};
use trainer::{
    Audit, Budget, Checkpoints, ConfigError, Evaluation, InitialModelConfig, OnNonFinite, Optimizer,
    RunConfig, Schedule, Training,
};

use crate::planning::memory::MicroBatch;
use crate::planning::sweep::SweepSection;

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyFile {
    /// What is compared, and how.
    pub study: StudySection,
    /// The model at its final depth.
    pub model: ModelShape,
    /// Where the initial weights come from.
    #[serde(default)]
    pub initial_model: InitialModelConfig,
    /// What is read.
    pub data: DataConfig,
    /// How a step is made.
    pub training: TrainingSection,
    /// AdamW.
    pub optimizer: Optimizer,
    /// The learning rate, of every arm that does not name its own.
    pub schedule: Schedule,
    /// What the baseline trains for.
    pub budget: BudgetSection,
    /// The rates that every arm is tried with, before it is run with the best of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepSection>,
    /// When and on what runs are judged.
    pub evaluation: Evaluation,
    /// When runs are saved.
    pub checkpoints: Checkpoints,
    /// The host's audit of growth.
    pub audit: Audit,
    /// What is compared.
    pub arms: IndexMap<String, Arm>,
    /// Who watches.
    #[serde(default)]
    pub reporters: Vec<Choice>,
}

/// How a step is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSection {
    /// Sequences of one optimizer step, each as long as the model's context.
    pub sequences_per_step: usize,
    /// Most sequences in one forward and backward pass: the same mathematics whatever it is, though not the same
    /// bits.
    pub micro_batch_sequences: MicroBatch,
    /// What the backward pass computes again, to save memory: `nothing`, `gelu` or `blocks`. The bits are the same.
    #[serde(default)]
    pub recompute: Recompute,
    /// What becomes of a step whose loss or gradient is not finite: `"stop"` (the default), or `{ skip = { at_most = 3 } }`.
    #[serde(default, skip_serializing_if = "OnNonFinite::is_stop")]
    pub on_non_finite: OnNonFinite,
    /// In which numbers a step computes: `"fp32"` (the default), `"tf32"` or `"bf16"`. Those two are the CUDA device's alone.
    #[serde(default, skip_serializing_if = "Precision::is_fp32")]
    pub precision: Precision,
    /// What `micro_batch_sequences = "auto"` has to stay below, for each run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_mib: Option<u64>,
}

impl TrainingSection {
    /// With every sequence at once where their number is still to be found.
    fn resolved(&self) -> Training {
        let micro_batch_sequences = match self.micro_batch_sequences {
            MicroBatch::Sequences(sequences) => sequences,
            MicroBatch::Auto(_) => self.sequences_per_step,
        };
        let TrainingSection { sequences_per_step, recompute, on_non_finite, precision, .. } = *self;
        Training { sequences_per_step, micro_batch_sequences, recompute, on_non_finite, precision }
    }

    fn check(&self) -> Result<(), ConfigError> {
        match (self.micro_batch_sequences, self.memory_limit_mib) {
            (MicroBatch::Auto(_), None) => Err(ConfigError::new(
                "training.micro_batch_sequences",
                "`training.micro_batch_sequences` is \"auto\" without a limit to stay below",
                "add `memory_limit_mib`, the MiB that each run may take",
            )),
            (MicroBatch::Sequences(_), Some(_)) => Err(ConfigError::new(
                "training.memory_limit_mib",
                "`training.memory_limit_mib` limits nothing: the micro-batch is given",
                "remove it, or write `micro_batch_sequences = \"auto\"`",
            )),
            _ => Ok(()),
        }
    }
}

/// What is compared, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudySection {
    /// The study's name; its folder's too, unless `--out` says otherwise.
    pub name: String,
    /// The arm that all others are compared with.
    pub baseline: String,
    /// Seeds of the initial weights and of the order of the data; every arm runs with each.
    pub seeds: Vec<u64>,
    /// How arms are compared with the baseline.
    pub compare: Vec<Comparison>,
    /// What counts as an equal loss, in nats per token: a difference that is shown to be smaller is told as none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equal_within_nats: Option<f64>,
    /// Threads of one run; more runs go side by side when it is small.
    pub threads_per_run: usize,
    /// Folders with plugins, beside the usual ones; relative to this file.
    #[serde(default)]
    pub plugin_folders: Vec<PathBuf>,
}

/// How an arm is compared with the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// After the same tokens.
    Tokens,
    /// After the same exact FLOPs.
    Compute,
}

/// What the baseline trains for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSection {
    /// In optimizer steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// In tokens, instead; a whole number of steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
}

/// What is compared: a strategy with its initializers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Decides.
    pub strategy: Choice,
    /// Fill in new blocks, by the role that the strategy gives them.
    #[serde(default)]
    pub initializers: BTreeMap<String, Choice>,
    /// The arm's own learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Strategies that ride along in the arm's runs: asked as its own is, never obeyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<Choice>,
}

impl StudyFile {
    /// Refuses what makes no sense as a study; each run is checked by itself.
    ///
    /// # Errors
    /// The first key at fault.
    pub fn check(&self) -> Result<(), ConfigError> {
        let study = &self.study;
        for (key, name) in
            std::iter::once(("study.name", &study.name)).chain(self.arms.keys().map(|arm| ("arms", arm)))
        {
            if !is_file_name(name) {
                let message = format!("`{name}` cannot name a folder");
                return Err(ConfigError::new(key, message, "use letters, digits, - and _, at most 64"));
            }
        }
        if !self.arms.contains_key(&study.baseline) {
            let arms: Vec<&str> = self.arms.keys().map(String::as_str).collect();
            let message = format!("there is no arm `{}` to be the baseline", study.baseline);
            return Err(ConfigError::new(
                "study.baseline",
                message,
                format!("the arms are {}", arms.join(", ")),
            ));
        }
        if study.seeds.is_empty() {
            return Err(ConfigError::new(
                "study.seeds",
                "`study.seeds` is empty",
                "give at least one; three give an interval",
            ));
        }
        let mut seen = study.seeds.clone();
        seen.sort_unstable();
        if seen.windows(2).any(|pair| pair[0] == pair[1]) {
            let message = "a seed stands in `study.seeds` twice";
            return Err(ConfigError::new(
                "study.seeds",
                message,
                "the same seed gives the same run; remove one",
            ));
        }
        if study.compare.is_empty() {
            let hint = "give [\"tokens\"], [\"compute\"] or both";
            return Err(ConfigError::new("study.compare", "`study.compare` is empty", hint));
        }
        if let Some(margin) = study.equal_within_nats.filter(|margin| !(*margin > 0.0 && *margin < 100.0)) {
            let message = format!("`study.equal_within_nats` is {margin}");
            let hint = "state the largest loss that does not matter, such as 0.01, or leave the key out";
            return Err(ConfigError::new("study.equal_within_nats", message, hint));
        }
        if study.threads_per_run == 0 || study.threads_per_run > 1024 {
            let message = format!("`study.threads_per_run` is {}", study.threads_per_run);
            return Err(ConfigError::new("study.threads_per_run", message, "choose 1 to 1024"));
        }
        if let Some(sweep) = &self.sweep {
            sweep.check(&study.seeds)?;
        }
        self.training.check()?;
        self.reference_steps().map(|_| ())
    }

    /// Steps that the baseline trains for.
    ///
    /// # Errors
    /// Neither or both units given, or tokens that are no whole number of steps.
    pub fn reference_steps(&self) -> Result<u64, ConfigError> {
        // Neither has been checked yet.
        let per_step = (self.training.sequences_per_step as u64).saturating_mul(self.model.context as u64);
        match (self.budget.steps, self.budget.tokens) {
            (Some(steps), None) => Ok(steps),
            (None, Some(Tokens(tokens))) if per_step > 0 && tokens % per_step == 0 => Ok(tokens / per_step),
            (None, Some(Tokens(tokens))) => {
                let message = format!("{tokens} tokens are no whole number of steps of {per_step}");
                let lower = tokens.checked_div(per_step).unwrap_or_default() * per_step;
                Err(ConfigError::new(
                    "budget.tokens",
                    message,
                    format!("choose {lower} or {}", lower.saturating_add(per_step)),
                ))
            }
            _ => Err(ConfigError::new(
                "budget",
                "give `steps` or `tokens`, not both",
                "write `steps = 400`, say",
            )),
        }
    }

    /// The budgets that an arm has runs for, the shortest first: `tokens`, `compute`. With a constant rate
    /// one run serves both comparisons, since its prefix is the run of the smaller budget.
    pub fn budgets(&self, arm: &str) -> Vec<&'static str> {
        let compare = &self.study.compare;
        let own = self.arms.get(arm).and_then(|arm| arm.schedule.as_ref());
        let constant = own.unwrap_or(&self.schedule).is_constant();
        let (tokens, compute) =
            (compare.contains(&Comparison::Tokens), compare.contains(&Comparison::Compute));
        match (tokens, compute) {
            _ if arm == self.study.baseline => vec!["tokens"],
            (true, true) if !constant => vec!["tokens", "compute"],
            (_, true) => vec!["compute"],
            (_, false) => vec!["tokens"],
        }
    }

    /// One run of an arm; `flops` is the baseline's cost, for a run that is matched by compute.
    ///
    /// # Errors
    /// The first key at fault.
    pub fn run(&self, arm: &str, seed: u64, flops: Option<engine::Flops>) -> Result<RunConfig, ConfigError> {
        let arms: Vec<&str> = self.arms.keys().map(String::as_str).collect();
        let found = self.arms.get(arm).ok_or_else(|| {
            ConfigError::new(
                "arms",
                format!("there is no arm `{arm}`"),
                format!("the arms are {}", arms.join(", ")),
            )
        })?;
        let config = RunConfig {
            arm: arm.to_owned(),
            seed,
            model: self.model.clone(),
            initial_model: self.initial_model.clone(),
            data: self.data.clone(),
            training: self.training.resolved(),
            optimizer: self.optimizer.clone(),
            schedule: found.schedule.clone().unwrap_or_else(|| self.schedule.clone()),
            budget: Budget { reference_steps: self.reference_steps()?, flops },
            evaluation: self.evaluation.clone(),
            checkpoints: self.checkpoints.clone(),
            audit: self.audit.clone(),
            strategy: found.strategy.clone(),
            initializers: found.initializers.clone(),
            shadows: found.shadows.clone(),
        };
        config.check().map_err(|error| ConfigError { key: in_arm(arm, found, error.key), ..error })?;
        Ok(config)
    }
}

/// Where a run's key stands in the study's file.
pub(crate) fn in_arm(name: &str, arm: &Arm, key: String) -> String {
    let first = key.split('.').next().unwrap_or_default();
    let own = ["strategy", "initializers", "shadows"].contains(&first)
        || (first == "schedule" && arm.schedule.is_some());
    if own { format!("arms.{name}.{key}") } else { key }
}

fn is_file_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.';
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.bytes().all(good)
}

/// A path of the file, seen from where the program runs.
pub(crate) fn from_folder(folder: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_path_buf() } else { folder.join(path) }
}
