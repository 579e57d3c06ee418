//! Loss against what was paid: a plot for each axis, one layer an arm, and what the page's script points at.

use serde_json::json;

use super::chart::{Ranges, SIZE, Shape, frame, layer};
use super::colour::by_style;
use super::escaped;
use super::lines::{Line, LinePoint};

/// How much of the range before which losses are left out: there all lines fall together.
const STEEP_PART: f64 = 0.04;

/// What is paid.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    id: &'static str,
    words: &'static str,
    of: fn(&LinePoint) -> f64,
}

const TOKENS: Axis = Axis { id: "tokens", words: "tokens", of: |point| point.tokens };
const FLOPS: Axis = Axis { id: "flops", words: "exact FLOPs", of: |point| point.flops };
const SECONDS: Axis = Axis { id: "seconds", words: "seconds of training", of: |point| point.seconds };
const SECONDS_SIDE_BY_SIDE: Axis =
    Axis { words: "seconds of training, runs side by side: not comparable", ..SECONDS };
/// Of which a reader sees the plot before choosing one.
pub(super) const SHOWN_FIRST: Axis = FLOPS;
const JOULES: Axis = Axis { id: "joules", words: "joules of the machine", of: |point| point.joules };

/// What was measured of all of these.
fn axes(lines: &[Line]) -> Vec<Axis> {
    let alone = lines.iter().all(|line| line.alone);
    let mut points = lines.iter().flat_map(|line| &line.points);
    let joules = alone && points.all(|point| point.joules.is_finite());
    let mut axes = vec![TOKENS, FLOPS, if alone { SECONDS } else { SECONDS_SIDE_BY_SIDE }];
    axes.extend(joules.then_some(JOULES));
    axes
}

/// All plots, of which one is shown, with what chooses axes and arms.
pub(super) fn all(lines: &[Line]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let choice = |axis: &Axis| {
        let checked = if axis.id == SHOWN_FIRST.id { " checked" } else { "" };
        let words = axis.words.split(',').next().unwrap_or(axis.words);
        format!("<label><input type=\"radio\" name=\"axis\" value=\"{}\"{checked}> {words}</label>", axis.id)
    };
    let axes = axes(lines);
    let choices: String = axes.iter().map(choice).collect();
    let arm = |(number, line): (usize, &Line)| {
        format!(
            "<label style=\"{}\"><input type=\"checkbox\" data-arm=\"{number}\" checked> <i class=\"key\"></i>{}</label>",
            by_style(number, line),
            escaped(&line.arm)
        )
    };
    let arms: String = lines.iter().enumerate().map(arm).collect();
    let plots: String = axes.iter().map(|axis| plot(lines, axis)).collect();
    let joules = if axes.iter().any(|axis| axis.id == "joules") { "" } else { " Joules were not measured." };
    format!(
        "<section class=\"plots\"><h2>Validation loss</h2><p class=\"note\">Mean over seeds, between the lowest and the highest; a dot \
         is where an arm grew.{joules}</p><div class=\"choices\"><fieldset><legend>against</legend>{choices}</fieldset>\
         <fieldset class=\"arms\"><legend>arms</legend>{arms}</fieldset></div>{plots}<div class=\"tip\" hidden></div></section>\n"
    )
}

fn ranges(lines: &[Line], axis: &Axis) -> Ranges {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = points().map(axis.of).fold(0.0, f64::max).max(1e-9);
    let low = points().map(|point| point.low).fold(f64::INFINITY, f64::min);
    let after = points().filter(|point| (axis.of)(point) >= STEEP_PART * x).map(|point| point.high);
    let high = after.fold(low, f64::max);
    let room = ((high - low) * 0.04).max(1e-6);
    Ranges { x, y: [low - room, high + room] }
}

