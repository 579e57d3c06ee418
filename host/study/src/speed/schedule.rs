//! A whole incremental schedule in wall time, with all that a user waits for on the way: stages of as many blocks each, in each of
//! which first the new blocks train with what all share (phase 1), then all do (phase 2). Not here: a single step's rate.

use std::time::Instant;

use engine::{Engine, LayerId, Model, ModelShape, Moments, StepPlan, TensorId, Trainable};
use plugin_host::api::{Key, Random};
use serde::{Deserialize, Serialize};
use trainer::{InitialModel, TrainError};

use super::{Workload, gibibytes, one_step, random_batch};

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Stages; each brings as many blocks.
    pub stages: usize,
    /// Steps of all phases together, as many in each.
    pub steps: usize,
    /// Steps of all blocks behind them, with AdamW's state at zero.
    pub continual: usize,
}

/// What came of it; a peer's script prints a line of JSON with the same keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSpeed {
    /// The engine.
    pub engine: String,
    /// Its device in words.
    pub device: String,
    /// Of the whole model; its `steps` are the schedule's.
    #[serde(flatten)]
    pub workload: Workload,
    /// Stages.
    pub stages: usize,
    /// Steps behind the last stage.
    pub continual: usize,
    /// From before the engine was built to after the last update.
    pub seconds: f64,
    /// Tokens of all steps.
    pub tokens: u64,
    /// Seconds in which blocks were drawn and inserted, the first ones among them.
    pub growth_seconds: f64,
    /// Most memory of the device; `None` where that is the host's.
    pub peak_memory_gib: Option<f64>,
    /// Phase by phase.
    pub phases: Vec<PhaseSpeed>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseSpeed {
    /// Which.
    pub phase: String,
    /// Its steps.
    pub steps: usize,
    /// Their time.
    pub seconds: f64,
    /// The longest step: the first, where a phase makes something anew.
    pub slowest_step: f64,
    /// Of the last step, in nats per token.
    pub loss: f64,
}

/// Runs a schedule on an engine that `build` builds, in the thread pool that this is called in.
///
/// # Errors
/// A shape that describes no model, blocks that do not come to whole stages, fewer steps than phases, or a failing engine.
pub fn measure_schedule(
    workload: &Workload,
    schedule: &Schedule,
    build: impl FnOnce(&ModelShape) -> Result<Box<dyn Engine>, engine::EngineError>,
) -> Result<ScheduleSpeed, TrainError> {
    let (shape, stages) = (workload.shape()?, schedule.stages);
    let refused =
        |message: String, hint: &str| trainer::ConfigError::new("--stages", message, hint.to_owned());
    if stages == 0 || !shape.layers.is_multiple_of(stages) {
        let said = format!("{} blocks do not come to {stages} stages of as many each", shape.layers);
        return Err(refused(said, "choose --layers that is a multiple of --stages").into());
    }
    let steps = schedule.steps / (2 * stages);
    if steps == 0 {
        let said = format!("{} steps leave none for each of {} phases", schedule.steps, 2 * stages);
        return Err(refused(said, "raise --steps").into());
    }
    let begun = Instant::now();
    let mut run = Run {
        engine: build(&shape)?,
        workload: Workload { steps: schedule.steps, ..workload.clone() },
        initial: InitialModel::of_seed(&shape, 0),
        random: Random::new(Key::of_seed(0)),
        growth_seconds: 0.0,
        phases: Vec::new(),
        shape,
    };
    let of_a_stage = run.shape.layers / stages;
    for stage in 0..stages {
        run.grow(stage * of_a_stage, (stage + 1) * of_a_stage)?;
        let all = Trainable::all(&run.shape, &run.engine.layers());
        let is_new = |layer: LayerId| layer.0 as usize >= stage * of_a_stage;
        let newest = all.iter().filter(|id| id.layer.is_none_or(is_new)).collect();
        run.phase(format!("stage {} phase 1", stage + 1), newest, steps)?;
        run.phase(format!("stage {} phase 2", stage + 1), all, steps)?;
    }
    if schedule.continual > 0 {
        let all = Trainable::all(&run.shape, &run.engine.layers());
        run.forget_moments(&all)?;
        run.phase("continual".into(), all, schedule.continual)?;
    }
    Ok(run.end(begun.elapsed().as_secs_f64(), schedule))
}

struct Run {
    engine: Box<dyn Engine>,
    workload: Workload,
    shape: ModelShape,
    initial: InitialModel,
    random: Random,
    growth_seconds: f64,
    phases: Vec<PhaseSpeed>,
}

