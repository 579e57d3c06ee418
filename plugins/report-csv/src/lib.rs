//! Steps and evaluations as CSV, in each run's folder: `steps.csv` and `evaluations.csv`. A run that goes on
//! from a checkpoint has what came after it cut off first, so that no step stands there twice. A row goes to the
//! file as soon as it is told, so that a run that is killed leaves none out.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use sapwood_plugin::{MetricReporter, Plugin, Result, RunEvent, SessionFacts};

/// Takes no option.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

const STEPS_HEADER: [&str; 8] =
    ["step", "tokens", "flops", "loss_nats_per_token", "gradient_norm", "learning_rate", "depth", "phase"];
const EVALUATIONS_HEADER: [&str; 3] = ["step", "tokens", "loss_nats_per_token"];

struct Csv {
    runs: HashMap<String, Tables>,
}

struct Tables {
    steps: csv::Writer<File>,
    evaluations: csv::Writer<File>,
}

impl Plugin for Csv {
    type Config = Config;

    fn new(_: Config) -> Result<Csv> {
        Ok(Csv { runs: HashMap::new() })
    }
}

impl MetricReporter for Csv {
    fn start(&mut self, _: &SessionFacts) -> Result<()> {
        Ok(())
    }

    fn event(&mut self, event: &RunEvent) -> Result<()> {
        match event {
            RunEvent::RunStarted { run, folder, first_step, .. } => {
                let tables = Tables {
                    steps: reopened(&folder.join("steps.csv"), &STEPS_HEADER, *first_step)?,
                    evaluations: reopened(&folder.join("evaluations.csv"), &EVALUATIONS_HEADER, *first_step)?,
                };
                self.runs.insert(run.clone(), tables);
            }
            RunEvent::Step {
                run,
                step,
                tokens,
                flops,
                loss_nats_per_token,
                gradient_norm,
                learning_rate,
                depth,
                phase,
                ..
            } => {
                if let Some(tables) = self.runs.get_mut(run) {
                    tables.steps.serialize((
                        step,
                        tokens,
                        flops,
                        loss_nats_per_token,
                        gradient_norm,
                        learning_rate,
                        depth,
                        phase,
                    ))?;
                    tables.steps.flush()?;
                }
            }
            RunEvent::Evaluated { run, step, tokens, loss_nats_per_token } => {
                if let Some(tables) = self.runs.get_mut(run) {
                    tables.evaluations.serialize((step, tokens, loss_nats_per_token))?;
                    tables.evaluations.flush()?;
                }
            }
            RunEvent::RunFinished { run, .. } | RunEvent::RunStopped { run, .. } => {
                if let Some(mut tables) = self.runs.remove(run) {
                    tables.flush()?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.runs.values_mut().try_for_each(Tables::flush)
    }

    fn finish(&mut self) -> Result<()> {
        self.flush()
    }
}

impl Tables {
    fn flush(&mut self) -> Result<()> {
        self.steps.flush()?;
        Ok(self.evaluations.flush()?)
    }
}

/// A table with the rows before `first_step` that it already had.
fn reopened(path: &Path, header: &[&str], first_step: u64) -> Result<csv::Writer<File>> {
    let kept = if first_step > 0 && path.exists() { rows_before(path, first_step)? } else { Vec::new() };
    let temporary: PathBuf = path.with_extension("csv.tmp");
    let begun = begun(&temporary, header, &kept).and_then(|table| {
        std::fs::rename(&temporary, path)?;
        Ok(table)
    });
    if begun.is_err() {
        // On a full disk what was written of it would take up the room that is missing.
        let _ = std::fs::remove_file(&temporary);
    }
    begun
}

/// A table with a header and these rows, on the disk.
fn begun(path: &Path, header: &[&str], rows: &[csv::StringRecord]) -> Result<csv::Writer<File>> {
    let mut table = csv::Writer::from_path(path)?;
    table.write_record(header)?;
    for row in rows {
        table.write_record(row)?;
    }
    table.flush()?;
    Ok(table)
}

/// An evaluation at the first step came before the checkpoint.
fn rows_before(path: &Path, first_step: u64) -> Result<Vec<csv::StringRecord>> {
    let is_step_table = path.file_name().is_some_and(|name| name == "steps.csv");
    let mut rows = Vec::new();
    for row in csv::ReaderBuilder::new().flexible(true).from_path(path)?.records() {
        let row = row?;
        let step: Option<u64> = row.get(0).and_then(|step| step.parse().ok());
        let whole = row.len() == if is_step_table { STEPS_HEADER.len() } else { EVALUATIONS_HEADER.len() };
        if whole && step.is_some_and(|step| step < first_step || (!is_step_table && step == first_step)) {
            rows.push(row);
        }
    }
    Ok(rows)
}

sapwood_plugin::export! {
    reporter Csv {
        id: "sapwood/csv",
        summary: "steps and evaluations as CSV files in each run's folder",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{MadeUpRun, plugin};

    use super::*;

    fn started(folder: &Path, first_step: u64) -> RunEvent {
        let (run, folder) = ("a/tokens/seed-1".to_owned(), folder.to_path_buf());
        RunEvent::RunStarted { run, folder, first_step, most_steps: 9 }
    }

    fn evaluated(step: u64, loss_nats_per_token: f64) -> RunEvent {
        RunEvent::Evaluated { run: "a/tokens/seed-1".into(), step, tokens: step * 10, loss_nats_per_token }
    }

    #[test]
    fn a_row_does_not_wait_for_others() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut reporter = Csv::new(Config {}).expect("no option can be wrong");
        let step = RunEvent::Step {
            run: "a/tokens/seed-1".into(),
            step: 0,
            tokens: 10,
            flops: 100.0,
            progress: 0.5,
            loss_nats_per_token: 5.0,
            gradient_norm: 1.0,
            learning_rate: 0.1,
            depth: 2,
            phase: "all".into(),
            wall_seconds: 1.0,
            tokens_per_second: 10.0,
        };
        for event in [started(folder.path(), 0), evaluated(0, 5.5), step] {
            reporter.event(&event).expect("room for a row");
        }
        // As if it had been killed here: nothing is flushed by hand.
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("the table");
        assert!(read("evaluations.csv").ends_with("\n0,0,5.5\n"), "{}", read("evaluations.csv"));
        assert!(read("steps.csv").ends_with("\n0,10,100.0,5.0,1.0,0.1,2,all\n"), "{}", read("steps.csv"));
    }

    #[test]
    fn a_run_that_goes_on_has_no_row_twice() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut reporter = Csv::new(Config {}).expect("no option can be wrong");
        for event in [started(folder.path(), 0), evaluated(0, 5.0), evaluated(4, 4.0), evaluated(8, 3.0)] {
            reporter.event(&event).expect("room for a row");
        }
        reporter.flush().expect("room");
        for event in [started(folder.path(), 4), evaluated(8, 2.5)] {
            reporter.event(&event).expect("room for a row");
        }
        reporter.finish().expect("room");
        let text = std::fs::read_to_string(folder.path().join("evaluations.csv")).expect("the table");
        assert_eq!(text, "step,tokens,loss_nats_per_token\n0,0,5.0\n4,40,4.0\n8,80,2.5\n");
    }

    #[test]
    fn a_whole_run_and_one_that_goes_on_have_every_step_once() {
        let folder = tempfile::tempdir().expect("room for a temporary folder");
        let steps = || -> Vec<u64> {
            let text = std::fs::read_to_string(folder.path().join("steps.csv")).expect("the table");
            text.lines().skip(1).filter_map(|line| line.split(',').next()?.parse().ok()).collect()
        };
        let run = MadeUpRun::new(folder.path(), 20);
        run.tell(&mut plugin::<Csv>("{}").expect("it takes no option")).expect("room for the tables");
        assert_eq!(steps(), (0..20).collect::<Vec<_>>());
        let resumed = MadeUpRun { first_step: 12, steps: 30, ..run };
        resumed.tell(&mut plugin::<Csv>("{}").expect("it takes no option")).expect("room for the tables");
        assert_eq!(steps(), (0..30).collect::<Vec<_>>());
    }
}
