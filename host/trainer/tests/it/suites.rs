//! Suites put to a run's model: at which steps, to which weights, and as if nothing had happened where the run was stopped
//! or began as another's copy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use engine::Step;
use plugin_host::api::{Claim, RunEvent};
use trainer::folder::records::SuiteRecord;
use trainer::hugging_face::StoredModel;
use trainer::storage::{read_json, read_json_lines};
use trainer::{
    Evaluation, PlainModel, Prefix, Questions, RunFile, Suite, SuiteConfig, SuiteFacts, SuiteKind,
    SuiteNumber, SuiteResult, TrainError,
};

use crate::bench::{Bench, Filling, Told, grow};

/// Sums up all weights, and halts when it is asked for the so manieth time.
#[derive(Default)]
struct Sum {
    asked: AtomicUsize,
    halts_at: Option<usize>,
}

fn sum(tensors: &trainer::hugging_face::Tensors) -> f64 {
    let ordered: BTreeMap<_, _> = tensors.iter().collect();
    ordered.values().flat_map(|values| values.iter()).map(|value| f64::from(*value)).sum()
}

impl Questions for Sum {
    fn put_to(&self, model: PlainModel, halt: &AtomicBool) -> Result<Option<SuiteResult>, TrainError> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        if self.halts_at == Some(number) {
            halt.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        let value = Some(sum(&model.tensors));
        let numbers = BTreeMap::from([
            ("none".to_owned(), SuiteNumber { value: None, standard_error: None }),
            ("sum".to_owned(), SuiteNumber { value, standard_error: Some(0.5) }),
        ]);
        Ok(Some(SuiteResult { items: model.shape.layers, cut: 0, numbers }))
    }
}

/// The bench with two suites: one at every second evaluation, and one at every third.
fn with_suites(mut bench: Bench, halts_at: Option<usize>) -> Bench {
    let config = |name: &str, every_evaluations| SuiteConfig {
        name: name.into(),
        kind: SuiteKind::Text,
        path: "suite.jsonl".into(),
        tokenizer: None,
        items: None,
        every_evaluations,
    };
    let suites = vec![config("second", 2), config("third", 3)];
    bench.config.evaluation = Evaluation { every_steps: 3, sequences: 4, suites: suites.clone() };
    let suite = |(number, config): (usize, SuiteConfig)| Suite {
        config,
        facts: SuiteFacts { sha256: "f00d".into(), tokenizer_sha256: None },
        questions: Box::new(Sum { asked: AtomicUsize::new(0), halts_at: halts_at.filter(|_| number == 1) }),
    };
    bench.suites = suites.into_iter().enumerate().map(suite).collect();
    bench
}

