//! What one run is made of, every number of it. A study writes it into the run's folder as resolved; no
//! value that a result depends on has a default here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use data::DataConfig;
use engine::{Flops, ModelShape, Precision, Recompute, Step, Tokens};
use plugin_host::Choice;
use serde::{Deserialize, Serialize};

use crate::course::schedule::Schedule;
use crate::suites::SuiteConfig;

/// Most sequences at once. With the longest context and the most steps, tokens can still be counted in 64 bits.
const MOST_SEQUENCES: u64 = 1 << 16;
/// Most steps: a dry run takes all of them, a few microseconds each.
pub(crate) const MOST_STEPS: u64 = 10_000_000;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The arm that it belongs to.
    pub arm: String,
    /// Seed of the initial weights and of the order of the data.
    pub seed: u64,
    /// The model at its final depth.
    pub model: ModelShape,
    /// Where the initial weights come from.
    pub initial_model: InitialModelConfig,
    /// What is read.
    pub data: DataConfig,
    /// How a step is made.
    pub training: Training,
    /// AdamW.
    pub optimizer: Optimizer,
    /// The learning rate.
    pub schedule: Schedule,
    /// What ends the run.
    pub budget: Budget,
    /// When and on what the run is judged.
    pub evaluation: Evaluation,
    /// When the run is saved.
    pub checkpoints: Checkpoints,
    /// The host's audit of growth.
    pub audit: Audit,
    /// Decides.
    pub strategy: Choice,
    /// Fill in new blocks, by the role that the strategy gives them.
    pub initializers: BTreeMap<String, Choice>,
    /// Strategies that ride along: asked as the strategy is, never obeyed. No result depends on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<Choice>,
}

/// Where the initial weights come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitialModelConfig {
    /// A folder with `model.safetensors` in Hugging Face's GPT-2 names; without it, weights are drawn
    /// from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
}

/// How a step is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Sequences of one optimizer step, each as long as the model's context.
    pub sequences_per_step: usize,
    /// Most sequences in one forward and backward pass.
    pub micro_batch_sequences: usize,
    /// What the backward pass computes again, to save memory: the bits are the same whatever it is.
    #[serde(default)]
    pub recompute: Recompute,
    /// What becomes of a step whose loss or gradient is not finite (default: the run stops).
    #[serde(default, skip_serializing_if = "OnNonFinite::is_stop")]
    pub on_non_finite: OnNonFinite,
    /// In which numbers a step computes (default: f32, as the paper's code).
    #[serde(default, skip_serializing_if = "Precision::is_fp32")]
    pub precision: Precision,
}

/// What becomes of a step whose loss or gradient is not finite. Its update is made in no case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OnNonFinite {
    /// The run stops.
    #[default]
    Stop,
    /// The run goes on with the next batch, as if the step's update had changed nothing.
    Skip {
        /// So many steps of the run; at one more it stops.
        at_most: u64,
    },
}

impl OnNonFinite {
    /// Whether the first such step ends the run.
    pub fn is_stop(&self) -> bool {
        *self == OnNonFinite::Stop
    }
}

/// AdamW's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay, of tensors with two dimensions.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 = no clipping.
    pub clip_norm: f64,
}

/// What ends a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Steps of the study's token budget, which the baseline trains for.
    pub reference_steps: u64,
    /// Exact FLOPs that end the run instead; the last step is the last that still fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<Flops>,
}

impl Budget {
    /// What ends the run, in a word.
    pub fn label(&self) -> &'static str {
        if self.flops.is_some() { "compute" } else { "tokens" }
    }
}

/// When and on what a run is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Steps between two evaluations; the first comes before step 0, the last after the last step, and one
    /// at the end of the token budget.
    pub every_steps: u64,
    /// Validation sequences, the same at every evaluation.
    pub sequences: usize,
    /// Suites of questions that the model is put to at some of them. Nothing of the training depends on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suites: Vec<SuiteConfig>,
}

/// When a run is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoints {
    /// Steps between two checkpoints; one is always written at the end.
    pub every_steps: u64,
    /// How many of the newest are kept, beside those that a strategy asked for by name (default: 2, so that one is left where
    /// the other is damaged).
    #[serde(default = "two")]
    pub keep: usize,
    /// Whether the end of each phase is saved and kept (default: no).
    #[serde(default)]
    pub at_phase_end: bool,
    /// Whether training waits for the writing (default: it does not). The bits are the same, in the checkpoint too.
    #[serde(default, skip_serializing_if = "Writing::is_background")]
    pub write: Writing,
}

/// Whether training waits while a checkpoint is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writing {
    /// It waits for a copy in memory, which is written while it goes on. One that has to be there before anything else happens,
    /// as at the end, is waited for.
    #[default]
    Background,
    /// It waits for each; no second model is held in memory.
    AtOnce,
}

