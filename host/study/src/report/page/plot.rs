//! Loss against what was paid: axes by plotters, one layer an arm.

use plotters::prelude::*;
use serde_json::json;

use super::escaped;
use super::lines::{Line, LinePoint};

/// Of a plot, in the units of its view box.
const SIZE: (u32, u32) = (960, 460);
/// What colours stand for until the page's style says which they are: words, grid, and an arm's own.
const WORDS: RGBColor = RGBColor(1, 2, 3);
const GRID: RGBColor = RGBColor(1, 2, 4);
const OWN: RGBColor = RGBColor(1, 2, 5);
/// How much of the range before which losses are left out: there all lines fall together.
const STEEP_PART: f64 = 0.04;

/// What is paid.
#[derive(Clone, Copy)]
struct Axis {
    id: &'static str,
    words: &'static str,
    of: fn(&LinePoint) -> f64,
}

const TOKENS: Axis = Axis { id: "tokens", words: "tokens", of: |point| point.tokens };
const FLOPS: Axis = Axis { id: "flops", words: "exact FLOPs", of: |point| point.flops };
const SECONDS: Axis = Axis { id: "seconds", words: "seconds of training", of: |point| point.seconds };
const SECONDS_SIDE_BY_SIDE: Axis =
    Axis { words: "seconds of training, runs side by side: not comparable", ..SECONDS };
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
    let choice = |(number, axis): (usize, &Axis)| {
        let checked = if number == 1 { " checked" } else { "" };
        let words = axis.words.split(',').next().unwrap_or(axis.words);
        format!("<label><input type=\"radio\" name=\"axis\" value=\"{}\"{checked}> {words}</label>", axis.id)
    };
    let axes = axes(lines);
    let choices: String = axes.iter().enumerate().map(choice).collect();
    let arm = |(number, line): (usize, &Line)| {
        format!(
            "<label style=\"{}\"><input type=\"checkbox\" data-arm=\"{number}\" checked> <i class=\"key\"></i>{}</label>",
            colour(number, line),
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

/// Between the hues of two arms: steps of it keep any number of them apart.
const GOLDEN_ANGLE: f64 = 137.508;

/// Each arm's own hue; the baseline has that of words.
fn colour(number: usize, line: &Line) -> String {
    let hue = (number as f64 * GOLDEN_ANGLE) % 360.0;
    if line.is_baseline { "--c:var(--words)".into() } else { format!("--c:hsl({hue:.0} 62% var(--light))") }
}

struct Ranges {
    x: f64,
    y: [f64; 2],
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
        format!("<g class=\"{class}\" data-arm=\"{number}\" style=\"{}\">{content}</g>", colour(number, line))
    });
    let (id, (width, height), [low, high]) = (axis.id, SIZE, ranges.y);
    format!(
        "<figure class=\"plot\" id=\"plot-{id}\"{} data-axis=\"{id}\"><svg viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"Validation loss against {}\" data-area=\"{left} {top} {right} {bottom}\" data-x=\"{:e}\" data-y=\"{low} {high}\">\
         {inside}<line class=\"pointer\" x1=\"0\" x2=\"0\" y1=\"{top}\" y2=\"{bottom}\"/></svg>\
         <figcaption>Nats per token against {}.</figcaption></figure>",
        if id == "flops" { "" } else { " hidden" },
        axis.words,
        ranges.x,
        axis.words,
    )
}

