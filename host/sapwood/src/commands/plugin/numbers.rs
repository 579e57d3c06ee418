//! What finished studies found of a plugin, as the last part of its page.

use std::path::{Path, PathBuf};

use plugin_host::Choice;
use study::{ArmFinding, Findings, Interval, Source, StudyFile};

use crate::failure::Failed;

/// A study's file, and what it found.
pub(super) struct Found {
    file: PathBuf,
    findings: Findings,
}

impl Found {
    /// Of a study that ran without `--out`.
    ///
    /// # Errors
    /// A file that is no study, or one that is not finished there.
    pub(super) fn in_usual_folder(file: &Path) -> Result<Found, Failed> {
        let study: StudyFile = Source::read(file, &[])?.value()?;
        let findings = study::findings(&Path::new("runs").join(&study.study.name))?;
        Ok(Found { file: file.to_path_buf(), findings })
    }
}

/// A section with a table for each study that has the plugin in an arm; `None` where none has.
pub(super) fn numbers(id: &str, studies: &[Found]) -> Option<String> {
    let tables: Vec<String> = studies.iter().filter_map(|found| table(id, found)).collect();
    if tables.is_empty() {
        return None;
    }
    let words = "Final validation loss in nats per token, arm minus the whole model: mean over seeds, 95 % t interval, p by Holm over the \
                 study's arms. At equal FLOPs, the rate being the same in all arms; what a study says holds for its size and data.";
    Some(format!("## Our numbers\n\n{words}\n\n{}", tables.join("\n\n")))
}

fn table(id: &str, Found { file, findings }: &Found) -> Option<String> {
    let rows: Vec<String> = findings.arms.iter().filter(|arm| arm.uses(id)).map(row).collect();
    if rows.is_empty() {
        return None;
    }
    let Findings { study, baseline_loss, .. } = findings;
    Some(format!(
        "`sapwood study {}` ({study}; the whole model ends at {baseline_loss:.4})\n\n\
         | arm | of | seeds | difference | p |\n| --- | --- | --- | --- | --- |\n{}",
        file.display(),
        rows.join("\n")
    ))
}

fn row(arm: &ArmFinding) -> String {
    let plugins = std::iter::once(&arm.strategy).chain(arm.initializers.values());
    let made_of: Vec<String> = plugins.map(in_words).collect();
    let difference = &arm.difference;
    let mean = difference.statistics.as_ref().map_or("-".into(), |statistics| {
        let mean = format!("{:+.4}", statistics.summary.mean);
        match statistics.summary.interval_95 {
            Some(Interval { low, high }) => format!("{mean} [{low:+.4}, {high:+.4}]"),
            None => mean,
        }
    });
    let p = difference.holm_p.map_or("-".into(), |p| format!("{p:.3}"));
    format!("| {} | {} | {} | {mean} | {p} |", arm.arm, made_of.join(", "), difference.pairs.len())
}

fn in_words(choice: &Choice) -> String {
    let keys = choice.config.as_object().into_iter().flatten();
    let keys: Vec<String> = keys.map(|(key, value)| format!("{key} = {value}")).collect();
    let config = if keys.is_empty() { String::new() } else { format!(" {{ {} }}", keys.join(", ")) };
    // A bar would end the cell.
    format!("`{}{config}`", choice.id).replace('|', "\\|")
}
