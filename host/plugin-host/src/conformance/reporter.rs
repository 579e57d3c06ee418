//! Questions to a reporter: it is told of made-up runs, whole, resumed, several at once, and of strange ones.

use std::time::Instant;

use sapwood_plugin::testing::MadeUpRun;
use sapwood_plugin::{MetricReporter, RunEvent, SessionFacts};

use super::process::{memory_over, prints_nothing, wrote_nothing_here};
use super::subject::{survived, while_doing};
use super::{Answer, Question, Subject, noted, passed};

/// An event may take that long on average.
const MOST_MICROSECONDS: f64 = 2000.0;

pub(super) const QUESTIONS: &[Question] = &[
    Question { name: "a-whole-run-goes-through", asks: "watches a run from start to end", ask: whole },
    Question { name: "a-resumed-run-goes-through", asks: "watches a run that goes on", ask: resumed },
    Question { name: "several-runs-at-once", asks: "keeps runs apart", ask: several },
    Question { name: "no-run-at-all-is-survived", asks: "ends a study without runs", ask: none },
    Question { name: "missing-steps-are-survived", asks: "survives dropped steps", ask: missing },
    Question { name: "failed-runs-are-survived", asks: "survives a run that fails", ask: failed },
    Question { name: "unknown-events-are-survived", asks: "survives events of later hosts", ask: unknown },
    Question {
        name: "events-of-unknown-runs-are-survived",
        asks: "survives a run that never started",
        ask: stranger,
    },
    Question { name: "long-texts-are-survived", asks: "survives long names", ask: long },
    Question { name: "extreme-events-are-survived", asks: "survives extreme numbers", ask: extremes },
    Question { name: "unwritable-folders-are-survived", asks: "errs where it cannot write", ask: unwritable },
    Question { name: "flushing-any-time-is-survived", asks: "can be flushed at any time", ask: flushed },
    Question { name: "instances-are-separate", asks: "shares nothing between instances", ask: separate },
    Question { name: "moves-between-threads", asks: "works on any thread", ask: threads },
    Question { name: "time-per-event", asks: "takes little time for an event", ask: time },
    Question { name: "memory-does-not-grow", asks: "keeps its memory", ask: memory },
    Question { name: "writes-where-it-may", asks: "writes in the study's folder alone", ask: in_folder },
    Question { name: "prints-nothing-to-stdout", asks: "leaves standard output alone", ask: silent },
];

fn made(subject: &Subject) -> Result<Box<dyn MetricReporter>, String> {
    subject.reporter().map_err(while_doing("new"))
}

/// A run of 40 steps in a folder of its own.
pub(super) fn usual_run(subject: &Subject) -> Result<MadeUpRun, String> {
    run_named(subject, "run")
}

fn run_named(subject: &Subject, name: &str) -> Result<MadeUpRun, String> {
    let folder = subject.folder.join("study").join(name);
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    Ok(MadeUpRun { name: format!("{name}/tokens/seed-1"), ..MadeUpRun::new(folder, 40) })
}

fn told(subject: &Subject, run: &MadeUpRun) -> Result<(), String> {
    run.tell(&mut *made(subject)?).map_err(while_doing("a run of 40 steps"))
}

fn whole(subject: &Subject) -> Answer {
    told(subject, &usual_run(subject)?)?;
    passed()
}

fn resumed(subject: &Subject) -> Answer {
    let run = usual_run(subject)?;
    told(subject, &run)?;
    told(subject, &MadeUpRun { first_step: 20, ..run })?;
    passed()
}

/// Starts a reporter, has it told something, and ends it; answers what the telling came to.
fn around(
    subject: &Subject,
    tell: impl FnOnce(&mut dyn MetricReporter, &MadeUpRun) -> sapwood_plugin::Result<()>,
) -> Result<sapwood_plugin::Result<()>, String> {
    let run = usual_run(subject)?;
    let mut reporter = made(subject)?;
    reporter.start(&run.session()).map_err(while_doing("start"))?;
    let told = tell(&mut *reporter, &run);
    if told.is_ok() {
        reporter.flush().map_err(while_doing("flush"))?;
        reporter.finish().map_err(while_doing("finish"))?;
    }
    Ok(told)
}

fn several(subject: &Subject) -> Answer {
    let runs: Vec<MadeUpRun> =
        (0..8).map(|index| run_named(subject, &format!("run-{index}"))).collect::<Result<_, _>>()?;
    let told = around(subject, |reporter, _| {
        let events: Vec<Vec<RunEvent>> = runs.iter().map(MadeUpRun::events).collect();
        for at in 0..events[0].len() {
            for events in &events {
                reporter.event(&events[at])?;
            }
        }
        Ok(())
    })?;
    told.map_err(while_doing("eight runs at once"))?;
    passed()
}

fn none(subject: &Subject) -> Answer {
    around(subject, |_, _| Ok(()))?.map_err(while_doing("no run"))?;
    passed()
}

fn missing(subject: &Subject) -> Answer {
    let told = around(subject, |reporter, run| {
        let events = run.events();
        let kept = events.iter().enumerate().filter(|(at, event)| !event.may_be_dropped() || at % 7 == 0);
        kept.map(|(_, event)| event).try_for_each(|event| reporter.event(event))
    })?;
    told.map_err(while_doing("a run with steps missing"))?;
    passed()
}

