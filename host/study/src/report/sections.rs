//! What a report shows, in which order: headings, tables and lists as plain cells. How they are laid out is the terminal's,
//! Markdown's and the page's, which has pictures before them.

mod costs;
mod growth;
mod losses;
mod runs;
mod suites;
mod times;

use crate::verdict::{Judgement, LossDifference, Outcome};

pub(super) use costs::reach_cell;
pub(super) use losses::mean_difference;

/// A part of a report.
pub(super) struct Section {
    pub(super) title: &'static str,
    /// What its numbers are.
    pub(super) note: &'static str,
    pub(super) content: Content,
}

/// What stands in it.
pub(super) enum Content {
    /// Paragraphs.
    Text(Vec<String>),
    /// Items.
    List(Vec<String>),
    /// Rows of as many cells as the header has.
    Table { header: Vec<&'static str>, rows: Vec<Vec<String>> },
}

impl Section {
    fn of(title: &'static str, note: &'static str, content: Content) -> Section {
        Section { title, note, content }
    }
}

impl Content {
    fn is_empty(&self) -> bool {
        match self {
            Content::Text(items) | Content::List(items) => items.is_empty(),
            Content::Table { rows, .. } => rows.is_empty(),
        }
    }
}

/// All parts that have content.
pub(super) fn sections(judgement: &Judgement) -> Vec<Section> {
    let all = [
        Section::of("Verdict", "", Content::Text(vec![judgement.verdict.clone()])),
        losses::losses(judgement),
        costs::costs_to_reach(judgement),
        costs::continual(judgement),
        costs::crossovers(judgement),
        costs::ledgers(judgement),
        by_arm(judgement),
        runs::rates(judgement),
        Section::of("Fairness", "", Content::List(judgement.beside.fairness.clone())),
        runs::runs(judgement),
        suites::suites(judgement),
        growth::growth(judgement),
        times::wall_times(judgement),
        times::plugin_times(judgement),
        costs::shared(judgement),
        runs::skipped(judgement),
        runs::failed(judgement),
        losses::left_out(judgement),
    ];
    all.into_iter().filter(|section| !section.content.is_empty()).collect()
}

fn by_arm(judgement: &Judgement) -> Section {
    let sentences = judgement.arms.iter().map(|arm| arm.verdict.sentence.clone());
    Section::of("Arm by arm", "", Content::List(sentences.collect()))
}

/// A comparison's outcome in a cell.
pub(super) fn outcome(difference: &LossDifference) -> String {
    let words = difference.outcome.words().cell;
    match difference.outcome {
        Outcome::Diverged => format!("{} {words}", difference.diverged_seeds.len()),
        _ => words.into(),
    }
}
