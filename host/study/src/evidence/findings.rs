//! What a finished study found, arm by arm, with what each arm was made of.

use std::collections::BTreeMap;
use std::path::Path;

use plugin_host::Choice;

use crate::StudyError;
use crate::evidence::results::{judged, study_of};
use crate::verdict::{ArmRuns, LossDifference};

/// What a finished study found.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Its name.
    pub study: String,
    /// Mean final loss of the arm that all others are compared with, in nats per token.
    pub baseline_loss: f64,
    /// All others, in the order of the file.
    pub arms: Vec<ArmFinding>,
}

/// What it found of an arm.
#[derive(Clone, Debug)]
pub struct ArmFinding {
    /// Its name.
    pub arm: String,
    /// Decides.
    pub strategy: Choice,
    /// Fill in new blocks.
    pub initializers: BTreeMap<String, Choice>,
    /// Its final loss against the baseline's, at equal FLOPs where the study has that, else at equal tokens.
    pub difference: LossDifference,
}

impl ArmFinding {
    /// Whether the arm uses that plugin.
    pub fn uses(&self, id: &str) -> bool {
        self.strategy.id == id || self.initializers.values().any(|initializer| initializer.id == id)
    }
}

/// Judges what stands in a study's folder.
///
/// # Errors
/// A folder that is no study's, a log that cannot be read, or a study that is not finished.
pub fn findings(folder: &Path) -> Result<Findings, StudyError> {
    let file = study_of(folder)?;
    let judgement = judged(&file, folder)?;
    let unfinished = judgement.runs.iter().map(|runs| runs.planned - runs.finished - runs.diverged).sum();
    if unfinished > 0 {
        return Err(StudyError::NotFinished { folder: folder.to_path_buf(), runs: unfinished });
    }
    let baseline_loss = judgement.runs.first().and_then(ArmRuns::mean_final_loss).unwrap_or_default();
    let arms = judgement.arms.into_iter().filter_map(|arm| {
        let made_of = file.arms.get(&arm.arm)?;
        let difference = arm.compute_matched.or(arm.token_matched)?;
        let (strategy, initializers) = (made_of.strategy.clone(), made_of.initializers.clone());
        Some(ArmFinding { arm: arm.arm, strategy, initializers, difference })
    });
    Ok(Findings { study: judgement.study, baseline_loss, arms: arms.collect() })
}
