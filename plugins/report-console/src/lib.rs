//! Live progress on standard error: a bar a run in a terminal, a line now and then elsewhere.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sapwood_plugin::{MetricReporter, Plugin, Result, RunEvent, SessionFacts};
use serde::Deserialize;

/// How much is said.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where there is no terminal: a line each time that a run has come so many percent further.
    #[serde(default = "every_percent")]
    line_every_percent: u8,
}

fn every_percent() -> u8 {
    25
}

/// Steps of a bar: a run's progress is a share, not a count.
const BAR_LENGTH: u64 = 1000;

struct Console {
    config: Config,
    screen: Option<MultiProgress>,
    runs: HashMap<String, Run>,
    runs_total: usize,
    runs_ended: usize,
}

struct Run {
    bar: Option<ProgressBar>,
    said_percent: u64,
    progress: f64,
}

impl Plugin for Console {
    type Config = Config;

    fn new(config: Config) -> Result<Console> {
        Ok(Console { config, screen: None, runs: HashMap::new(), runs_total: 0, runs_ended: 0 })
    }
}

impl MetricReporter for Console {
    fn start(&mut self, session: &SessionFacts) -> Result<()> {
        self.runs_total = session.runs;
        if session.terminal {
            self.screen = Some(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)));
        }
        let folder = session.folder.display();
        self.say(&format!("{}: {} runs to do, into {folder}", session.study, session.runs))
    }

    fn event(&mut self, event: &RunEvent) -> Result<()> {
        match event {
            RunEvent::RunStarted { run, first_step, .. } => self.run_started(run, *first_step),
            RunEvent::Step { .. } => self.step(event),
            RunEvent::Edited { run, receipt } => {
                let grown = match receipt.widths {
                    Some([before, after]) => format!("becomes wider ({})", before.change_to(after)),
                    None => format!("grows from {} to {} blocks", receipt.depth_before, receipt.depth_after),
                };
                let (step, losses) = (receipt.step, (receipt.loss_before, receipt.loss_after));
                let loss = format!("loss {:.4} -> {:.4}", losses.0, losses.1);
                self.say(&format!("{run}: {grown} before step {step}, {loss}"))
            }
            RunEvent::RunFinished { run, steps, loss_nats_per_token, wall_seconds, .. } => {
                let what = format!("finished after {steps} steps, validation loss {loss_nats_per_token:.4}");
                self.run_ended(run, &format!("{what}, {wall_seconds:.1} s of training"))
            }
            RunEvent::RunStopped { run, reason } => self.run_ended(run, reason),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(screen) = &self.screen {
            screen.clear()?;
        }
        Ok(())
    }
}

impl Console {
    fn run_started(&mut self, run: &str, first_step: u64) -> Result<()> {
        let bar = match &self.screen {
            Some(screen) => Some(screen.add(new_bar(run)?)),
            None => None,
        };
        self.runs.insert(run.to_owned(), Run { bar, said_percent: 0, progress: 0.0 });
        if first_step > 0 { self.say(&format!("{run}: goes on from step {first_step}")) } else { Ok(()) }
    }

    fn step(&mut self, event: &RunEvent) -> Result<()> {
        let RunEvent::Step {
            run,
            step,
            progress,
            loss_nats_per_token,
            depth,
            phase,
            wall_seconds,
            tokens_per_second,
            ..
        } = event
        else {
            return Ok(());
        };
        let every = u64::from(self.config.line_every_percent.max(1));
        let Some(known) = self.runs.get_mut(run) else { return Ok(()) };
        known.progress = *progress;
        let numbers = format!(
            "{phase}, {depth} blocks, step {step}, loss {loss_nats_per_token:.3}, {:.1} k tokens/s",
            tokens_per_second / 1000.0
        );
        if let Some(bar) = &known.bar {
            bar.set_position((progress * BAR_LENGTH as f64) as u64);
            bar.set_message(format!("{numbers}, {} left", left(*progress, *wall_seconds)));
            return Ok(());
        }
        let percent = (progress * 100.0) as u64;
        if percent < known.said_percent + every {
            return Ok(());
        }
        known.said_percent = percent / every * every;
        self.say(&format!("{run}: {percent} %, {numbers}, {} left", left(*progress, *wall_seconds)))
    }

    fn run_ended(&mut self, run: &str, how: &str) -> Result<()> {
        if let Some(Run { bar: Some(bar), .. }) = self.runs.remove(run) {
            bar.finish_and_clear();
        }
        self.runs_ended += 1;
        self.say(&format!("[{}/{}] {run}: {how}", self.runs_ended, self.runs_total))
    }

    /// A line above the bars, or simply a line. A reporter is the one kind of plugin that may write here.
    fn say(&self, line: &str) -> Result<()> {
        match &self.screen {
            Some(screen) => Ok(screen.println(line)?),
            None => Ok(writeln!(std::io::stderr(), "{line}")?),
        }
    }
}

fn new_bar(run: &str) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{prefix:>24} {bar:24} {percent:>3} %  {msg}")?;
    Ok(ProgressBar::new(BAR_LENGTH).with_style(style).with_prefix(run.to_owned()))
}

/// Seconds still to come if all goes on as so far, in words.
fn left(progress: f64, wall_seconds: f64) -> String {
    let left = Duration::try_from_secs_f64(wall_seconds * (1.0 - progress) / progress);
    left.map_or_else(|_| "unknown".into(), |left| HumanDuration(left).to_string())
}

sapwood_plugin::export! {
    reporter Console {
        id: "sapwood/console",
        summary: "live progress in the terminal",
        page: include_str!("lib.rs"),
    }
}
