//! `loss.svg`: the plot against exact FLOPs as a file of its own, for a paper or a slide: its colours by day, a key below it.

use super::chart::SIZE;
use super::colour::{GRID_BY_DAY, WORDS_BY_DAY, by_day};
use super::escaped;
use super::lines::Line;
use super::loss::{SHOWN_FIRST, drawn};

/// Height of a name in the key.
const KEY: u32 = 20;

pub(super) fn render(lines: &[Line]) -> String {
    let (width, height) = SIZE;
    let tall = height + KEY * (1 + lines.len() as u32);
    let inside = match lines.is_empty() {
        true => String::new(),
        false => {
            let dress = |content: String, number: usize, line: &Line| {
                content.replace("var(--c)", &by_day(number, line))
            };
            drawn(lines, &SHOWN_FIRST, &dress).0
        }
    };
    let inside = inside.replace("var(--words)", WORDS_BY_DAY).replace("var(--grid)", GRID_BY_DAY);
    let keys: String = lines.iter().enumerate().map(|(number, line)| key(number, line)).collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {tall}\">\n<title>Validation loss in nats per token \
         against exact FLOPs</title><rect width=\"{width}\" height=\"{tall}\" fill=\"#ffffff\"/>{inside}{keys}</svg>\n"
    )
}

fn key(number: usize, line: &Line) -> String {
    let y = SIZE.1 + KEY * (1 + number as u32);
    format!(
        "<rect x=\"70\" y=\"{}\" width=\"18\" height=\"4\" fill=\"{}\"/><text x=\"96\" y=\"{y}\" font-family=\"sans-serif\" \
         font-size=\"14\" fill=\"{WORDS_BY_DAY}\">{}</text>",
        y - 7,
        by_day(number, line),
        escaped(&line.arm)
    )
}
