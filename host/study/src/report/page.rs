//! `report.html`: one file that needs no network. On its first screen stands what was asked, what came out and how sure that is;
//! below, curves that can be pointed at, and all that the other reports have.
//!
//! Axes and ticks are plotters' (a kept crate that writes SVG; a page of JavaScript's libraries would be larger than all the rest).
//! Each arm is a layer of its own on one plot, so that it can be put out and lit by a class; a short script points.
//!
//! A picture is a file like `timeline.rs`, called in [`Page::render`]; its looks are in `page/style.css`, axes in `page/chart.rs`. What it
//! shows and neither the judgement nor the curves have is a field of [`Page`], which `report/folder.rs` fills from the runs' folders.
//! Tables are no pictures: `report/sections.rs` makes them for the terminal and Markdown, too. Tests: `page/tests.rs`; in a browser
//! `tests/page.rs` of the workspace.

mod chart;
mod colour;
mod first_screen;
mod lines;
mod loss;
mod loss_svg;
#[cfg(test)]
mod tests;
mod timeline;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::sections::{Content, Section, sections};
use crate::evidence::phases::PhaseSpan;
use crate::{Judgement, RunCurve};

/// What a page is made of.
pub(crate) struct Page<'a> {
    pub(crate) judgement: &'a Judgement,
    /// Every run that finished.
    pub(crate) curves: &'a [RunCurve],
    /// What each arm's first run was doing when.
    pub(crate) phases: Vec<(String, Vec<PhaseSpan>)>,
    /// The study's file.
    pub(crate) configuration: &'a str,
    /// Each arm's first run's `run.json`, by the run's name.
    pub(crate) provenance: Vec<(String, String)>,
}

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

impl Page<'_> {
    /// The whole file.
    pub(crate) fn render(&self) -> String {
        let judgement = self.judgement;
        let lines = lines::of(judgement, self.curves);
        let title = format!("{} - sapwood", escaped(&judgement.study));
        let (first, plots) = (first_screen::render(judgement), loss::all(&lines));
        let timeline = timeline::render(&self.phases);
        let tables: String = sections(judgement).iter().map(section).collect();
        // Within a script no `<` may begin anything.
        let data = loss::data(&lines).replace('<', "\\u003c");
        let (configuration, provenance) = (escaped(self.configuration), self.provenance());
        let script = format!("\n{SCRIPT}");
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{first}{plots}{timeline}{tables}\
             <section><h2>Configuration</h2><details><summary>study.toml</summary><pre>{configuration}</pre></details></section>\n\
             {provenance}</main>\n<script type=\"application/json\" id=\"data\">{data}</script>\n\
             <script>{script}</script>\n</body>\n</html>\n",
            policy(&script)
        )
    }

    /// Loss against exact FLOPs by itself, for a paper or a slide.
    pub(crate) fn loss_svg(&self) -> String {
        loss_svg::render(&lines::of(self.judgement, self.curves))
    }

    fn provenance(&self) -> String {
        let run = |(name, text): &(String, String)| {
            format!("<details><summary>{}</summary><pre>{}</pre></details>", escaped(name), escaped(text))
        };
        let runs: String = self.provenance.iter().map(run).collect();
        format!(
            "<section><h2>Provenance</h2><p class=\"note\">What each arm's first run is made of, and what made it: its \
             run.json.</p>{runs}</section>\n"
        )
    }
}

/// What a browser may do with the page: run this one script, and ask the network for nothing, whatever names and texts are in it.
fn policy(script: &str) -> String {
    let hash = STANDARD.encode(Sha256::digest(script));
    format!("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'")
}

fn section(section: &Section) -> String {
    let content = match &section.content {
        Content::Text(paragraphs) => {
            paragraphs.iter().map(|text| format!("<p>{}</p>", escaped(text))).collect()
        }
        Content::List(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>", escaped(item))).collect();
            format!("<ul>{items}</ul>")
        }
        Content::Table { header, rows } => table(header, rows),
    };
    let note = if section.note.is_empty() {
        String::new()
    } else {
        format!("<p class=\"note\">{}</p>", escaped(section.note))
    };
    format!("<section><h2>{}</h2>{note}{content}</section>\n", escaped(section.title))
}

fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |cells: &mut dyn Iterator<Item = &str>, tag: &str| -> String {
        cells.map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect()
    };
    let head = cells(&mut header.iter().copied(), "th");
    let row = |row: &Vec<String>| format!("<tr>{}</tr>", cells(&mut row.iter().map(String::as_str), "td"));
    let body: String = rows.iter().map(row).collect();
    format!("<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")
}

/// Names, reasons and files come from elsewhere: none of them is markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(letter),
        }
    }
    safe
}