fn growing(stop: Option<(u64, &'static AtomicBool)>) -> Told {
    Told::to(move |context, actions| {
        if let Some((_, interrupt)) = stop.filter(|(step, _)| *step == context.step) {
            interrupt.store(true, Ordering::Relaxed);
        }
        if context.step == 6 || context.step == 12 {
            grow(context, actions)?;
            actions.evaluate()?;
        }
        Ok(())
    })
}

fn lines(bench: &Bench) -> Vec<SuiteRecord> {
    read_json_lines(&bench.folder().suites_file()).expect("a whole log")
}

fn run(bench: &Bench, strategy: Told, interrupt: &AtomicBool) -> Result<(), TrainError> {
    let filling = Filling(|first| first, Claim::None);
    bench.run_with(strategy, filling, bench.scripted(), interrupt).map(|_| ())
}

fn alone() -> Bench {
    let bench = with_suites(Bench::new(), None);
    bench.run(growing(None)).expect("a good run");
    bench
}

#[test]
fn suites_are_asked_when_they_are_due_and_once_at_the_end() {
    let bench = alone();
    let asked = lines(&bench);
    let said: Vec<String> = asked
        .iter()
        .map(|line| format!("{} {} depth {} items {}", line.step, line.suite, line.depth, line.result.items))
        .collect();
    assert_eq!(
        said,
        [
            "0 second depth 1 items 1",
            "0 third depth 1 items 1",
            // Before the growth that comes at this step.
            "6 second depth 1 items 1",
            "9 third depth 2 items 2",
            "12 second depth 2 items 2",
            "18 second depth 3 items 3",
            "18 third depth 3 items 3",
            "20 second depth 3 items 3",
            "20 third depth 3 items 3",
        ]
    );
    let stored = StoredModel::open(bench.folder().path()).expect("a checkpoint at the end");
    assert_eq!(asked[8].result.numbers["sum"].value, Some(sum(&stored.tensors)), "the model that is saved");
    let events = bench.events.lock().expect("nobody else holds it");
    let told: Vec<(u64, &str)> = events
        .iter()
        .filter_map(|event| match event {
            RunEvent::Metric { step, key, .. } if key.contains('/') => Some((*step, key.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!((told.len(), told[0], told[8]), (9, (0, "second/sum"), (20, "third/sum")));
    let file: RunFile = read_json(&bench.folder().run_file()).expect("what it is bound to");
    assert_eq!(file.bound_to.suites["third"].sha256, "f00d");
}

#[test]
fn another_file_of_a_suite_is_another_run() {
    let mut bench = alone();
    bench.suites[0].facts.sha256 = "beef".into();
    let refused = bench.run(growing(None)).expect_err("the folder holds another run").to_string();
    assert!(refused.contains("`suites.second.sha256` was \"f00d\", now \"beef\""), "{refused}");
}

#[test]
fn a_run_without_suites_has_no_log_of_them() {
    let bench = Bench::new();
    bench.run(growing(None)).expect("a good run");
    assert!(!bench.folder().suites_file().exists());
    let run_file = std::fs::read_to_string(bench.folder().run_file()).expect("a file");
    let done = std::fs::read_to_string(bench.folder().done_file()).expect("a file");
    assert!(!run_file.contains("suite") && !done.contains("suite"), "{run_file}{done}");
}

#[test]
fn an_interrupted_run_has_the_lines_of_an_uninterrupted_one() {
    let wanted = lines(&alone());
    for step in 0..20 {
        let bench = with_suites(Bench::new(), None);
        let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        run(&bench, growing(Some((step, interrupt))), interrupt).expect_err("it is interrupted");
        run(&bench, growing(None), &AtomicBool::new(false)).expect("the rest of the run");
        assert!(lines(&bench) == wanted, "interrupted at step {step}: {:#?}", lines(&bench));
    }
}

#[test]
fn who_is_stopped_while_a_suite_is_asked_asks_all_that_were_due_again() {
    let wanted = lines(&alone());
    // The second suite is asked four times, the last time at the end of the run.
    for number in 0..4 {
        let bench = with_suites(Bench::new(), Some(number));
        let stopped = run(&bench, growing(None), &AtomicBool::new(false)).expect_err("it is interrupted");
        assert!(matches!(stopped, TrainError::Interrupted { .. }), "{stopped}");
        let written = lines(&bench);
        assert!(written == wanted[..written.len()] && written.len() < wanted.len(), "{written:#?}");
        assert!(!bench.folder().is_done());
        let bench = with_suites(bench, None);
        run(&bench, growing(None), &AtomicBool::new(false)).expect("the rest of the run");
        assert!(lines(&bench) == wanted, "halted at question {number}: {:#?}", lines(&bench));
    }
}

#[test]
fn a_copy_takes_over_what_suites_came_to() {
    let wanted = lines(&alone());
    let mut leading = with_suites(Bench::new(), None);
    leading.forks = BTreeSet::from([6, 12, 15].map(Step));
    leading.run(growing(None)).expect("a good run");
    assert!(lines(&leading) == wanted);
    let copying = |until| {
        let mut bench = with_suites(Bench::new(), None);
        bench.prefix = Some(Prefix { run: "leading".into(), folder: leading.folder(), until: Step(until) });
        bench
    };
    let copy = copying(15);
    let summary = copy.run(growing(None)).expect("a good run");
    assert_eq!(summary.shared.map(|shared| shared.steps), Some(Step(15)));
    assert!(lines(&copy) == wanted, "{:#?}", lines(&copy));

    // What the other run has not asked yet is asked here where tensors are there, and nowhere else.
    let log = leading.folder().suites_file();
    let text = std::fs::read_to_string(&log).expect("a log");
    let without = |step: &str| {
        let left = text.lines().filter(|line| !line.starts_with(&format!("{{\"step\":{step},")));
        left.map(|line| format!("{line}\n")).collect::<String>()
    };
    std::fs::write(&log, without("12")).expect("room");
    let copy = copying(15);
    copy.run(growing(None)).expect("a good run");
    assert!(lines(&copy) == wanted, "{:#?}", lines(&copy));
    std::fs::write(&log, without("9")).expect("room");
    let lost = copying(15).run(growing(None)).expect_err("the model before step 9 is nowhere");
    assert!(matches!(&lost, TrainError::OtherPrefix { .. }), "{lost}");
}
