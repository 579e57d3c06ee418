//! Colours of arms and of charts: on the page by the names that its style gives them, in a file of its own by their values by day.

use plotters::prelude::*;

use super::lines::Line;

/// Words and grid by day, as `style.css` has them.
pub(super) const WORDS_BY_DAY: &str = "#1d2328";
pub(super) const GRID_BY_DAY: &str = "#dde2e6";

/// Between the hues of two arms: steps of it keep any number of them apart.
const GOLDEN_ANGLE: f64 = 137.508;
const SATURATION_PERCENT: u32 = 62;

fn hue(number: usize) -> f64 {
    (number as f64 * GOLDEN_ANGLE) % 360.0
}

/// Each arm's own hue, as a style; the baseline has that of words.
pub(super) fn by_style(number: usize, line: &Line) -> String {
    if line.is_baseline {
        return "--c:var(--words)".into();
    }
    format!("--c:hsl({:.0} {SATURATION_PERCENT}% var(--light))", hue(number))
}

/// The same by day.
pub(super) fn by_day(number: usize, line: &Line) -> String {
    if line.is_baseline {
        return WORDS_BY_DAY.into();
    }
    let colour = HSLColor(hue(number) / 360.0, f64::from(SATURATION_PERCENT) / 100.0, 0.4);
    let (r, g, b) = colour.to_backend_color().rgb;
    format!("#{r:02x}{g:02x}{b:02x}")
}
