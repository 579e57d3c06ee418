//! Where two runs' logs part, and in what.

use serde::Serialize;
use serde_json::{Value, json};
use trainer::TrainError;
use trainer::folder::RunFolder;
use trainer::folder::records::{Decision, EvaluationRecord, StepRecord, SuiteRecord};
use trainer::storage::read_whole_lines;

/// How many decisions of each run are shown from the first difference on.
const SHOWN: usize = 4;

/// Two logs with one record a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogDiff {
    /// Records of each.
    pub counts: [usize; 2],
    /// For each thing in which they differ the first record that does, the earliest first.
    pub first_differences: Vec<FirstDifference>,
}

/// The first record of two logs that differs in something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FirstDifference {
    /// In what: `loss`, `gradient norm` …
    pub what: &'static str,
    /// The old run's step.
    pub step: u64,
    /// What it is there.
    pub old: Value,
    /// What it is in the new run.
    pub new: Value,
}

/// Two decision logs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecisionsDiff {
    /// Entries of each.
    pub counts: [usize; 2],
    /// How many of them are the same, from the beginning.
    pub same: usize,
    /// The next few entries of each, from the first difference on.
    pub then: [Vec<Decision>; 2],
}

impl LogDiff {
    /// Whether nothing differs.
    pub fn is_same(&self) -> bool {
        self.counts[0] == self.counts[1] && self.first_differences.is_empty()
    }
}

impl DecisionsDiff {
    /// Whether nothing differs.
    pub fn is_same(&self) -> bool {
        self.counts == [self.same; 2]
    }
}

