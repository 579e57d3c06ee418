//! Parity: recorded training runs of another implementation, replayed by ordinary training through the
//! plugins, and compared step by step. The format is that of `tests/golden/torch_reference`.
//!
//! The run's configuration says what is done; model shape, weights and batches come from the folder.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};
use trainer::TrainError;
use trainer::folder::RunFolder;
use trainer::folder::records::{Decision, EvaluationRecord, StepRecord};
use trainer::storage::{read_json, read_json_lines};

use crate::StudyError;
use crate::source::Source;

/// `expected.json`.
#[derive(Debug, Deserialize)]
pub struct Expected {
    /// By the run's name.
    pub runs: std::collections::BTreeMap<String, ExpectedRun>,
}

/// One recorded run.
#[derive(Debug, Deserialize)]
pub struct ExpectedRun {
    steps: Vec<ExpectedStep>,
    growth: Vec<ExpectedGrowth>,
    phases: Vec<ExpectedPhase>,
    eval_loss_start: f64,
    eval_loss_end: f64,
}

#[derive(Debug, Deserialize)]
struct ExpectedStep {
    step: u64,
    n_layer: usize,
    lr: f64,
    loss: f64,
    grad_norm: f64,
}

#[derive(Debug, Deserialize)]
struct ExpectedGrowth {
    after_steps: u64,
    from_layers: usize,
    to_layers: usize,
    eval_loss_before: f64,
    eval_loss_after: f64,
}

#[derive(Debug, Deserialize)]
struct ExpectedPhase {
    first_step: u64,
    n_steps: u64,
    eval_loss_end: f64,
    trainable_tensors: usize,
    end_params: HashMap<String, ExpectedTensor>,
}

#[derive(Debug, Deserialize)]
struct ExpectedTensor {
    mean: f64,
    l2: f64,
    first4: Vec<f64>,
}

#[derive(Debug, Deserialize)]
struct HuggingFaceConfig {
    vocab_size: i64,
    n_positions: i64,
    n_embd: i64,
    n_layer: i64,
    n_head: i64,
    layer_norm_epsilon: f64,
    initializer_range: f64,
    activation_function: String,
    tie_word_embeddings: bool,
}

/// How far two runs may differ, as the reference's README suggests for f32 on a CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Of a loss, in nats.
    pub loss: f64,
    /// Of a gradient norm, relative.
    pub gradient_norm: f64,
    /// Of a tensor's mean.
    pub mean: f64,
    /// Of a tensor's L2 norm, relative.
    pub l2: f64,
    /// Of a single element.
    pub element: f64,
}

impl Tolerances {
    /// The README's, by the run's name: b and e start AdamW anew in the middle of training, where an
    /// element's first update is its rate times the sign of a gradient that may be rounding noise.
    pub fn of_run(name: &str) -> Tolerances {
        let fresh = name == "b" || name == "e";
        Tolerances {
            loss: 5e-6,
            gradient_norm: 1e-5,
            mean: 1e-5,
            l2: if fresh { 5e-4 } else { 1e-5 },
            element: if fresh { 1e-3 } else { 2e-5 },
        }
    }
}

/// One quantity of a run: its worst deviation and what is allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Deviation {
    /// What was compared.
    pub what: String,
    /// How many values.
    pub compared: usize,
    /// The largest deviation.
    pub worst: f64,
    /// Where it is.
    pub place: String,
    /// The largest that is allowed.
    pub tolerance: f64,
}

impl Deviation {
    /// Nothing compared yet.
    pub fn new(what: impl Into<String>, tolerance: f64) -> Deviation {
        Deviation { what: what.into(), compared: 0, worst: 0.0, place: String::new(), tolerance }
    }

    /// One more value.
    pub fn compare(&mut self, deviation: f64, place: impl FnOnce() -> String) {
        self.compared += 1;
        // What is not a number is as far off as can be.
        let deviation = if deviation.is_finite() { deviation } else { f64::INFINITY };
        if deviation > self.worst || self.compared == 1 {
            self.worst = deviation;
            self.place = place();
        }
    }

    /// Whether it is allowed, and there was anything to compare.
    pub fn is_within(&self) -> bool {
        self.compared > 0 && self.worst <= self.tolerance
    }
}

/// Reads what was recorded.
///
/// # Errors
/// A file that is missing or not in the format.
pub fn expected(reference: &Path) -> Result<Expected, StudyError> {
    Ok(read_json(&reference.join("expected.json"))?)
}