impl Writing {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_background(&self) -> bool {
        *self == Writing::Background
    }
}

fn two() -> usize {
    2
}

/// The host's audit of growth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Validation sequences that are evaluated right before and right after a change of the stack.
    pub probe_sequences: usize,
}

/// A key whose value makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// The key, such as `model.heads`.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl ConfigError {
    /// An error at that key.
    pub fn new(key: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> ConfigError {
        ConfigError { key: key.into(), message: message.into(), hint: hint.into() }
    }
}

impl RunConfig {
    /// `arm/budget/seed-N`: its folder below the study's `runs`, and its name in reports and events.
    pub fn name(&self) -> String {
        format!("{}/{}/seed-{}", self.arm, self.budget.label(), self.seed)
    }

    /// Tokens of one optimizer step.
    pub fn tokens_per_step(&self) -> Tokens {
        Tokens((self.training.sequences_per_step * self.model.context) as u64)
    }

    /// Tokens of the study's token budget.
    pub fn reference_tokens(&self) -> Tokens {
        Tokens(self.budget.reference_steps * self.tokens_per_step().0)
    }

    /// Whether these are the tokens of the study's token budget, by which runs are compared.
    pub(crate) fn is_token_budget(&self, tokens: Tokens) -> bool {
        tokens == self.reference_tokens()
    }

    /// Whether a run that has come so far is evaluated before its next step, as it is without a strategy's request.
    pub(crate) fn evaluation_is_due(&self, step: Step, tokens: Tokens) -> bool {
        step.0.is_multiple_of(self.evaluation.every_steps) || self.is_token_budget(tokens)
    }

    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// The first key at fault.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.model
            .check()
            .map_err(|error| ConfigError::new(format!("model.{}", error.field), error.message, error.hint))?;
        let at_least_one = [
            ("training.sequences_per_step", self.training.sequences_per_step as u64),
            ("training.micro_batch_sequences", self.training.micro_batch_sequences as u64),
            ("budget.steps", self.budget.reference_steps),
            ("evaluation.every_steps", self.evaluation.every_steps),
            ("evaluation.sequences", self.evaluation.sequences as u64),
            ("checkpoints.every_steps", self.checkpoints.every_steps),
            ("checkpoints.keep", self.checkpoints.keep as u64),
            ("audit.probe_sequences", self.audit.probe_sequences as u64),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return Err(ConfigError::new(key, format!("`{key}` is 0"), "choose at least 1"));
            }
        }
        if self.training.on_non_finite == (OnNonFinite::Skip { at_most: 0 }) {
            let message = "`training.on_non_finite.skip.at_most` is 0, which skips nothing";
            let hint = "choose at least 1, or write `on_non_finite = \"stop\"`";
            return Err(ConfigError::new("training.on_non_finite", message, hint));
        }
        self.check_sizes()?;
        SuiteConfig::check_all(&self.evaluation.suites)?;
        self.optimizer.check()?;
        self.schedule.check()
    }
}

impl RunConfig {
    /// Numbers that no run needs, and that steps and tokens could not be counted with.
    fn check_sizes(&self) -> Result<(), ConfigError> {
        let most = [
            ("training.sequences_per_step", self.training.sequences_per_step as u64, MOST_SEQUENCES),
            ("training.micro_batch_sequences", self.training.micro_batch_sequences as u64, MOST_SEQUENCES),
            ("evaluation.sequences", self.evaluation.sequences as u64, MOST_SEQUENCES),
            ("audit.probe_sequences", self.audit.probe_sequences as u64, MOST_SEQUENCES),
            ("budget.steps", self.budget.reference_steps, MOST_STEPS),
        ];
        for (key, value, most) in most {
            if value > most {
                let hint = format!("choose 1 to {most}");
                return Err(ConfigError::new(key, format!("`{key}` is {value}"), hint));
            }
        }
        Ok(())
    }
}

impl Optimizer {
    fn check(&self) -> Result<(), ConfigError> {
        let ranges = [
            ("optimizer.beta1", self.beta1, 0.0, 0.999_999),
            ("optimizer.beta2", self.beta2, 0.0, 0.999_999_9),
            ("optimizer.epsilon", self.epsilon, 1e-20, 1.0),
            ("optimizer.weight_decay", self.weight_decay, 0.0, 10.0),
            ("optimizer.clip_norm", self.clip_norm, 0.0, 1e6),
        ];
        for (key, value, least, most) in ranges {
            if !(value >= least && value <= most) {
                let hint = format!("choose {least} to {most}");
                return Err(ConfigError::new(key, format!("`{key}` is {value}"), hint));
            }
        }
        Ok(())
    }
}