/// What of a record is compared: its name, and how it is read.
type Part<T> = (&'static str, fn(&T) -> Value);

const OF_STEPS: [Part<StepRecord>; 9] = [
    ("step", |step| json!(step.step)),
    ("loss", |step| json!(step.loss_nats_per_token)),
    ("gradient norm", |step| json!(step.gradient_norm)),
    ("skipped", |step| json!(step.skipped)),
    ("learning rate", |step| json!(step.learning_rate)),
    ("depth", |step| json!(step.depth)),
    ("phase", |step| json!(step.phase)),
    ("tokens", |step| json!(step.tokens)),
    ("FLOPs", |step| json!(step.flops)),
];

const OF_EVALUATIONS: [Part<EvaluationRecord>; 9] = [
    ("step", |at| json!(at.step)),
    ("loss", |at| json!(at.loss_nats_per_token)),
    ("batches hash", |at| json!(at.batches_sha256)),
    ("depth", |at| json!(at.depth)),
    ("phase", |at| json!(at.phase)),
    ("tokens", |at| json!(at.tokens)),
    ("FLOPs", |at| json!(at.flops)),
    ("FLOPs of products with weights", |at| json!(at.flops_weight_matmul)),
    ("FLOPs by li2024", |at| json!(at.flops_li2024)),
];

const OF_SUITES: [Part<SuiteRecord>; 9] = [
    ("step", |asked| json!(asked.step)),
    ("suite", |asked| json!(asked.suite)),
    ("items", |asked| json!(asked.result.items)),
    ("items that were cut", |asked| json!(asked.result.cut)),
    ("numbers", |asked| json!(asked.result.numbers)),
    ("depth", |asked| json!(asked.depth)),
    ("phase", |asked| json!(asked.phase)),
    ("tokens", |asked| json!(asked.tokens)),
    ("FLOPs", |asked| json!(asked.flops)),
];

pub(super) fn steps(runs: &[RunFolder; 2]) -> Result<LogDiff, TrainError> {
    let [old, new] = runs;
    let (old, new) = (read_whole_lines(&old.metrics_file())?, read_whole_lines(&new.metrics_file())?);
    Ok(parted(&old, &new, &OF_STEPS, |record| record.step.0))
}

pub(super) fn evaluations(runs: &[RunFolder; 2]) -> Result<LogDiff, TrainError> {
    let [old, new] = runs;
    let (old, new) = (read_whole_lines(&old.evaluations_file())?, read_whole_lines(&new.evaluations_file())?);
    Ok(parted(&old, &new, &OF_EVALUATIONS, |record| record.step.0))
}

/// `None` where neither run was put to a suite.
pub(super) fn suites(runs: &[RunFolder; 2]) -> Result<Option<LogDiff>, TrainError> {
    let [old, new] = runs;
    let (old, new) = (read_whole_lines(&old.suites_file())?, read_whole_lines(&new.suites_file())?);
    let has_some = !(old.is_empty() && new.is_empty());
    Ok(has_some.then(|| parted(&old, &new, &OF_SUITES, |record| record.step.0)))
}

fn parted<T>(old: &[T], new: &[T], parts: &[Part<T>], step: fn(&T) -> u64) -> LogDiff {
    let first = |(what, read): &Part<T>| {
        let (one, other) = old.iter().zip(new).find(|(one, other)| read(one) != read(other))?;
        Some(FirstDifference { what, step: step(one), old: read(one), new: read(other) })
    };
    let mut first_differences: Vec<FirstDifference> = parts.iter().filter_map(first).collect();
    first_differences.sort_by_key(|difference| difference.step);
    LogDiff { counts: [old.len(), new.len()], first_differences }
}

pub(super) fn decisions(runs: &[RunFolder; 2]) -> Result<DecisionsDiff, TrainError> {
    let [old, new] = runs;
    let old: Vec<Decision> = read_whole_lines(&old.decisions_file())?;
    let new: Vec<Decision> = read_whole_lines(&new.decisions_file())?;
    let same = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let counts = [old.len(), new.len()];
    let then = [old, new].map(|log| log.into_iter().skip(same).take(SHOWN).collect());
    Ok(DecisionsDiff { counts, same, then })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use engine::{Flops, Step, Tokens};
    use serde::de::DeserializeOwned;
    use trainer::SuiteResult;

    use super::*;

    /// What clocks and counters of energy say: no two runs share it.
    const CLOCKS: [&str; 2] = ["wall_seconds", "joules"];

    /// Changes each field of a record in turn, and looks whether that is found. No field of it is left out of the file.
    fn every_field_is_compared<T: Serialize + DeserializeOwned>(record: &T, parts: &[Part<T>]) {
        let written = serde_json::to_value(record).expect("JSON");
        for (field, value) in written.as_object().expect("a record") {
            let mut other = written.clone();
            other[field] = match value {
                Value::Number(number) => json!(number.as_u64().map_or(0, |number| number + 1)),
                Value::String(text) => json!(format!("another {text}")),
                _ => json!({ "acc": { "value": 0.5, "standard_error": null } }),
            };
            let other: T = serde_json::from_value(other).expect("a good record");
            let is_found =
                !parted(std::slice::from_ref(record), std::slice::from_ref(&other), parts, |_| 0).is_same();
            assert_eq!(is_found, !CLOCKS.contains(&field.as_str()), "{field}");
        }
    }

    #[test]
    fn whatever_a_record_holds_is_compared_but_for_clocks() {
        let step = StepRecord {
            step: Step(1),
            tokens: Tokens(64),
            flops: Flops(1000),
            loss_nats_per_token: 2.5,
            gradient_norm: 1.5,
            learning_rate: 0.5,
            depth: 2,
            phase: "start".into(),
            skipped: Some("the loss is NaN".into()),
        };
        every_field_is_compared(&step, &OF_STEPS);
        let evaluation = EvaluationRecord {
            step: Step(1),
            tokens: Tokens(64),
            flops: Flops(1000),
            flops_weight_matmul: Flops(900),
            flops_li2024: Flops(800),
            wall_seconds: 1.5,
            joules: Some(10.5),
            loss_nats_per_token: 2.5,
            batches_sha256: "ab".into(),
            depth: 2,
            phase: "start".into(),
        };
        every_field_is_compared(&evaluation, &OF_EVALUATIONS);
        let asked = SuiteRecord {
            step: Step(1),
            tokens: Tokens(64),
            flops: Flops(1000),
            suite: "lambada".into(),
            result: SuiteResult { items: 10, cut: 1, numbers: BTreeMap::new() },
            depth: 2,
            phase: "start".into(),
        };
        every_field_is_compared(&asked, &OF_SUITES);
    }
}
