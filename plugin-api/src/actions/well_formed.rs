//! What is wrong with a request whatever the run: the host's rules and the test bench's begin with these.

use super::{
    Action, Batch, Gate, Insert, OptimizerChange, OptimizerRule, Pass, Probe, RateFactor, Replace,
    ScheduleChange, ScheduleShape, Which,
};
use crate::{Error, LayerId, Result};

/// Longest label, key or reason, in bytes.
const LONGEST_TEXT: usize = 128;
/// Longest name of a checkpoint, in bytes: it becomes a file's name.
const LONGEST_FILE_NAME: usize = 64;
/// Most passes through blocks in one step.
const MOST_PASSES: usize = 4096;
/// Most candidates of a probe, and most steps of each.
const MOST_CANDIDATES: usize = 64;
const MOST_PROBE_STEPS: u64 = 100_000;
/// Largest step counter of a tensor: it is counted on from there.
const MOST_UPDATES: u64 = 1 << 53;
/// Most that a rate is multiplied by.
const LARGEST_FACTOR: f64 = 1e6;

impl Action {
    /// Whether the request makes sense in itself; what it asks of the run's stack is not looked at.
    ///
    /// # Errors
    /// The reason for which every host refuses it.
    pub fn check_well_formed(&self) -> Result<()> {
        match self {
            Action::Insert(insert) => check_insert(insert),
            Action::Remove(layers) => check_removed_once(layers),
            Action::Optimizer(rule) => check_rule(rule),
            Action::Schedule(change) => check_schedule(change),
            Action::Checkpoint(name) => check_file_name(name),
            Action::Stop(reason) => check_text("a reason", reason),
            Action::Phase(label) => check_text("a phase's label", label),
            Action::Metric { key, value } => {
                check_text("a metric's key", key)?;
                if value.is_finite() { Ok(()) } else { refuse(format!("the metric `{key}` is {value}")) }
            }
            Action::Replace(replace) => check_replace(replace),
            Action::Execute(passes) => check_passes(passes),
            Action::Train(_) | Action::Evaluate | Action::Accept | Action::Reject(_) => Ok(()),
            Action::ExecuteWholeStack => Ok(()),
            Action::Permute(layers) => check_permuted(layers),
            Action::Gate(gates) => gates.iter().try_for_each(check_gate),
            Action::Rates(factors) => factors.iter().try_for_each(check_factor),
            Action::Batch(Batch { sequences, length }) => {
                let empty = *sequences == 0 || *length == 0;
                if empty {
                    refuse(format!("a step of {sequences} sequences of {length} tokens"))
                } else {
                    Ok(())
                }
            }
            Action::Probe(probe) => check_probe(probe),
            Action::Widen(widen) if widen.widths.has_zero() => {
                refuse(format!("a model with {}", widen.widths))
            }
            Action::Widen(_) => Ok(()),
        }
    }
}

fn refuse(reason: impl Into<String>) -> Result<()> {
    Err(Error::new(reason.into()))
}

fn check_insert(insert: &Insert) -> Result<()> {
    let (count, sources) = (insert.count, insert.sources.len());
    if count == 0 {
        return refuse("0 blocks are to be inserted");
    }
    if sources != 0 && sources != count {
        return refuse(format!("{sources} sources are named for {count} new blocks"));
    }
    Ok(())
}

fn check_removed_once(layers: &[LayerId]) -> Result<()> {
    match named_twice(layers) {
        Some(layer) => refuse(format!("block {layer} is to be removed twice")),
        None => Ok(()),
    }
}

fn named_twice(layers: &[LayerId]) -> Option<LayerId> {
    layers.iter().enumerate().find(|(index, layer)| layers[..*index].contains(layer)).map(|(_, &layer)| layer)
}

fn check_replace(replace: &Replace) -> Result<()> {
    let (count, sources) = (replace.layers.len(), replace.sources.len());
    if count == 0 {
        return refuse("0 blocks are to be replaced");
    }
    if let Some(layer) = named_twice(&replace.layers) {
        return refuse(format!("block {layer} is to be replaced twice"));
    }
    if sources != 0 && sources != count {
        return refuse(format!("{sources} sources are named for {count} blocks to replace"));
    }
    Ok(())
}

