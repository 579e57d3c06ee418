//! What suites came to in a study's runs, summed up arm by arm. No verdict rests on it: runs are compared by their losses.

use serde::Serialize;
use trainer::TrainError;
use trainer::folder::RunFolder;
use trainer::folder::records::SuiteRecord;
use trainer::storage::read_whole_lines;

use crate::summarize;

/// One of a suite's numbers, at the end of an arm's finished runs with one budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SuiteMean {
    /// The arm.
    pub arm: String,
    /// What ended its runs: `tokens` or `compute`.
    pub budget: String,
    /// The suite.
    pub suite: String,
    /// The number: `acc`, `perplexity` …
    pub number: String,
    /// Runs in which it is a number.
    pub runs: usize,
    /// Items that were asked.
    pub items: usize,
    /// Of those, items that were too long for the model.
    pub cut: usize,
    /// Mean over the runs; `None` where it is a number in none of them.
    pub mean: Option<f64>,
    /// Standard error of that mean, by how the runs differ; `None` for fewer than two.
    pub standard_error: Option<f64>,
    /// What the items' being a sample leaves open in one run, as a standard error; the mean over runs.
    pub standard_error_of_items: Option<f64>,
}

/// The last lines of a run's suites, in the order of their names.
///
/// # Errors
/// A log that cannot be read.
pub(crate) fn last_of(folder: &RunFolder) -> Result<Vec<SuiteRecord>, TrainError> {
    let mut last: Vec<SuiteRecord> = Vec::new();
    for record in read_whole_lines::<SuiteRecord>(&folder.suites_file())? {
        last.retain(|other| other.suite != record.suite);
        last.push(record);
    }
    last.sort_by(|one, other| one.suite.cmp(&other.suite));
    Ok(last)
}

/// Of one arm's runs with one budget, each by its last lines.
pub(crate) fn figures(arm: &str, budget: &str, runs: &[Vec<SuiteRecord>]) -> Vec<SuiteMean> {
    let Some(first) = runs.first() else { return Vec::new() };
    let of_suite = |record: &SuiteRecord| {
        let same: Vec<&SuiteRecord> =
            runs.iter().flatten().filter(|other| other.suite == record.suite).collect();
        let names = record.result.numbers.keys();
        names.map(|name| figure(arm, budget, name, &same)).collect::<Vec<_>>()
    };
    first.iter().flat_map(of_suite).collect()
}

/// `records` are of one suite, at least one.
fn figure(arm: &str, budget: &str, name: &str, records: &[&SuiteRecord]) -> SuiteMean {
    let numbers = || records.iter().filter_map(|record| record.result.numbers.get(name));
    let values: Vec<f64> = numbers().filter_map(|number| number.value).collect();
    let of_items: Vec<f64> = numbers().filter_map(|number| number.standard_error).collect();
    let summary = summarize(&values);
    let deviation = summary.as_ref().and_then(|summary| summary.standard_deviation);
    SuiteMean {
        arm: arm.into(),
        budget: budget.into(),
        suite: records[0].suite.clone(),
        number: name.into(),
        runs: values.len(),
        items: records[0].result.items,
        cut: records[0].result.cut,
        mean: summary.map(|summary| summary.mean),
        standard_error: deviation.map(|deviation| deviation / (values.len() as f64).sqrt()),
        standard_error_of_items: summarize(&of_items).map(|summary| summary.mean),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use engine::{Flops, Step, Tokens};
    use trainer::{SuiteNumber, SuiteResult};

    use super::*;

    fn record(step: u64, suite: &str, value: Option<f64>) -> SuiteRecord {
        let number = SuiteNumber { value, standard_error: value.map(|_| 0.01) };
        SuiteRecord {
            step: Step(step),
            tokens: Tokens(100 * step),
            flops: Flops(0),
            suite: suite.into(),
            result: SuiteResult { items: 50, cut: 2, numbers: BTreeMap::from([("acc".into(), number)]) },
            depth: 1,
            phase: String::new(),
        }
    }

    #[test]
    fn numbers_are_means_over_seeds() {
        let runs: Vec<_> = [0.2, 0.4, 0.3].map(|acc| vec![record(9, "a", Some(acc))]).into();
        let figure = &figures("grown", "tokens", &runs)[0];
        assert_eq!((figure.runs, figure.items, figure.cut), (3, 50, 2));
        let close =
            |number: Option<f64>, wanted: f64| number.is_some_and(|number| (number - wanted).abs() < 1e-12);
        assert!(close(figure.mean, 0.3), "{figure:?}");
        assert!(close(figure.standard_error, 0.1 / 3f64.sqrt()), "{figure:?}");
        assert!(close(figure.standard_error_of_items, 0.01), "{figure:?}");
    }

    #[test]
    fn what_is_no_number_counts_for_no_run() {
        let runs = vec![vec![record(9, "a", None)], vec![record(9, "a", Some(0.5))]];
        let figure = &figures("grown", "tokens", &runs)[0];
        assert_eq!((figure.runs, figure.mean, figure.standard_error), (1, Some(0.5), None));
        let none = &figures("grown", "tokens", &[vec![record(9, "a", None)]])[0];
        assert_eq!((none.runs, none.mean, none.standard_error_of_items), (0, None, None));
        assert_eq!(figures("grown", "tokens", &[]), []);
    }

    #[test]
    fn the_last_line_of_each_suite_counts() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = RunFolder::at(folder.path());
        assert_eq!(last_of(&folder).expect("none is none"), []);
        let lines = [record(0, "b", Some(0.1)), record(0, "a", Some(0.2)), record(9, "b", Some(0.3))];
        let text: String =
            lines.iter().map(|line| serde_json::to_string(line).expect("plain values") + "\n").collect();
        std::fs::write(folder.suites_file(), text).expect("room");
        assert_eq!(last_of(&folder).expect("three lines"), [lines[1].clone(), lines[2].clone()]);
    }
}
