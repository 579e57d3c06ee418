//! Putting suites to the run's model: when, and where the answers go. What a suite asks is its questions' business; how the
//! model is trained is not touched by it.

use std::sync::atomic::Ordering;

use engine::{LayerIndex, ModelShape, Part};
use plugin_host::api::RunEvent;

use super::Run;
use crate::costs::timed;
use crate::folder::records::SuiteRecord;
use crate::hugging_face::{Tensors, fold_gates};
use crate::{PlainModel, SuiteConfig, SuiteResult, TrainError};

/// Whether what was asked was answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// All of it.
    Wholly,
    /// None of it: the run is to save and stop, and all is asked when it goes on.
    NotYet,
}

impl Run<'_> {
    /// Suites that are due before the coming step, by their places: at those of the regular evaluations that are theirs, and
    /// at the end of the token budget, by which runs are compared.
    pub(super) fn suites_due(&self) -> Vec<usize> {
        let (step, config) = (self.state.step, self.parts.config);
        let at_token_budget = config.is_token_budget(self.state.costs.tokens);
        let every_steps = config.evaluation.every_steps;
        self.unasked(|suite| at_token_budget || suite.is_due(step, every_steps))
    }

    /// All suites, as they are due when the run has come to its end.
    pub(super) fn suites_at_end(&self) -> Vec<usize> {
        self.unasked(|_| true)
    }

    fn unasked(&self, is_due: impl Fn(&SuiteConfig) -> bool) -> Vec<usize> {
        let asked_before = |name: &str| self.state.suites_asked.get(name) == Some(&self.state.step);
        let suites = self.parts.suites.iter().map(|suite| &suite.config).enumerate();
        suites.filter(|(_, suite)| is_due(suite) && !asked_before(&suite.name)).map(|(at, _)| at).collect()
    }

    /// Puts these suites to the model. Their lines come together: whoever goes on from a checkpoint asks all of them or none.
    pub(super) fn ask_suites(&mut self, due: &[usize]) -> Result<Answered, TrainError> {
        if due.is_empty() {
            return Ok(Answered::Wholly);
        }
        let Some(results) = self.answers(due)? else { return Ok(Answered::NotYet) };
        let (step, costs, course) = (self.state.step, &self.state.costs, &self.state.course);
        for (&index, result) in due.iter().zip(results) {
            let suite = &self.parts.suites[index].config.name;
            for (name, number) in &result.numbers {
                let Some(value) = number.value else { continue };
                let (run, key) = (self.name.clone(), format!("{suite}/{name}"));
                (self.parts.report)(RunEvent::Metric { run, step: step.0, key, value });
            }
            let record = SuiteRecord {
                step,
                tokens: costs.tokens,
                flops: costs.flops.total(),
                suite: suite.clone(),
                result,
                depth: course.depth(),
                phase: course.phase.clone(),
            };
            if let Some(log) = &mut self.logs.suites {
                log.add(&record)?;
            }
            self.state.suites_asked.insert(suite.clone(), step);
        }
        Ok(Answered::Wholly)
    }

    fn answers(&mut self, due: &[usize]) -> Result<Option<Vec<SuiteResult>>, TrainError> {
        if let Some(results) = self.asked_ahead(due)? {
            return Ok(Some(results));
        }
        let mut results = Vec::new();
        for &index in due {
            if self.parts.interrupt.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let mut seconds = 0.0;
            let answer = timed(&mut seconds, || {
                self.parts.suites[index].questions.put_to(self.plain_model()?, self.parts.interrupt)
            });
            self.state.costs.wall.suite_seconds += seconds;
            let Some(result) = answer? else { return Ok(None) };
            results.push(result);
        }
        Ok(Some(results))
    }

    /// What a checkpoint of this moment would hold.
    fn plain_model(&self) -> Result<PlainModel, TrainError> {
        let (engine, course) = (&*self.parts.engine, &self.state.course);
        let shape = ModelShape { layers: course.depth(), ..self.shape() };
        let layers = course.layers();
        let mut tensors = Tensors::new();
        for (tensor, _) in shape.tensors(&layers) {
            let position = layers.iter().position(|layer| Some(*layer) == tensor.layer).map(LayerIndex);
            tensors.insert(tensor.hugging_face_name(position), engine.read(tensor, Part::Weights)?);
        }
        fold_gates(&shape, &mut tensors, course);
        Ok(PlainModel { shape, tensors })
    }
}