/// Gives a run's configuration the model shape, weights and batches of the reference.
///
/// # Errors
/// A file that is missing or not in the format.
pub fn point_at(source: &mut Source, reference: &Path) -> Result<(), StudyError> {
    let path = reference.join("config.json");
    let config: HuggingFaceConfig = read_json(&path)?;
    if config.activation_function != "gelu_new" || !config.tie_word_embeddings {
        let reason = "describes another block than GPT-2's (tanh GELU, tied head)".into();
        return Err(TrainError::Damaged { path, reason }.into());
    }
    let mut block = Table::new();
    for (key, value) in [("norm", "layer-norm"), ("position", "learned"), ("mlp", "gelu-tanh")] {
        block.insert(key.into(), Value::String(value.into()));
    }
    block.insert("biases".into(), Value::Boolean(true));
    block.insert("tied_head".into(), Value::Boolean(true));
    let mut model = Table::new();
    let counts = [
        ("layers", config.n_layer),
        ("width", config.n_embd),
        ("heads", config.n_head),
        ("context", config.n_positions),
        ("vocabulary", config.vocab_size),
    ];
    model.extend(counts.map(|(key, value)| (key.to_owned(), Value::Integer(value))));
    model.insert("init_std".into(), Value::Float(config.initializer_range));
    model.insert("norm_epsilon".into(), Value::Float(config.layer_norm_epsilon));
    model.insert("block".into(), Value::Table(block));
    source.put("model", Value::Table(model));

    let absolute = std::path::absolute(reference).map_err(|source| TrainError::Storage {
        action: "find",
        path: reference.to_path_buf(),
        source,
    })?;
    let folder = Value::String(absolute.display().to_string());
    source.put_below("data", "folder", folder.clone());
    source.put_below("initial_model", "from", folder);
    let sequences = data::recorded_sequences_per_step(reference).map_err(TrainError::from)?;
    let sequences = i64::try_from(sequences).unwrap_or(i64::MAX);
    source.put_below("training", "sequences_per_step", Value::Integer(sequences));
    Ok(())
}

/// Compares a finished run with what was recorded.
///
/// # Errors
/// A file of the run that cannot be read.
pub fn compare(
    run: &RunFolder,
    expected: &ExpectedRun,
    allowed: Tolerances,
) -> Result<Vec<Deviation>, StudyError> {
    let steps: Vec<StepRecord> = read_json_lines(&run.metrics_file())?;
    let evaluations: Vec<EvaluationRecord> = read_json_lines(&run.evaluations_file())?;
    let decisions: Vec<Decision> = read_json_lines(&run.decisions_file())?;
    let mut deviations = compare_steps(&steps, &expected.steps, allowed);
    deviations.push(compare_evaluations(&evaluations, expected, allowed));
    deviations.extend(compare_growth(&decisions, &expected.growth, allowed));
    deviations.push(compare_scopes(&decisions, &expected.phases));
    deviations.extend(compare_tensors(run, &expected.phases, allowed)?);
    Ok(deviations)
}

fn compare_steps(steps: &[StepRecord], expected: &[ExpectedStep], allowed: Tolerances) -> Vec<Deviation> {
    let mut count = Deviation::new("steps", 0.0);
    count.compare(steps.len().abs_diff(expected.len()) as f64, || {
        format!("{} of {}", steps.len(), expected.len())
    });
    let mut depth = Deviation::new("depth", 0.0);
    let mut rate = Deviation::new("learning rate, relative", 1e-12);
    let mut loss = Deviation::new("loss", allowed.loss);
    let mut norm = Deviation::new("gradient norm, relative", allowed.gradient_norm);
    for (ours, theirs) in steps.iter().zip(expected) {
        let place = || format!("step {}", theirs.step);
        depth.compare(ours.depth.abs_diff(theirs.n_layer) as f64, place);
        rate.compare((ours.learning_rate / theirs.lr - 1.0).abs(), place);
        loss.compare((ours.loss_nats_per_token - theirs.loss).abs(), place);
        norm.compare((ours.gradient_norm / theirs.grad_norm - 1.0).abs(), place);
    }
    vec![count, depth, rate, loss, norm]
}

fn compare_evaluations(ours: &[EvaluationRecord], expected: &ExpectedRun, allowed: Tolerances) -> Deviation {
    let mut deviation = Deviation::new("held-out loss", allowed.loss);
    let last = expected.steps.len() as u64;
    let ends = expected.phases.iter().map(|phase| (phase.first_step + phase.n_steps, phase.eval_loss_end));
    for (step, theirs) in ends.chain([(0, expected.eval_loss_start), (last, expected.eval_loss_end)]) {
        let found = ours.iter().find(|record| record.step.0 == step);
        let difference = found.map_or(f64::INFINITY, |record| (record.loss_nats_per_token - theirs).abs());
        deviation.compare(difference, || format!("before step {step}"));
    }
    deviation
}

