//! How deep the stack is and how much of it trains, over an arm's first run: sapwood over heartwood.

use super::escaped;
use crate::evidence::phases::PhaseSpan;

/// Of a row, in the units of its view box; it is stretched to the page's width.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 48.0;

/// A row for each arm; nothing where no arm is known to have phases.
pub(super) fn render(arms: &[(String, Vec<PhaseSpan>)]) -> String {
    let deepest = arms.iter().flat_map(|(_, spans)| spans).map(|span| span.depth).max().unwrap_or(0);
    if deepest == 0 {
        return String::new();
    }
    let rows: String = arms.iter().map(|(arm, spans)| row(arm, spans, deepest)).collect();
    let blocks = if deepest == 1 { "one block".to_owned() } else { format!("{deepest} blocks") };
    format!(
        "<section class=\"timeline\"><h2>Depth, and what of it trains</h2><p class=\"note\">From the first step of each arm's first run \
         to its last; full height is {blocks}. <i class=\"key trains\"></i>trains, <i class=\"key frozen\"></i>frozen. \
         Hold the pointer over a phase for its name.</p>{rows}</section>\n"
    )
}

fn row(arm: &str, spans: &[PhaseSpan], deepest: usize) -> String {
    let steps = spans.last().map_or(1, |span| span.end_step).max(1) as f64;
    let phases: String = spans.iter().map(|span| phase(span, steps, deepest as f64)).collect();
    format!(
        "<div class=\"phases\"><code>{}</code><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"Phases of {}\">{phases}</svg></div>",
        escaped(arm),
        escaped(arm),
    )
}

fn phase(span: &PhaseSpan, steps: f64, deepest: f64) -> String {
    let (x, end) = (WIDTH * span.first_step as f64 / steps, WIDTH * span.end_step as f64 / steps);
    let height = |blocks: usize| HEIGHT * blocks as f64 / deepest;
    let (all, trains) = (height(span.depth), height(span.trainable_blocks));
    let rectangle = |class: &str, from: f64, tall: f64| {
        format!(
            "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{tall:.2}\"/>",
            HEIGHT - from - tall,
            end - x
        )
    };
    let PhaseSpan { label, first_step, end_step, depth, trainable_blocks } = span;
    format!(
        "<g><title>{}: steps {first_step} to {end_step}, {trainable_blocks} of {depth} blocks train</title>{}{}</g>",
        escaped(label),
        rectangle("frozen", 0.0, all - trains),
        rectangle("trains", all - trains, trains),
    )
}