fn plot(lines: &[Line], axis: &Axis) -> String {
    let (inside, ranges, [left, top, right, bottom]) = drawn(lines, axis, &|content, number, line| {
        let class = if line.is_baseline { "line whole" } else { "line" };
        format!(
            "<g class=\"{class}\" data-arm=\"{number}\" style=\"{}\">{content}</g>",
            by_style(number, line)
        )
    });
    let (id, (width, height), [low, high]) = (axis.id, SIZE, ranges.y);
    format!(
        "<figure class=\"plot\" id=\"plot-{id}\"{} data-axis=\"{id}\"><svg viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"Validation loss against {}\" data-area=\"{left} {top} {right} {bottom}\" data-x=\"{:e}\" data-y=\"{low} {high}\">\
         {inside}<line class=\"pointer\" x1=\"0\" x2=\"0\" y1=\"{top}\" y2=\"{bottom}\"/></svg>\
         <figcaption>Nats per token against {}.</figcaption></figure>",
        if id == SHOWN_FIRST.id { "" } else { " hidden" },
        axis.words,
        ranges.x,
        axis.words,
    )
}

/// Frame and layers of a plot, each layer in what `dress` puts around it, and the measures that it was drawn by.
pub(super) fn drawn(
    lines: &[Line],
    axis: &Axis,
    dress: &dyn Fn(String, usize, &Line) -> String,
) -> (String, Ranges, [i32; 4]) {
    let ranges = ranges(lines, axis);
    let (frame, area) = frame(&ranges);
    let [left, top, right, bottom] = area;
    let layers = lines.iter().enumerate().map(|(number, line)| {
        let (content, _) = layer(&ranges, shapes(line, axis, ranges.y[1]));
        dress(content, number, line)
    });
    let (id, layers) = (axis.id, layers.collect::<String>());
    let inside = format!(
        "<clipPath id=\"clip-{id}\"><rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\"/></clipPath>{frame}\
         <g clip-path=\"url(#clip-{id})\">{layers}</g>",
        right - left,
        bottom - top,
    );
    (inside, ranges, area)
}

fn shapes(line: &Line, axis: &Axis, top: f64) -> Vec<Shape> {
    let along = |of: fn(&LinePoint) -> f64| {
        below(line.points.iter().map(|point| ((axis.of)(point), of(point))).collect(), top)
    };
    let mut shapes = Vec::new();
    if line.points.iter().any(|point| point.high > point.low) {
        let (upper, lower) = (along(|point| point.high), along(|point| point.low));
        shapes.push(Shape::Band(upper.into_iter().chain(lower.into_iter().rev()).collect()));
    }
    shapes.push(Shape::Line(along(|point| point.loss)));
    let marks = line.marks.iter().filter(|mark| mark.loss <= top);
    shapes.extend(marks.map(|mark| Shape::Dot(((axis.of)(mark), mark.loss))));
    shapes
}

/// The line from where it comes down from above the plot; plotters would lay what is above on its upper edge.
fn below(points: Vec<(f64, f64)>, top: f64) -> Vec<(f64, f64)> {
    let Some(first) = points.iter().position(|(_, loss)| *loss <= top) else { return Vec::new() };
    let entry = first.checked_sub(1).map(|before| {
        let ((x0, y0), (x1, y1)) = (points[before], points[first]);
        (x0 + (x1 - x0) * (y0 - top) / (y0 - y1), top)
    });
    entry.into_iter().chain(points[first..].iter().copied()).collect()
}

/// What the script points at: for each arm its points as what was paid by each axis, then the mean loss, the
/// lowest and the highest; `columns` names them.
pub(super) fn data(lines: &[Line]) -> String {
    let axes = axes(lines);
    let digits =
        |number: f64, digits: usize| -> f64 { format!("{number:.digits$e}").parse().unwrap_or(number) };
    let point = |point: &LinePoint| {
        let paid = axes.iter().map(|axis| (axis.of)(point));
        paid.chain([point.loss, point.low, point.high]).map(|number| digits(number, 5)).collect::<Vec<f64>>()
    };
    let arm = |line: &Line| {
        let points: Vec<Vec<f64>> = line.points.iter().map(point).collect();
        json!({ "arm": line.arm, "points": points })
    };
    let columns: Vec<&str> = axes.iter().map(|axis| axis.id).chain(["loss", "low", "high"]).collect();
    json!({ "columns": columns, "arms": lines.iter().map(arm).collect::<Vec<_>>() }).to_string()
}
