//! The report as it is written into a study's folder: `report/`, in all its forms.

use std::path::Path;

use engine::Step;
use plugin_host::bounded;
use trainer::folder::RunFolder;
use trainer::storage::{LARGEST_JSON_BYTES, create_folder, write_whole};

use super::{Page, csv, to_json, to_markdown, to_terminal};
use crate::evidence::curve::furthest_budget;
use crate::evidence::phases::{self, PhaseSpan};
use crate::evidence::results::{judged_with_curves, study_of};
use crate::{Judgement, RunCurve, StudyError};

/// A report in its forms; the same stand in the study's folder.
#[derive(Clone, Debug)]
pub struct Report {
    /// A table for the terminal.
    pub terminal: String,
    /// Markdown.
    pub markdown: String,
    /// JSON.
    pub json: String,
    /// What they lay out.
    pub judgement: Judgement,
}

/// Judges what stands in a study's folder, and writes `report/`: `report.html`, `report.md`, `report.json`,
/// `loss.svg` and `curves.csv`.
///
/// # Errors
/// A folder that is no study's, a log that cannot be read, or a disk that cannot be written.
pub fn report_folder(folder: &Path) -> Result<Report, StudyError> {
    let (judgement, curves) = judged_with_curves(&study_of(folder)?, folder)?;
    let (terminal, markdown, json) = (to_terminal(&judgement), to_markdown(&judgement), to_json(&judgement));
    let out = folder.join("report");
    create_folder(&out)?;
    let configuration =
        bounded::read_text(&folder.join("study.toml"), LARGEST_JSON_BYTES).unwrap_or_default();
    let runs = folder.join("runs");
    let provenance = provenance(&curves, &runs);
    let phases = phases_of(&curves, &runs)?;
    let (judged, configuration) = (&judgement, configuration.as_str());
    let page = Page { judgement: judged, curves: &curves, phases, configuration, provenance };
    write_whole(&out.join("report.html"), page.render().as_bytes())?;
    write_whole(&out.join("loss.svg"), page.loss_svg().as_bytes())?;
    write_whole(&out.join("curves.csv"), csv::render(&curves).as_bytes())?;
    write_whole(&out.join("report.md"), markdown.as_bytes())?;
    write_whole(&out.join("report.json"), json.as_bytes())?;
    Ok(Report { terminal, markdown, json, judgement })
}

/// The first run of each arm, by the budget that goes furthest.
fn first_runs(curves: &[RunCurve]) -> Vec<&RunCurve> {
    let mut arms: Vec<&str> = curves.iter().map(|curve| curve.arm.as_str()).collect();
    arms.dedup();
    let of_arm = |arm: &str| {
        let runs = || curves.iter().filter(|curve| curve.arm == arm);
        let budget = furthest_budget(runs())?;
        runs().find(|curve| curve.budget == budget)
    };
    arms.into_iter().filter_map(of_arm).collect()
}

/// Each arm's first run's `run.json`, by the run's name.
fn provenance(curves: &[RunCurve], runs: &Path) -> Vec<(String, String)> {
    let told = first_runs(curves).into_iter().filter_map(|curve| {
        let path = RunFolder::at(runs.join(curve.name())).run_file();
        // One that cannot be read now was read a moment ago; the report is no worse without it.
        Some((curve.name(), bounded::read_text(&path, LARGEST_JSON_BYTES).ok()?))
    });
    told.collect()
}

fn phases_of(curves: &[RunCurve], runs: &Path) -> Result<Vec<(String, Vec<PhaseSpan>)>, StudyError> {
    let of = |curve: &RunCurve| {
        let end = curve.last().map_or(Step(0), |point| point.step);
        Ok((curve.arm.clone(), phases::of(&RunFolder::at(runs.join(curve.name())), end)?))
    };
    first_runs(curves).into_iter().map(of).collect()
}
