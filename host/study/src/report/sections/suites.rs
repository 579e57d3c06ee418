//! What suites of questions came to.

use super::{Content, Section};
use crate::SuiteMean;
use crate::verdict::Judgement;

pub(super) fn suites(judgement: &Judgement) -> Section {
    let header = vec!["arm", "suite", "number", "runs", "items", "mean", "± seeds", "± items"];
    let row = |figure: &SuiteMean| {
        let known = |number: Option<f64>| number.map_or("-".into(), answer);
        vec![
            format!("{}/{}", figure.arm, figure.budget),
            figure.suite.clone(),
            figure.number.clone(),
            figure.runs.to_string(),
            if figure.cut > 0 {
                format!("{} ({} cut)", figure.items, figure.cut)
            } else {
                figure.items.to_string()
            },
            known(figure.mean),
            known(figure.standard_error),
            known(figure.standard_error_of_items),
        ]
    };
    let note = "What suites of questions came to at the end of the runs that finished, by what ended them: means over seeds. ± seeds: \
         the mean's standard error, by how the runs differ. ± items: a single run's, for its items being a sample. No verdict \
         rests on it.";
    Section::of(
        "Suites",
        note,
        Content::Table { header, rows: judgement.beside.suites.iter().map(row).collect() },
    )
}

/// Shares and losses as they are read; perplexities may be of any size.
fn answer(number: f64) -> String {
    if number.abs() < 1e6 { format!("{number:.4}") } else { format!("{number:.3e}") }
}
