//! A report in plain text: aligned tables and wrapped paragraphs of at most 110 columns.

use super::sections::{Content, sections};
use crate::Judgement;

const COLUMNS: usize = 110;
const GAP: &str = "  ";
/// An arm's name is not cut to less.
const SHORTEST_NAME: usize = 8;

pub(super) fn render(judgement: &Judgement) -> String {
    let seeds: Vec<String> = judgement.seeds.iter().map(u64::to_string).collect();
    let title =
        format!("Study {}, baseline {}, seeds {}", judgement.study, judgement.baseline, seeds.join(" "));
    let mut lines = wrap(&title, "", "");
    for section in sections(judgement) {
        lines.push(String::new());
        lines.push(section.title.to_uppercase());
        if !section.note.is_empty() {
            lines.extend(wrap(section.note, "", ""));
        }
        match section.content {
            Content::Text(paragraphs) => lines.extend(paragraphs.iter().flat_map(|text| wrap(text, "", ""))),
            Content::List(items) => lines.extend(items.iter().flat_map(|text| wrap(text, "- ", "  "))),
            Content::Table { header, rows } => lines.extend(table(&header, rows)),
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// What several studies came to, an arm a line.
pub(super) fn side_by_side(judgements: &[Judgement]) -> String {
    let mut lines = vec!["STUDIES SIDE BY SIDE".to_owned()];
    let note = "Final validation loss in nats per token, arm minus its own study's baseline; cost of that baseline's final loss. What \
                two studies share is for their files to tell: losses on other data are no rivals.";
    lines.extend(wrap(note, "", ""));
    let Content::Table { header, rows } = super::side_by_side::table(judgements) else {
        return String::new();
    };
    lines.extend(table(&header, rows));
    lines.push(String::new());
    lines.join("\n")
}

/// Columns as wide as their widest cell; names in the first one give way where that is too much.
fn table(header: &[&str], mut rows: Vec<Vec<String>>) -> Vec<String> {
    let width = |column: usize, rows: &[Vec<String>]| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(header[column].chars().count())
    };
    let others: usize = (1..header.len()).map(|column| GAP.len() + width(column, &rows)).sum();
    let room = COLUMNS.saturating_sub(others).max(SHORTEST_NAME);
    for row in &mut rows {
        row[0] = elide(&row[0], room);
    }
    let widths: Vec<usize> = (0..header.len()).map(|column| width(column, &rows)).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    let mut lines = vec![line(header.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines
}

/// Cuts the middle out of a long name: names of a sweep differ at their ends.
fn elide(name: &str, room: usize) -> String {
    let characters: Vec<char> = name.chars().collect();
    if characters.len() <= room {
        return name.into();
    }
    let end = (room - 1) / 2;
    let start = room - 1 - end;
    let (head, tail) = (&characters[..start], &characters[characters.len() - end..]);
    head.iter().chain(['…'].iter()).chain(tail).collect()
}

/// Breaks at spaces, and within a word only where it is longer than a line.
fn wrap(text: &str, first_indent: &str, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = first_indent.to_owned();
    let mut is_fresh = true;
    for word in text.split_whitespace().flat_map(|word| pieces(word, COLUMNS - indent.len())) {
        if !is_fresh && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(&word);
        is_fresh = false;
    }
    lines.push(line);
    lines
}

fn pieces(word: &str, longest: usize) -> Vec<String> {
    let characters: Vec<char> = word.chars().collect();
    characters.chunks(longest).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_way_before_numbers() {
        let name = "grow-".repeat(30) + "end";
        let rows = vec![vec![name, "1".repeat(60)], vec!["short".into(), "2".into()]];
        let lines = table(&["arm", "number"], rows);
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:#?}");
        assert!(lines[1].contains('…') && lines[1].contains(&"1".repeat(60)), "{lines:#?}");
        assert_eq!(elide("abcdefghij", 8), "abcd…hij");
    }

    #[test]
    fn lines_break_at_spaces_and_long_words_within() {
        let text = format!("{} {}", "word ".repeat(40), "x".repeat(300));
        let lines = wrap(&text, "- ", "  ");
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:#?}");
        assert!(lines[0].starts_with("- word") && lines[1].starts_with("  word"), "{lines:#?}");
        assert_eq!(lines.concat().matches('x').count(), 300);
    }
}
