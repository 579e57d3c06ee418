//! What batches that are kept for it show of a model before and after it is edited: losses, logits, activations, gradients.

use engine::{
    Engine, LayerId, ModelShape, Part, Recompute, StepPlan, TensorId, TokenBatch, Trainable, Wait, Wanted,
};

use crate::TrainError;
use crate::course::Course;

/// Tokens after which logits are compared: with a large vocabulary each has many.
const LOGIT_TOKENS: usize = 32;

/// What the batches show of a model.
#[derive(Default)]
pub(crate) struct Seen {
    /// The loss of every token.
    pub losses: Vec<f32>,
    /// The logits after the first tokens.
    pub logits: Vec<f32>,
    /// RMS of what each block leaves in the residual stream; empty where the engine does not tell.
    pub activation_rms: Vec<(LayerId, f64)>,
}

/// Looks at the model of a course; changes nothing of it.
///
/// # Errors
/// What the engine answers.
pub(crate) fn seen(
    engine: &mut dyn Engine,
    batches: &[TokenBatch],
    course: &Course,
) -> Result<Seen, TrainError> {
    let execution = course.execution_of_model();
    let mut losses = Vec::new();
    for batch in batches {
        losses.extend(engine.evaluate(batch, &execution)?);
    }
    let inputs = batches.iter().take(1).flat_map(|batch| batch.inputs(0, 1));
    let first: Vec<u32> = inputs.take(LOGIT_TOKENS).collect();
    let logits = engine.logits(&first, &execution)?;
    Ok(Seen { losses, logits, activation_rms: activation_rms(engine, batches, course)? })
}

/// By a step in which nothing trains.
fn activation_rms(
    engine: &mut dyn Engine,
    batches: &[TokenBatch],
    course: &Course,
) -> Result<Vec<(LayerId, f64)>, TrainError> {
    let Some(batch) = batches.first().filter(|_| !engine.info().plain_steps_only) else {
        return Ok(Vec::new());
    };
    let statistics = Wanted { blocks: true, ..Wanted::default() };
    engine.step(batch, &StepPlan { statistics, ..plan_of(course, Trainable::default(), batch) })?;
    engine.optimize(&engine::AdamW::NOTHING)?;
    let mut measured = None;
    while let Some(outcome) = engine.outcome(Wait::ForAll)? {
        measured = outcome.statistics;
    }
    let blocks = measured.map(|statistics| statistics.blocks).unwrap_or_default();
    Ok(blocks.iter().map(|block| (block.layer, block.activation_rms)).collect())
}

/// Of these blocks' tensors, those that train on that course and whose gradient is zero throughout. Keeps no more in memory
/// than a step of the run, which recomputes as much.
///
/// # Errors
/// What the engine answers.
pub(crate) fn without_gradient(
    engine: &mut dyn Engine,
    shape: &ModelShape,
    batches: &[TokenBatch],
    course: &Course,
    layers: &[LayerId],
    recompute: Recompute,
) -> Result<Vec<TensorId>, TrainError> {
    let Some(batch) = batches.first().filter(|_| !layers.is_empty()) else { return Ok(Vec::new()) };
    let plan = StepPlan { recompute, ..plan_of(course, course.trainable.clone(), batch) };
    // It is never optimized: the next step takes its place.
    engine.step(batch, &plan)?;
    let trained = plan.trained(shape, &course.layers());
    let mut found = Vec::new();
    for (tensor, _) in shape.tensors(layers) {
        if tensor.layer.is_some()
            && trained.contains(tensor)
            && engine.read(tensor, Part::Gradient)?.iter().all(|&gradient| gradient == 0.0)
        {
            found.push(tensor);
        }
    }
    Ok(found)
}

fn plan_of(course: &Course, trainable: Trainable, batch: &TokenBatch) -> StepPlan {
    let execution = course.execution_of_model();
    StepPlan { execution, ..StepPlan::new(trainable, batch.sequences()) }
}
