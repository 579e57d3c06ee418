//! A run that never was, told to a reporter from its start to its end.

use std::path::PathBuf;

use crate::{GrowthReceipt, LayerId, MetricReporter, Result, RunEvent, SessionFacts};

/// A made-up run: it starts, grows once half-way, is evaluated every tenth step, and finishes.
///
/// ```
/// # use sapwood_plugin::*;
/// # #[derive(Default)]
/// # struct Counting { steps: u64, finished: bool }
/// # impl MetricReporter for Counting {
/// #     fn start(&mut self, _: &SessionFacts) -> Result<()> { Ok(()) }
/// #     fn event(&mut self, event: &RunEvent) -> Result<()> {
/// #         self.steps += u64::from(matches!(event, RunEvent::Step { .. }));
/// #         Ok(())
/// #     }
/// #     fn flush(&mut self) -> Result<()> { Ok(()) }
/// #     fn finish(&mut self) -> Result<()> { self.finished = true; Ok(()) }
/// # }
/// use sapwood_plugin::testing::MadeUpRun;
///
/// let mut reporter = Counting::default();
/// MadeUpRun::new("a-temporary-folder", 20).tell(&mut reporter)?;
/// assert_eq!((reporter.steps, reporter.finished), (20, true));
/// # sapwood_plugin::Result::Ok(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeUpRun {
    /// The run's name.
    pub name: String,
    /// Its folder; the reporter may write there.
    pub folder: PathBuf,
    /// Its steps.
    pub steps: u64,
    /// The step that it goes on from, 0 for one that starts.
    pub first_step: u64,
}

impl MadeUpRun {
    /// Of that many steps.
    pub fn new(folder: impl Into<PathBuf>, steps: u64) -> MadeUpRun {
        MadeUpRun { name: "made-up/tokens/seed-1".into(), folder: folder.into(), steps, first_step: 0 }
    }

    /// What a reporter is told before the first event.
    pub fn session(&self) -> SessionFacts {
        SessionFacts { study: "made-up".into(), folder: self.folder.clone(), runs: 1, terminal: false }
    }

    /// All of its events, in order.
    pub fn events(&self) -> Vec<RunEvent> {
        let mut events = vec![RunEvent::RunStarted {
            run: self.name.clone(),
            folder: self.folder.clone(),
            first_step: self.first_step,
            most_steps: self.steps,
        }];
        for step in self.first_step..self.steps {
            if step == self.steps / 2 {
                events.push(self.edited(step));
                events.push(self.phase(step));
            }
            if step % 10 == 0 {
                events.push(self.evaluated(step));
            }
            events.push(self.step(step));
        }
        events.push(RunEvent::Metric {
            run: self.name.clone(),
            step: self.steps,
            key: "strategy/number".into(),
            value: 0.5,
        });
        events.push(self.evaluated(self.steps));
        events.push(RunEvent::RunFinished {
            run: self.name.clone(),
            steps: self.steps,
            tokens: 128 * self.steps,
            loss_nats_per_token: loss(self.steps),
            wall_seconds: self.steps as f64 / 100.0,
        });
        events
    }

    /// Tells a reporter everything, with the flushes and the end that a host makes.
    ///
    /// # Errors
    /// What the reporter answers.
    pub fn tell(&self, reporter: &mut dyn MetricReporter) -> Result<()> {
        reporter.start(&self.session())?;
        for (index, event) in self.events().iter().enumerate() {
            reporter.event(event)?;
            if index % 16 == 0 {
                reporter.flush()?;
            }
        }
        reporter.flush()?;
        reporter.finish()
    }

    fn step(&self, step: u64) -> RunEvent {
        RunEvent::Step {
            run: self.name.clone(),
            step,
            tokens: 128 * (step + 1),
            flops: 1e6 * (step + 1) as f64,
            progress: (step + 1) as f64 / self.steps as f64,
            loss_nats_per_token: loss(step),
            gradient_norm: 1.0 / (1.0 + step as f64),
            learning_rate: 1e-3,
            depth: self.depth(step),
            phase: if step < self.steps / 2 { "shallow".into() } else { "deep".into() },
            wall_seconds: step as f64 / 100.0,
            tokens_per_second: 12_800.0,
        }
    }

    fn evaluated(&self, step: u64) -> RunEvent {
        RunEvent::Evaluated {
            run: self.name.clone(),
            step,
            tokens: 128 * step,
            loss_nats_per_token: loss(step) + 0.1,
        }
    }

    fn edited(&self, step: u64) -> RunEvent {
        let receipt = GrowthReceipt {
            step,
            depth_before: 1,
            depth_after: 2,
            new_layers: vec![LayerId(1)],
            removed_layers: vec![],
            replaced_layers: Vec::new(),
            loss_before: loss(step),
            loss_after: loss(step),
            largest_token_loss_change: 0.0,
            largest_logit_change: None,
            claim: None,
            widths: None,
            activation_rms_before: Vec::new(),
            activation_rms_after: Vec::new(),
            without_gradient: Vec::new(),
            moments: vec![("h.1.mlp.c_fc.weight".into(), "zero".into())],
            others_bit_identical: true,
        };
        RunEvent::Edited { run: self.name.clone(), receipt }
    }

    fn phase(&self, step: u64) -> RunEvent {
        RunEvent::PhaseStarted {
            run: self.name.clone(),
            step,
            label: "deep".into(),
            depth: 2,
            trainable_tensors: 28,
            tensors: 28,
        }
    }

    fn depth(&self, step: u64) -> usize {
        if step < self.steps / 2 { 1 } else { 2 }
    }
}

fn loss(step: u64) -> f64 {
    2.0 + 3.0 / (1.0 + step as f64 / 10.0)
}
