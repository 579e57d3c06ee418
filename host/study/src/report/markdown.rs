//! `report.md`: the same parts as in the terminal, as Markdown.

use super::sections::{Content, sections};
use crate::Judgement;

pub(super) fn render(judgement: &Judgement) -> String {
    let seeds: Vec<String> = judgement.seeds.iter().map(u64::to_string).collect();
    let mut text = format!(
        "# Study {}\n\nBaseline: `{}`. Seeds: {}.\n",
        escaped(&judgement.study),
        judgement.baseline,
        seeds.join(", ")
    );
    for section in sections(judgement) {
        text.push_str(&format!("\n## {}\n\n", section.title));
        if !section.note.is_empty() {
            text.push_str(&format!("{}\n\n", section.note));
        }
        match section.content {
            Content::Text(paragraphs) => text.push_str(&format!("{}\n", paragraphs.join("\n\n"))),
            Content::List(items) => {
                text.extend(items.iter().map(|item| format!("- {}\n", escaped(item))));
            }
            Content::Table { header, rows } => {
                text.push_str(&row(header.iter().map(|cell| (*cell).to_owned())));
                text.push_str(&row(header.iter().map(|_| "---".to_owned())));
                text.extend(rows.iter().map(|cells| row(cells.iter().map(|cell| escaped(cell)))));
            }
        }
    }
    text
}

fn row(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// Reasons and names come from elsewhere: they must not break a table, nor become HTML.
fn escaped(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.replace('|', "\\|").replace('<', "&lt;")
}