impl Run {
    fn grow(&mut self, from: usize, to: usize) -> Result<(), TrainError> {
        let begun = Instant::now();
        let (engine, widths) = (&mut *self.engine as &mut dyn Model, self.shape.widths());
        match from {
            0 => self.initial.fill_in(engine, to, widths)?,
            from => self.initial.stack(engine, from..to, widths)?,
        }
        self.growth_seconds += begun.elapsed().as_secs_f64();
        Ok(())
    }

    fn phase(&mut self, phase: String, scope: Trainable, steps: usize) -> Result<(), TrainError> {
        let plan = StepPlan::new(scope, self.workload.batch);
        let (mut seconds, mut slowest_step, mut loss) = (0.0, 0.0f64, f64::NAN);
        for _ in 0..steps {
            let begun = Instant::now();
            let batch = random_batch(&self.workload, &mut self.random);
            loss = one_step(&mut *self.engine, &batch, &plan)?;
            let step = begun.elapsed().as_secs_f64();
            seconds += step;
            slowest_step = slowest_step.max(step);
        }
        self.phases.push(PhaseSpeed { phase, steps, seconds, slowest_step, loss });
        Ok(())
    }

    fn forget_moments(&mut self, of: &Trainable) -> Result<(), TrainError> {
        let all = self.shape.tensors(&self.engine.layers());
        let held: Vec<(TensorId, usize)> =
            all.into_iter().filter(|(id, _)| of.contains(*id)).map(|(id, spec)| (id, spec.len())).collect();
        held.into_iter().try_for_each(|(id, len)| self.engine.set_moments(id, &Moments::zero(len)))?;
        Ok(())
    }

    fn end(self, seconds: f64, schedule: &Schedule) -> ScheduleSpeed {
        let info = self.engine.info();
        let steps: usize = self.phases.iter().map(|phase| phase.steps).sum();
        ScheduleSpeed {
            engine: info.engine.into(),
            device: info.device,
            stages: schedule.stages,
            continual: schedule.continual,
            seconds,
            tokens: (steps * self.workload.batch * self.workload.seq) as u64,
            growth_seconds: self.growth_seconds,
            peak_memory_gib: info.device_memory_peak_bytes.map(gibibytes),
            workload: self.workload,
            phases: self.phases,
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::{ScriptedEngine, Weights};

    use super::*;

    fn tiny(layers: usize) -> Workload {
        let (dmodel, heads, vocab, seq, batch) = (8, 2, 11, 8, 2);
        let (frozen, freeze_embeddings, steps) = (0, false, 0);
        Workload { layers, dmodel, heads, vocab, seq, batch, frozen, freeze_embeddings, steps }
    }

    fn run(layers: usize, schedule: &Schedule) -> Result<ScheduleSpeed, TrainError> {
        measure_schedule(&tiny(layers), schedule, |shape| {
            Ok(Box::new(ScriptedEngine::new(shape, Weights::Kept)))
        })
    }

    #[test]
    fn every_stage_has_two_phases_of_as_many_steps() {
        let schedule = Schedule { stages: 2, steps: 13, continual: 4 };
        let told = run(4, &schedule).expect("a good schedule");
        let phases: Vec<(&str, usize)> =
            told.phases.iter().map(|phase| (phase.phase.as_str(), phase.steps)).collect();
        let stages = ["stage 1 phase 1", "stage 1 phase 2", "stage 2 phase 1", "stage 2 phase 2"];
        let expected: Vec<(&str, usize)> =
            stages.map(|phase| (phase, 3)).into_iter().chain([("continual", 4)]).collect();
        assert_eq!(phases, expected);
        assert_eq!(told.tokens, (4 * 3 + 4) * 2 * 8);
        let within: f64 = told.phases.iter().map(|phase| phase.seconds).sum();
        assert!(told.seconds >= within + told.growth_seconds && told.growth_seconds > 0.0, "{told:?}");
        assert!(
            told.phases.iter().all(|phase| phase.loss.is_finite() && phase.slowest_step <= phase.seconds)
        );
    }

    #[test]
    fn what_comes_to_no_whole_stages_or_steps_is_refused() {
        let said = |layers, stages, steps| {
            let schedule = Schedule { stages, steps, continual: 0 };
            run(layers, &schedule).expect_err("it is refused").to_string()
        };
        assert!(said(4, 3, 40).contains("4 blocks do not come to 3 stages"), "{}", said(4, 3, 40));
        assert!(said(4, 0, 40).contains("0 stages"), "{}", said(4, 0, 40));
        assert!(said(4, 2, 3).contains("3 steps leave none for each of 4 phases"), "{}", said(4, 2, 3));
    }
}