fn failed(subject: &Subject) -> Answer {
    let told = around(subject, |reporter, run| {
        run.events().iter().take(20).try_for_each(|event| reporter.event(event))?;
        reporter.event(&RunEvent::RunStopped { run: run.name.clone(), reason: "the loss is NaN".into() })
    })?;
    told.map_err(while_doing("a run that fails"))?;
    passed()
}

fn unknown(subject: &Subject) -> Answer {
    let told = around(subject, |reporter, run| {
        reporter.event(&run.events()[0])?;
        reporter.event(&RunEvent::Unknown)
    })?;
    told.map_err(while_doing("an event that it does not know"))?;
    passed()
}

fn stranger(subject: &Subject) -> Answer {
    let told = around(subject, |reporter, run| {
        run.events().iter().skip(1).try_for_each(|event| reporter.event(event))
    })?;
    survived("a run that never started", told)?;
    passed()
}

fn long(subject: &Subject) -> Answer {
    let told = around(subject, |reporter, run| {
        let long = MadeUpRun { name: "long/".repeat(2000), ..run.clone() };
        long.events().iter().try_for_each(|event| reporter.event(event))?;
        let (run, key) = (long.name, "k".repeat(1 << 16));
        reporter.event(&RunEvent::Metric { run, step: 1, key, value: 1.0 })
    })?;
    survived("a run's name of ten thousand bytes", told)?;
    passed()
}

fn extremes(subject: &Subject) -> Answer {
    for number in [0.0, -1.0, 1e-308, 1e308, -1e308] {
        let told = around(subject, |reporter, run| {
            for event in run.events() {
                let event = match event {
                    RunEvent::Step { run, step, tokens, phase, depth, .. } => RunEvent::Step {
                        run,
                        step,
                        tokens,
                        phase,
                        depth,
                        flops: number,
                        progress: number,
                        loss_nats_per_token: number,
                        gradient_norm: number,
                        learning_rate: number,
                        wall_seconds: number,
                        tokens_per_second: number,
                    },
                    other => other,
                };
                reporter.event(&event)?;
            }
            Ok(())
        })?;
        survived(&format!("steps with {number:e} everywhere"), told)?;
    }
    passed()
}

fn unwritable(subject: &Subject) -> Answer {
    let file = subject.folder.join("a-file");
    std::fs::write(&file, "not a folder").map_err(|error| format!("cannot write a file: {error}"))?;
    let run = MadeUpRun::new(file.join("below"), 10);
    survived("a folder that cannot be", run.tell(&mut *made(subject)?))?;
    passed()
}

fn flushed(subject: &Subject) -> Answer {
    let told = around(subject, |reporter, run| {
        reporter.flush()?;
        run.events().iter().try_for_each(|event| reporter.event(event).and_then(|()| reporter.flush()))
    })?;
    told.map_err(while_doing("a flush after every event"))?;
    passed()
}

fn separate(subject: &Subject) -> Answer {
    let (mut one, mut other) = (made(subject)?, made(subject)?);
    let (here, there) = (run_named(subject, "here")?, run_named(subject, "there")?);
    one.start(&here.session()).map_err(while_doing("start"))?;
    other.start(&there.session()).map_err(while_doing("start of a second instance"))?;
    for (event_here, event_there) in here.events().iter().zip(&there.events()) {
        one.event(event_here).map_err(while_doing("the first instance"))?;
        other.event(event_there).map_err(while_doing("the second instance"))?;
    }
    one.finish().map_err(while_doing("finish"))?;
    other.finish().map_err(while_doing("finish of a second instance"))?;
    passed()
}

fn threads(subject: &Subject) -> Answer {
    let run = usual_run(subject)?;
    let mut reporter = made(subject)?;
    let told = std::thread::spawn(move || run.tell(&mut *reporter)).join();
    told.map_err(|_| "panics on another thread".to_owned())?.map_err(while_doing("on another thread"))?;
    passed()
}

fn step(events: &[RunEvent]) -> Result<&RunEvent, String> {
    let step = events.iter().find(|event| matches!(event, RunEvent::Step { .. }));
    step.ok_or_else(|| "the made-up run has no step".into())
}

fn started(subject: &Subject) -> Result<(Box<dyn MetricReporter>, Vec<RunEvent>), String> {
    let run = usual_run(subject)?;
    let mut reporter = made(subject)?;
    reporter.start(&SessionFacts { runs: 1, ..run.session() }).map_err(while_doing("start"))?;
    let events = run.events();
    reporter.event(&events[0]).map_err(while_doing("the run's start"))?;
    Ok((reporter, events))
}

fn time(subject: &Subject) -> Answer {
    let (mut reporter, events) = started(subject)?;
    let step = step(&events)?;
    let (count, began) = (2000, Instant::now());
    for _ in 0..count {
        reporter.event(step).map_err(while_doing("a step"))?;
    }
    let microseconds = began.elapsed().as_secs_f64() * 1e6 / f64::from(count);
    let note = format!("{microseconds:.1} µs on average");
    if microseconds > MOST_MICROSECONDS { Err(note) } else { noted(note) }
}

fn memory(subject: &Subject) -> Answer {
    let (mut reporter, events) = started(subject)?;
    let step = step(&events)?;
    memory_over(20_000, |_| reporter.event(step).map_err(while_doing("a step")))
}

fn in_folder(subject: &Subject) -> Answer {
    told(subject, &usual_run(subject)?)?;
    wrote_nothing_here()
}

fn silent(subject: &Subject) -> Answer {
    told(subject, &usual_run(subject)?)?;
    prints_nothing(subject, false)
}