/// Frame and layers of a plot, each layer in what `dress` puts around it, and the measures that it was drawn by.
fn drawn(
    lines: &[Line],
    axis: &Axis,
    dress: &dyn Fn(String, usize, &Line) -> String,
) -> (String, Ranges, [i32; 4]) {
    let ranges = ranges(lines, axis);
    let (frame, area) = layer(&ranges, true, Vec::new());
    let [left, top, right, bottom] = area;
    let layers = lines.iter().enumerate().map(|(number, line)| {
        let (content, _) = layer(&ranges, false, shapes(line, axis, ranges.y[1]));
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

/// Height of a name in the figure's key.
const KEY: u32 = 20;

/// The plot against exact FLOPs as a file of its own: its colours by day, a key below it.
pub(super) fn figure(lines: &[Line]) -> String {
    let own = |number: usize, line: &Line| {
        let hue = (number as f64 * GOLDEN_ANGLE) % 360.0;
        let (r, g, b) = HSLColor(hue / 360.0, 0.62, 0.4).to_backend_color().rgb;
        if line.is_baseline { "#1d2328".to_owned() } else { format!("#{r:02x}{g:02x}{b:02x}") }
    };
    let (width, height) = SIZE;
    let tall = height + KEY * (1 + lines.len() as u32);
    let inside = match lines.is_empty() {
        true => String::new(),
        false => {
            drawn(lines, &FLOPS, &|content, number, line| content.replace("var(--c)", &own(number, line))).0
        }
    };
    let key = |(number, line): (usize, &Line)| {
        let y = height + KEY * (1 + number as u32);
        format!(
            "<rect x=\"70\" y=\"{}\" width=\"18\" height=\"4\" fill=\"{}\"/><text x=\"96\" y=\"{y}\" font-family=\"sans-serif\" \
             font-size=\"14\" fill=\"#1d2328\">{}</text>",
            y - 7,
            own(number, line),
            escaped(&line.arm)
        )
    };
    let keys: String = lines.iter().enumerate().map(key).collect();
    let inside = inside.replace("var(--words)", "#1d2328").replace("var(--grid)", "#dde2e6");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {tall}\">\n<title>Validation loss in nats per token \
         against exact FLOPs</title><rect width=\"{width}\" height=\"{tall}\" fill=\"#ffffff\"/>{inside}{keys}</svg>\n"
    )
}

/// One layer of a plot, with axes on one of them, and the area between them in pixels. All layers have the same measures.
fn layer(ranges: &Ranges, has_axes: bool, shapes: Vec<Shape>) -> (String, [i32; 4]) {
    let mut svg = String::new();
    let area = {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        // Drawing into a text does not fail.
        let [low, high] = ranges.y;
        let built = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(30)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..ranges.x, low..high);
        let Ok(mut chart) = built else { return (String::new(), [0; 4]) };
        if has_axes {
            let font = ("sans-serif", 14).into_font().color(&WORDS);
            let _ = chart
                .configure_mesh()
                .x_labels(6)
                .y_labels(6)
                .axis_style(WORDS)
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .label_style(font)
                .x_label_formatter(&|x| short(*x))
                .y_label_formatter(&|y| format!("{y:.3}"))
                .draw();
        }
        for shape in shapes {
            let _ = match shape {
                Shape::Band(corners) => {
                    chart.draw_series([Polygon::new(corners, OWN.mix(0.14).filled())]).map(|_| ())
                }
                Shape::Line(points) => {
                    chart.draw_series([PathElement::new(points, OWN.stroke_width(2))]).map(|_| ())
                }
                Shape::Dot(place) => chart.draw_series([Circle::new(place, 5, OWN.filled())]).map(|_| ()),
            };
        }
        let (x, y) = chart.plotting_area().get_pixel_range();
        let _ = root.present();
        [x.start, y.start, x.end, y.end]
    };
    (recoloured(&svg), area)
}

enum Shape {
    Band(Vec<(f64, f64)>),
    Line(Vec<(f64, f64)>),
    Dot((f64, f64)),
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

/// The inside of plotters' file, its colours those that the page's style names.
fn recoloured(svg: &str) -> String {
    let inside = svg.find('>').map_or("", |end| &svg[end + 1..]);
    let inside = inside.trim_end().strip_suffix("</svg>").unwrap_or(inside);
    let names = [("#010203", "var(--words)"), ("#010204", "var(--grid)"), ("#010205", "var(--c)")];
    names.iter().fold(inside.replace('\n', ""), |text, (colour, name)| text.replace(colour, name))
}

/// `1.5 M`, `2.1e15`.
fn short(number: f64) -> String {
    match number {
        0.0 => "0".into(),
        n if n >= 1e13 => format!("{n:.1e}"),
        n if n >= 1e9 => format!("{} G", trimmed(n / 1e9)),
        n if n >= 1e6 => format!("{} M", trimmed(n / 1e6)),
        n if n >= 1e3 => format!("{} k", trimmed(n / 1e3)),
        n => trimmed(n),
    }
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// What the script points at: for each arm its points as what was paid by each axis, loss, lowest, highest.
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
    let names: Vec<&str> = axes.iter().map(|axis| axis.id).collect();
    json!({ "axes": names, "arms": lines.iter().map(arm).collect::<Vec<_>>() }).to_string()
}
