//! Is the page whole, safe whatever names say, and small whatever the study?

use super::Page;
use crate::verdict::made_up::{Study, curve, failed, of_all_kinds};
use crate::{EvaluationPoint, RunCurve, RunStatus};

fn page(study: &Study, configuration: &str) -> String {
    let judgement = study.judged();
    let provenance = vec![("whole/main/seed-1".to_owned(), "{ \"arm\": \"<whole>\" }".to_owned())];
    Page { judgement: &judgement, curves: &study.runs, configuration, provenance }.render()
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

/// Reasons and files are text: none of it becomes markup, nor ends the script that holds the data.
#[test]
fn nothing_from_elsewhere_becomes_markup() {
    let mut study = Study::with_baseline(3).arm("</script><b>bold</b>", 10, 1.0, &[0.0; 3]);
    study.failed.push(failed("</script><b>bold</b>", 3, RunStatus::Failed, "<img src=x onerror=alert(1)>"));
    study.runs.pop();
    let page = page(&study, "name = \"</pre><script>alert(1)</script>\"");
    assert!(!page.contains("<b>bold") && !page.contains("<img") && !page.contains("<script>alert"), "{page}");
    assert_eq!(page.matches("</script>").count(), 2, "the data's and the script's own");
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