fn check_passes(passes: &[Pass]) -> Result<()> {
    if passes.len() > MOST_PASSES {
        return refuse(format!(
            "{} passes through blocks in a step; the host takes {MOST_PASSES}",
            passes.len()
        ));
    }
    for Pass { layer, attention_gate, mlp_gate, .. } in passes {
        if let Some(gate) = [attention_gate, mlp_gate].into_iter().find(|gate| !gate.is_finite()) {
            return refuse(format!("a gate of block {layer} is {gate}"));
        }
    }
    Ok(())
}

fn check_permuted(layers: &[LayerId]) -> Result<()> {
    match named_twice(layers) {
        Some(layer) => refuse(format!("block {layer} cannot stand in two places")),
        None => Ok(()),
    }
}

fn check_gate(Gate { layer, attention, mlp }: &Gate) -> Result<()> {
    match [attention, mlp].into_iter().find(|gate| !gate.is_finite()) {
        Some(gate) => refuse(format!("a gate of block {layer} is {gate}")),
        None => Ok(()),
    }
}

fn check_factor(RateFactor { which, factor }: &RateFactor) -> Result<()> {
    if (0.0..=LARGEST_FACTOR).contains(factor) {
        return Ok(());
    }
    refuse(format!("the rate of {which:?} cannot be multiplied by {factor}"))
}

fn check_probe(Probe { candidates, steps }: &Probe) -> Result<()> {
    if candidates.is_empty() || candidates.len() > MOST_CANDIDATES {
        let count = candidates.len();
        return refuse(format!(
            "{count} candidates are to be tried out; the host takes 1 to {MOST_CANDIDATES}"
        ));
    }
    if *steps == 0 || *steps > MOST_PROBE_STEPS {
        return refuse(format!("a probe of {steps} steps; the host takes 1 to {MOST_PROBE_STEPS}"));
    }
    for action in candidates.iter().flatten() {
        if !action.can_be_tried() {
            return refuse(format!("{action:?} cannot be part of a candidate"));
        }
        action.check_well_formed()?;
    }
    Ok(())
}

fn check_rule(rule: &OptimizerRule) -> Result<()> {
    match rule.change {
        OptimizerChange::Scale { first, second }
            if !first.is_finite() || !second.is_finite() || second < 0.0 =>
        {
            refuse(format!("moments cannot be scaled by {first} and {second}"))
        }
        OptimizerChange::SetUpdates(updates) if updates > MOST_UPDATES => {
            refuse(format!("a step counter cannot be set to {updates}"))
        }
        OptimizerChange::CopyFrom(_) if !matches!(rule.which, Which::Layers(_)) => {
            refuse("moments are copied from a block to blocks alone")
        }
        _ => Ok(()),
    }
}

fn check_schedule(change: &ScheduleChange) -> Result<()> {
    let good = match *change {
        ScheduleChange::Shift(share) => share.is_finite() && share.abs() <= 1.0,
        ScheduleChange::Rewarm(steps) => steps > 0,
        ScheduleChange::Restart => true,
        ScheduleChange::Extend(factor) => factor > 0.0 && factor <= 1e6,
        ScheduleChange::DecayNow(share) => share > 0.0 && share <= 1.0,
        ScheduleChange::Scale(factor) => factor > 0.0 && factor <= LARGEST_FACTOR,
        ScheduleChange::Follow(shape) => is_good_shape(shape),
    };
    if good { Ok(()) } else { refuse(format!("the schedule cannot be changed by {change:?}")) }
}

fn is_good_shape(shape: ScheduleShape) -> bool {
    let share = |share: f64| (0.0..=1.0).contains(&share);
    match shape {
        ScheduleShape::Constant => true,
        ScheduleShape::Linear { final_fraction } | ScheduleShape::Cosine { final_fraction } => {
            share(final_fraction)
        }
        ScheduleShape::Wsd { final_fraction, decay_fraction } => {
            share(final_fraction) && share(decay_fraction)
        }
    }
}

fn check_text(what: &str, text: &str) -> Result<()> {
    if text.len() > LONGEST_TEXT {
        return refuse(format!("{what} has {} bytes; the host takes {LONGEST_TEXT}", text.len()));
    }
    Ok(())
}

fn check_file_name(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > LONGEST_FILE_NAME || !name.bytes().all(good) {
        return refuse(format!("`{name}` cannot name a checkpoint: letters, digits, - and _ can"));
    }
    Ok(())
}