fn compare_growth(
    decisions: &[Decision],
    expected: &[ExpectedGrowth],
    allowed: Tolerances,
) -> Vec<Deviation> {
    let receipts: Vec<_> = decisions
        .iter()
        .filter_map(|decision| match decision {
            Decision::Edited(receipt) => Some(receipt),
            _ => None,
        })
        .collect();
    let mut growths = Deviation::new("growths", 0.0);
    growths.compare(receipts.len().abs_diff(expected.len()) as f64, || {
        format!("{} of {}", receipts.len(), expected.len())
    });
    let mut losses = Deviation::new("loss around growth", allowed.loss);
    for (ours, theirs) in receipts.iter().zip(expected) {
        let place = || format!("before step {}", theirs.after_steps);
        let same = ours.step == theirs.after_steps
            && ours.depth_before == theirs.from_layers
            && ours.depth_after == theirs.to_layers;
        growths.compare(f64::from(!same), place);
        losses.compare((ours.loss_before - theirs.eval_loss_before).abs(), place);
        losses.compare((ours.loss_after - theirs.eval_loss_after).abs(), place);
    }
    if expected.is_empty() { vec![growths] } else { vec![growths, losses] }
}

fn compare_scopes(decisions: &[Decision], expected: &[ExpectedPhase]) -> Deviation {
    let mut deviation = Deviation::new("trainable tensors", 0.0);
    for phase in expected {
        let found = decisions.iter().find_map(|decision| match decision {
            Decision::PhaseStarted { step, trainable, .. } if step.0 == phase.first_step => {
                Some(trainable.len())
            }
            _ => None,
        });
        let difference = found.map_or(f64::INFINITY, |found| found.abs_diff(phase.trainable_tensors) as f64);
        deviation.compare(difference, || format!("phase from step {}", phase.first_step));
    }
    deviation
}

fn compare_tensors(
    run: &RunFolder,
    expected: &[ExpectedPhase],
    allowed: Tolerances,
) -> Result<Vec<Deviation>, StudyError> {
    let mut mean = Deviation::new("tensors' means", allowed.mean);
    let mut l2 = Deviation::new("tensors' L2 norms, relative", allowed.l2);
    let mut element = Deviation::new("tensors' first elements", allowed.element);
    for phase in expected {
        let end = phase.first_step + phase.n_steps;
        let checkpoint = run.checkpoints().join(format!("{end:08}-phase-end"));
        let tensors = trainer::checkpoint::weights(&checkpoint)?;
        for (name, theirs) in &phase.end_params {
            let place = || format!("{name} before step {end}");
            let Some(ours) = part_of(&tensors, name) else {
                mean.compare(f64::INFINITY, place);
                continue;
            };
            let sum: f64 = ours.iter().map(|&value| f64::from(value)).sum();
            let squares: f64 = ours.iter().map(|&value| f64::from(value).powi(2)).sum();
            // Of a small tensor's mean, one element that is as far off as an element may be has a larger share.
            let share = (allowed.element / ours.len() as f64 / allowed.mean).max(1.0);
            mean.compare((sum / ours.len() as f64 - theirs.mean).abs() / share, place);
            // The gradient of the keys' bias is zero in theory; AdamW magnifies its rounding noise.
            if name.ends_with("[k]") {
                element.compare((squares.sqrt() - theirs.l2).abs(), place);
            } else {
                let off = (squares.sqrt() - theirs.l2).abs() / l2_scale(theirs.l2, ours.len(), allowed);
                l2.compare(off, place);
            }
            for (ours, theirs) in ours.iter().zip(&theirs.first4) {
                element.compare((f64::from(*ours) - theirs).abs(), place);
            }
        }
    }
    Ok(vec![mean, l2, element])
}

/// A tensor, or with `[q]`, `[k]`, `[v]` a third of it.
fn part_of<'a>(tensors: &'a HashMap<String, Vec<f32>>, name: &str) -> Option<&'a [f32]> {
    let (whole, part) = match name.split_once('[') {
        Some((whole, part)) => (whole, Some(part)),
        None => (name, None),
    };
    let values = tensors.get(whole)?;
    let third = values.len() / 3;
    Some(match part {
        None => values,
        Some("q]") => &values[..third],
        Some("k]") => &values[third..2 * third],
        Some("v]") => &values[2 * third..],
        Some(_) => return None,
    })
}

/// What a deviation of an L2 norm of `n` elements is relative to: the norm, but no less than where one element
/// that is as far off as an element may be would break the norm's tolerance. Small tensors with small values (a
/// bias of 64) lie below it; after a fresh AdamW, whose first update is the sign of a gradient that may be rounding
/// noise, they do so on one processor and not on another.
fn l2_scale(norm: f64, n: usize, allowed: Tolerances) -> f64 {
    norm.max(allowed.element / allowed.l2 / (n as f64).sqrt())
}
