//! A chart as SVG: axes by plotters, whatever is drawn between them in layers, colours that the page's style names. What it shows is
//! said elsewhere.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// Of a plot, in the units of its view box.
pub(super) const SIZE: (u32, u32) = (960, 460);
/// What colours stand for until the page's style says which they are: words, grid, and an arm's own.
const WORDS: RGBColor = RGBColor(1, 2, 3);
const GRID: RGBColor = RGBColor(1, 2, 4);
const OWN: RGBColor = RGBColor(1, 2, 5);

/// What lies between a chart's axes: from nothing to the most along it, from the lowest to the highest up it.
pub(super) struct Ranges {
    pub(super) x: f64,
    pub(super) y: [f64; 2],
}

/// What is drawn in a layer, in the units of the axes.
pub(super) enum Shape {
    Band(Vec<(f64, f64)>),
    Line(Vec<(f64, f64)>),
    Dot((f64, f64)),
}

/// One layer of a chart, and the area between the axes in pixels. All layers have the same measures.
pub(super) fn layer(ranges: &Ranges, shapes: Vec<Shape>) -> (String, [i32; 4]) {
    drawn(ranges, |chart| {
        for shape in shapes {
            // Drawing into a text does not fail.
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
    })
}

/// The layer with axes, ticks and grid alone.
pub(super) fn frame(ranges: &Ranges) -> (String, [i32; 4]) {
    drawn(ranges, |chart| {
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
    })
}

/// A chart by plotters, into a text.
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn drawn(ranges: &Ranges, draw: impl FnOnce(&mut Chart<'_, '_>)) -> (String, [i32; 4]) {
    let mut svg = String::new();
    let area = {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let [low, high] = ranges.y;
        let built = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(30)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..ranges.x, low..high);
        let Ok(mut chart) = built else { return (String::new(), [0; 4]) };
        draw(&mut chart);
        let (x, y) = chart.plotting_area().get_pixel_range();
        let _ = root.present();
        [x.start, y.start, x.end, y.end]
    };
    (recoloured(&svg), area)
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
