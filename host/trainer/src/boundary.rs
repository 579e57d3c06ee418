//! The moment before a step at which a strategy may ask for something: the sink that its requests go to.

use engine::Step;
use plugin_host::api::{Action, ActionSink, Error, Pushed, Result};

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
    step: Step,
    progress: f64,
}

impl<'a> Boundary<'a> {
    /// Before that step.
    pub(crate) fn new(course: &Course, rules: &'a Rules, step: Step, progress: f64) -> Boundary<'a> {
        Boundary { course: course.clone(), taken: Vec::new(), refused: Vec::new(), rules, step, progress }
    }
}

impl ActionSink for Boundary<'_> {
    fn push(&mut self, action: Action) -> Result<Pushed> {
        let answer = if self.taken.len() + self.refused.len() >= MOST_REQUESTS {
            Err(Error::new(format!("more than {MOST_REQUESTS} requests before one step")))
        } else {
            self.course.decide(&action, self.rules, self.step, self.progress)
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
