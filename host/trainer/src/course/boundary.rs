//! The moment before a step at which a strategy may ask for something: the sink that its requests go to.

use engine::{Flops, Step};
use plugin_host::api::{Action, ActionSink, Error, Probe, Pushed, Result};

use crate::costs::StepCost;
use crate::course::{Course, Rules};

/// Most requests of one boundary.
const MOST_REQUESTS: usize = 4096;

/// Collects requests on a copy of the course; the run takes it over when the call has gone well.
pub(crate) struct Boundary<'a> {
    /// The course as the requests so far would have it.
    pub course: Course,
    /// The requests that were taken, in order.
    pub taken: Vec<Action>,
    /// The requests that were refused, in words, with the reason.
    pub refused: Vec<(String, String)>,
    rules: &'a Rules,
    moment: Moment,
}

/// When a strategy is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The coming step.
    pub step: Step,
    /// Share of the budget that is spent.
    pub progress: f64,
    /// FLOPs that are left, where the budget is in FLOPs.
    pub flops_left: Option<Flops>,
    /// Whether it is told what came of a probe before this very step.
    pub after_probe: bool,
}

impl<'a> Boundary<'a> {
    /// At that moment.
    pub(crate) fn new(course: &Course, rules: &'a Rules, moment: Moment) -> Boundary<'a> {
        Boundary { course: course.clone(), taken: Vec::new(), refused: Vec::new(), rules, moment }
    }

    fn decide(&mut self, action: &Action) -> Result<Pushed> {
        let Moment { step, progress, .. } = self.moment;
        action.check_well_formed()?;
        action.check_beside(&self.taken)?;
        if let Action::Probe(probe) = action {
            self.check_probe(probe)?;
        }
        self.course.decide(action, self.rules, step, progress)
    }

    /// A probe that the budget cannot pay would end the run in the middle of it.
    fn check_probe(&self, probe: &Probe) -> Result<()> {
        let Moment { step, progress, flops_left, after_probe } = self.moment;
        if after_probe {
            return Err(Error::new("there was a probe before this step"));
        }
        let Some(left) = flops_left else { return Ok(()) };
        let mut cost = Flops(0);
        for candidate in &probe.candidates {
            let tried = self.course.tried(candidate, self.rules, step, progress)?;
            let of_step = StepCost::of(&self.rules.shape, &tried).flops.total();
            cost += Flops(of_step.0.saturating_mul(probe.steps.into()));
        }
        if cost <= left {
            return Ok(());
        }
        let (cost, left) = (cost.as_f64(), left.as_f64());
        Err(Error::new(format!("the probe costs {cost:.3e} FLOPs, the budget has {left:.3e} left")))
    }
}

impl ActionSink for Boundary<'_> {
    fn push(&mut self, action: Action) -> Result<Pushed> {
        let answer = if self.taken.len() + self.refused.len() >= MOST_REQUESTS {
            Err(Error::new(format!("more than {MOST_REQUESTS} requests before one step")))
        } else {
            self.decide(&action)
        };
        match &answer {
            Ok(_) => self.taken.push(action),
            Err(reason) if self.refused.len() < MOST_REQUESTS => {
                self.refused.push((cut(format!("{action:?}")), cut(reason.to_string())));
            }
            Err(_) => {}
        }
        answer
    }
}

/// The probe among requests.
pub(crate) fn probe_of(requests: &[Action]) -> Option<&Probe> {
    requests.iter().find_map(|request| match request {
        Action::Probe(probe) => Some(probe),
        _ => None,
    })
}

/// Longest text of a refused request that is written down, in bytes.
const LONGEST_TEXT: usize = 500;

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Takes the judgement on an edit, and numbers.
#[derive(Default)]
pub(crate) struct Judgement {
    /// Why the edit is taken back, if it is.
    pub rejected: Option<String>,
    /// What was asked beside that.
    pub metrics: Vec<(String, f64)>,
}

impl ActionSink for Judgement {
    fn push(&mut self, action: Action) -> Result<Pushed> {
        match action {
            Action::Accept => self.rejected = None,
            Action::Reject(reason) => self.rejected = Some(cut(reason)),
            Action::Metric { key, value } if value.is_finite() => self.metrics.push((key, value)),
            other => {
                return Err(Error::new(format!(
                    "an edit is being judged; {other:?} has to wait for the next step"
                )));
            }
        }
        Ok(Pushed::Taken)
    }
}
