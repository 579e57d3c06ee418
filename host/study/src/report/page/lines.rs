//! The curve of an arm: its runs' mean loss at each evaluation that all of them have, between their lowest and highest, and where
//! it grew.

use crate::evidence::curve::furthest_budget;
use crate::evidence::edits::MeanEdit;
use crate::{Judgement, RunCurve};

/// Most points of a line: more than a screen has columns for.
const MOST_POINTS: usize = 400;

/// A line on every plot.
pub(super) struct Line {
    pub(super) arm: String,
    pub(super) is_baseline: bool,
    /// Whether its runs were measured alone, so that its seconds and joules are its own.
    pub(super) alone: bool,
    pub(super) points: Vec<LinePoint>,
    /// Where it grew, between two points of the line.
    pub(super) marks: Vec<LinePoint>,
}

#[derive(Clone, Copy)]
pub(super) struct LinePoint {
    pub(super) step: f64,
    pub(super) tokens: f64,
    pub(super) flops: f64,
    pub(super) seconds: f64,
    /// Not a number where it was not measured.
    pub(super) joules: f64,
    pub(super) loss: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Of every arm with a finished run, the baseline first.
pub(super) fn of(judgement: &Judgement, curves: &[RunCurve]) -> Vec<Line> {
    let line = |(number, runs): (usize, &crate::ArmRuns)| {
        let of_arm = || curves.iter().filter(|curve| curve.arm == runs.arm);
        let budget = furthest_budget(of_arm())?;
        let curves: Vec<&RunCurve> = of_arm().filter(|curve| curve.budget == budget).collect();
        let points = mean(&curves);
        let edits = judgement.beside.of_arm(&runs.arm).into_iter().flat_map(|told| &told.edits);
        let marks = edits.filter_map(|edit| mark(&points, edit)).collect();
        let points = thinned(points);
        let (arm, is_baseline) = (runs.arm.clone(), number == 0);
        let alone = curves.iter().all(|curve| curve.alone);
        (!points.is_empty()).then_some(Line { arm, is_baseline, alone, points, marks })
    };
    judgement.runs.iter().enumerate().filter_map(line).collect()
}

fn mean(curves: &[&RunCurve]) -> Vec<LinePoint> {
    let Some((first, others)) = curves.split_first() else { return Vec::new() };
    let at = |point: &crate::EvaluationPoint| {
        let mut all = vec![point.clone()];
        for other in others {
            all.push(other.at_tokens(point.tokens)?.clone());
        }
        let losses = || all.iter().map(|point| point.loss_nats_per_token);
        if !losses().all(f64::is_finite) {
            return None;
        }
        let n = all.len() as f64;
        Some(LinePoint {
            step: point.step.0 as f64,
            tokens: point.tokens.0 as f64,
            flops: all.iter().map(|point| point.flops.as_f64()).sum::<f64>() / n,
            seconds: all.iter().map(|point| point.wall_seconds).sum::<f64>() / n,
            joules: all.iter().map(|point| point.joules.unwrap_or(f64::NAN)).sum::<f64>() / n,
            loss: losses().sum::<f64>() / n,
            low: losses().fold(f64::INFINITY, f64::min),
            high: losses().fold(f64::NEG_INFINITY, f64::max),
        })
    };
    first.points.iter().filter_map(at).collect()
}

/// The line right where it grew.
fn mark(points: &[LinePoint], edit: &MeanEdit) -> Option<LinePoint> {
    let after = points.iter().position(|point| point.step >= edit.step)?;
    let to = points[after];
    let from = points[after.saturating_sub(1)];
    let share = if to.step > from.step { (edit.step - from.step) / (to.step - from.step) } else { 0.0 };
    let between = |of: fn(&LinePoint) -> f64| of(&from) + share * (of(&to) - of(&from));
    Some(LinePoint {
        step: edit.step,
        tokens: between(|point| point.tokens),
        flops: between(|point| point.flops),
        seconds: between(|point| point.seconds),
        joules: between(|point| point.joules),
        loss: between(|point| point.loss),
        low: between(|point| point.low),
        high: between(|point| point.high),
    })
}

/// As many as can be seen, the first and the last among them.
fn thinned(points: Vec<LinePoint>) -> Vec<LinePoint> {
    let last = points.len().saturating_sub(1);
    if last < MOST_POINTS {
        return points;
    }
    (0..MOST_POINTS).map(|i| points[i * last / (MOST_POINTS - 1)]).collect()
}
