//! What a run will hold in memory, phase by phase, and the micro-batch that fits below a limit.
//!
//! Not here: what the engine holds, which it tells itself.

use std::path::Path;

use engine::{Engine, StepMemory, StepPlan, Trainable};
use serde::{Deserialize, Serialize};
use trainer::folder::runs_below;
use trainer::{ConfigError, RehearsedPhase, RunConfig, Writing};

/// Most sequences in one forward and backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number of sequences, or \"auto\"")]
pub enum MicroBatch {
    /// So many.
    Sequences(usize),
    /// As many as fit below the memory limit, the same for every run of the study.
    Auto(Auto),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auto {
    /// See [`MicroBatch::Auto`].
    Auto,
}

/// What a phase holds in memory, in bytes; the program itself and other runs in it come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PhaseMemory {
    /// What its steps hold.
    pub step: StepMemory,
    /// AdamW state of what trained before and is frozen now.
    pub resting: u64,
    /// The largest tensor read back with its AdamW state, as audits and checkpoints do.
    pub reading: u64,
    /// The copy of weights and AdamW states that a change at the phase's end may go back to, or that is written while training
    /// goes on, with the tensor that is being written; never both.
    pub copy: u64,
}

impl PhaseMemory {
    /// Of each phase of a run with so many sequences at once; `None` where the engine cannot tell.
    pub fn of_phases(
        engine: &dyn Engine,
        run: &RunConfig,
        phases: &[RehearsedPhase],
        micro_batch_sequences: usize,
    ) -> Option<Vec<PhaseMemory>> {
        let mut trained = Trainable::default();
        let of = |phase: &RehearsedPhase| {
            trained.extend(phase.trainable.iter());
            PhaseMemory::of(engine, run, phase, &trained, micro_batch_sequences)
        };
        phases.iter().map(of).collect()
    }

    /// `trained` is all that has trained by the end of the phase: what is frozen now keeps its AdamW state.
    fn of(
        engine: &dyn Engine,
        run: &RunConfig,
        phase: &RehearsedPhase,
        trained: &Trainable,
        micro_batch_sequences: usize,
    ) -> Option<PhaseMemory> {
        let recompute = run.training.recompute;
        let plan = StepPlan { recompute, ..StepPlan::new(phase.trainable.clone(), micro_batch_sequences) };
        let shape = run.model.with_widths(phase.widths);
        let of = |sequences| engine.memory(&shape, &phase.layers, &plan, sequences, run.model.context);
        let evaluated = run.evaluation.sequences.max(run.audit.probe_sequences);
        let evaluation = of(evaluated)?.evaluation;
        let step = StepMemory { evaluation, ..of(run.training.sequences_per_step)? };
        let (mut all, mut largest, mut resting) = (0, 0, 0);
        for (tensor, spec) in shape.tensors(&phase.layers) {
            let len = spec.len() as u64;
            (all, largest) = (all + len, len.max(largest));
            if trained.contains(tensor) && !phase.trainable.contains(tensor) {
                resting += 8 * len;
            }
        }
        // Three f32 of each element: weights and both moments.
        let (reading, of_model) = (12 * largest, 12 * all);
        let copy = match (saves_a_copy(run, phase), phase.ends_with_a_copy) {
            (true, _) => of_model + reading,
            (false, true) => of_model,
            (false, false) => 0,
        };
        Some(PhaseMemory { step, resting, reading, copy })
    }

    /// The most that is held at once: steps, and beside them an evaluation, a copy, or a tensor that is read.
    pub fn peak(&self) -> u64 {
        let beside = self.step.evaluation.max(self.reading).max(self.copy + self.step.evaluation);
        self.step.total() - self.step.evaluation + self.resting + beside
    }
}

/// Whether a checkpoint is written in that phase while training goes on.
fn saves_a_copy(run: &RunConfig, phase: &RehearsedPhase) -> bool {
    let (every, first) = (run.checkpoints.every_steps, phase.first_step.0.max(1));
    let next = first.next_multiple_of(every.max(1));
    run.checkpoints.write == Writing::Background && next < phase.first_step.0 + phase.steps
}

/// The micro-batch of the runs in a study's folder; `None` where none has begun. Which it is changes no run's mathematics but its
/// bits: what is begun goes on with what it has.
pub(crate) fn begun_with(study: &Path) -> Option<usize> {
    // One that cannot be read says so when its turn comes.
    let runs = runs_below(study).into_iter().filter_map(|run| run.bound_run().ok());
    runs.map(|run| run.config.training.micro_batch_sequences).next()
}

/// The most sequences at once with which no phase exceeds the limit; those that the study was begun with, if it was.
///
/// # Errors
/// Not even one fits, or not those that it was begun with, or the engine cannot tell.
pub(crate) fn fitting(
    engine: &dyn Engine,
    runs: &[(&RunConfig, &[RehearsedPhase])],
    limit_bytes: u64,
    begun_with: Option<usize>,
) -> Result<usize, ConfigError> {
    let key = "training.micro_batch_sequences";
    let most = runs.iter().map(|(run, _)| run.training.sequences_per_step).max().unwrap_or(1);
    let peak = |sequences: usize| -> Option<u64> {
        let mut most = 0;
        for (run, phases) in runs {
            let phases = PhaseMemory::of_phases(engine, run, phases, sequences)?;
            most = phases.iter().map(PhaseMemory::peak).fold(most, u64::max);
        }
        Some(most)
    };
    let unknown = || {
        let message =
            format!("the engine `{}` cannot tell how much memory a step takes", engine.info().engine);
        ConfigError::new(key, message, "give a number of sequences instead of \"auto\"")
    };
    if let Some(sequences) = begun_with {
        let needed = peak(sequences).ok_or_else(unknown)?;
        return if needed <= limit_bytes {
            Ok(sequences)
        } else {
            Err(too_little(sequences, needed, limit_bytes))
        };
    }
    let least = peak(1).ok_or_else(unknown)?;
    if least > limit_bytes {
        let (least, limit) = (mebibytes(least), mebibytes(limit_bytes));
        let message =
            format!("one sequence at a time takes {least:.0} MiB, more than the limit of {limit:.0} MiB");
        return Err(ConfigError::new(
            "training.memory_limit_mib",
            message,
            "raise the limit, or choose a smaller model",
        ));
    }
    // Memory grows with the sequences: halve the range until it is empty.
    let (mut fits, mut too_many) = (1, most + 1);
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        match peak(middle).ok_or_else(unknown)? {
            bytes if bytes <= limit_bytes => fits = middle,
            _ => too_many = middle,
        }
    }
    Ok(fits)
}

/// A study that was begun with more sequences at once than fit below the limit as it is now.
fn too_little(sequences: usize, needed: u64, limit_bytes: u64) -> ConfigError {
    let (needed, limit) = (mebibytes(needed).ceil(), mebibytes(limit_bytes));
    ConfigError::new(
        "training.memory_limit_mib",
        format!(
            "the study was begun with {sequences} sequences at once, which take {needed:.0} MiB, more than the limit of \
             {limit:.0} MiB"
        ),
        format!(
            "raise the limit to {needed:.0}, or choose another `--out` to begin anew: with another micro-batch the runs would \
             come to other bits"
        ),
    )
}

/// For people.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
