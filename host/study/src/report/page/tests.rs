//! Is the page whole, safe whatever names say, and small whatever the study?

use super::Page;
use crate::evidence::phases::PhaseSpan;
use crate::verdict::made_up::{Study, curve, failed, of_all_kinds};
use crate::{EvaluationPoint, Judgement, RunCurve, RunStatus};

fn page(study: &Study, configuration: &str) -> String {
    let judgement = study.judged();
    page_of(study, &judgement, configuration).render()
}

fn page_of<'a>(study: &'a Study, judgement: &'a Judgement, configuration: &'a str) -> Page<'a> {
    let provenance = vec![("whole/main/seed-1".to_owned(), "{ \"arm\": \"<whole>\" }".to_owned())];
    let span = |label: &str, first_step, end_step, depth, trainable_blocks| {
        let label = label.to_owned();
        PhaseSpan { label, first_step, end_step, depth, trainable_blocks }
    };
    let grown = vec![span("stage1", 0, 60, 2, 2), span("<stage2>", 60, 100, 4, 2)];
    let phases =
        vec![("whole".to_owned(), vec![span("all", 0, 100, 4, 4)]), ("grow-early".to_owned(), grown)];
    Page { judgement, curves: &study.runs, phases, configuration, provenance }
}

#[test]
fn question_answer_and_sureness_stand_before_everything_else() {
    let page = page(&of_all_kinds(), "");
    let (first, rest) = page.split_once("<h2>").expect("sections");
    for words in [
        "Does any of 5 other ways of training end lower than <code>whole</code>, for equal compute?",
        "<b>Yes:</b> <code>grow-early</code>",
        "<b>No:</b> <code>grow-late</code>",
        "<b>Not to be told:</b> <code>no-growth</code>",
        "<b>Diverged:</b> <code>grow-fast-with-a-high-rate</code>",
        "Paired over 5 seeds",
        "-0.0120 nats [-0.0140, -0.0100]",
    ] {
        assert!(first.contains(words), "`{words}` is missing in\n{first}");
    }
    assert!(rest.contains("Cost to reach the baseline&#39;s final loss") && rest.contains("Provenance"));
}

#[test]
fn every_plot_has_a_layer_for_each_arm_with_its_line() {
    let page = page(&of_all_kinds(), "");
    for axis in ["tokens", "flops", "seconds"] {
        let plot =
            page.split(&format!("id=\"plot-{axis}\"")).nth(1).and_then(|rest| rest.split("</figure>").next());
        let plot = plot.unwrap_or_else(|| panic!("there is no plot against {axis}"));
        // Of the six arms one has no seed with a finite loss in all of its runs to the end.
        assert_eq!(plot.matches("<g class=\"line").count(), 6, "{axis}");
        assert!(plot.matches("<polyline").count() >= 6, "{axis}");
        assert!(
            !plot.contains("#01020"),
            "a colour that stands for another is left in the plot against {axis}"
        );
    }
}

#[test]
fn the_timeline_shows_how_deep_and_what_of_it_trains() {
    let page = page(&of_all_kinds(), "");
    let timeline = page.split("class=\"timeline\"").nth(1).expect("a timeline");
    for words in [
        "full height is 4 blocks",
        "all: steps 0 to 100, 4 of 4 blocks train",
        "&lt;stage2&gt;: steps 60 to 100, 2 of 4 blocks train",
        // Frozen below, what trains above; two of four blocks are half of the row.
        "<rect class=\"frozen\" x=\"600.00\" y=\"24.00\" width=\"400.00\" height=\"24.00\"/><rect class=\"trains\" x=\"600.00\" y=\"0.00\"",
    ] {
        assert!(timeline.contains(words), "`{words}` is missing");
    }
}

#[test]
fn the_figure_is_a_picture_by_itself() {
    let study = of_all_kinds();
    let judgement = study.judged();
    let figure = page_of(&study, &judgement, "").loss_svg();
    assert!(figure.starts_with("<svg xmlns=") && figure.trim_end().ends_with("</svg>"));
    assert!(
        !figure.contains("var(") && !figure.contains("#01020"),
        "a colour is left to a style that is not there"
    );
    for arm in ["whole", "grow-early", "no-growth"] {
        assert!(figure.contains(&format!(">{arm}</text>")), "{arm} is missing in the key");
    }
}

#[test]
fn the_table_of_curves_has_a_line_for_each_evaluation() {
    let study = Study::with_baseline(2);
    let table = crate::report::csv::render(&study.runs);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 1 + 2 * 11);
    assert_eq!(lines[2], "whole,main,1,10,100,100000000,90000000,80000000,100,,4.8");
}

/// Reasons and files are text: none of it becomes markup, nor ends the script that holds the data.
#[test]
fn nothing_from_elsewhere_becomes_markup() {
    let mut study = Study::with_baseline(3).arm("</script><b>bold</b>", 10, 1.0, &[0.0; 3]);
    study.failed.push(failed("</script><b>bold</b>", 3, RunStatus::Failed, "<img src=x onerror=alert(1)>"));
    study.runs.pop();
    let page = page(&study, "name = \"</pre><script>alert(1)</script>\"");
    assert!(!page.contains("<b>bold") && !page.contains("<img") && !page.contains("<script>alert"), "{page}");
    assert_eq!(page.matches("</script>").count(), 2, "the data's and the script's own");
    // And if some did: no script but the page's own may run, and nothing may be fetched.
    assert!(page.contains("\"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"), "{page}");
}

/// 40 arms × 5 seeds × 20,000 evaluations.
#[test]
fn a_study_of_four_million_evaluations_is_a_page_of_less_than_five_megabytes() {
    let arms: Vec<String> = (0..40).map(|number| format!("arm-{number}")).collect();
    let mut study = Study { runs: Vec::new(), ..Study::with_baseline(5) };
    let long = |arm: &str, seed: u64, shift: f64| {
        let short = curve(arm, seed, 1, 1.0, 0.0);
        let point = |i: u64| {
            let last = &short.points[1];
            EvaluationPoint {
                step: engine::Step(i),
                tokens: engine::Tokens(100 * i),
                flops: engine::Flops(100_000_000 * u128::from(i)),
                loss_nats_per_token: 2.0
                    + shift
                    + 3.0 / (1.0 + i as f64 / 50.0)
                    + 0.001 * ((i * seed) as f64).sin(),
                batches_sha256: format!("{seed}-{i}"),
                ..last.clone()
            }
        };
        RunCurve { points: (0..=20_000).map(point).collect(), ..short.clone() }
    };
    for seed in 1..=5 {
        study.runs.push(long("whole", seed, 0.0));
        study.runs.extend(arms.iter().enumerate().map(|(n, arm)| long(arm, seed, 0.01 * n as f64 - 0.2)));
    }
    study.arms = arms.iter().map(|arm| crate::verdict::made_up::plan(arm)).collect();
    let page = page(&study, "");
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
    if let Ok(path) = std::env::var("SAPWOOD_LARGE_PAGE") {
        std::fs::write(path, page).expect("a place for the page");
    }
}
