//! A study's file as it was run, copied into its folder: the report judges by it.

use std::path::Path;

use plugin_host::bounded;
use trainer::TrainError;
use trainer::storage::{LARGEST_JSON_BYTES, write_whole};

use crate::StudyError;
use crate::lab::Lab;
use crate::running::execute::Scope;

/// Copies the file, once with overrides and once as it is.
///
/// # Errors
/// A disk that cannot be written; for single runs a copy of something else, by which others may be at work.
pub(crate) fn keep(lab: &Lab<'_>, study: &Path, scope: Scope) -> Result<(), StudyError> {
    let text = toml::to_string_pretty(&lab.file)
        .map_err(|error| TrainError::Internal(format!("the study's file cannot be written down: {error}")))?;
    let copy =
        format!("# The study as it was run, overrides included; study.original.toml is the file.\n\n{text}");
    let path = study.join("study.toml");
    match bounded::read_text(&path, LARGEST_JSON_BYTES) {
        Ok(present) if scope == Scope::TheseRuns && present == copy => return Ok(()),
        Ok(_) if scope == Scope::TheseRuns => return Err(StudyError::Changed { folder: study.into() }),
        _ => write_whole(&path, copy.as_bytes())?,
    }
    Ok(write_whole(&study.join("study.original.toml"), lab.source().text().as_bytes())?)
}
