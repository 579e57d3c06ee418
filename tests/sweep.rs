//! A learning rate for each arm, looked for with equal trials, and what a report says of studies that did not look.

use crate::support::{Bench, json};

const SWEEP: &str = "\n[sweep]\nrates = [1e-4, 3e-3, 1e-2]\nseeds = [9]\nbudget_fraction = 0.5\n";

#[test]
fn every_arm_is_tried_alike_and_run_with_its_best_rate() {
    let bench = Bench::new();
    bench.add_to_study(SWEEP);
    let planned = bench.sapwood(&["plan", "study.toml"]).good();
    assert!(
        planned.contains("a sweep: every run with 3 rates on 1 seeds of its own, 50 % as long"),
        "{planned}"
    );
    let printed = bench.study().good();

    // By hand: the lowest end of each arm's three trials.
    let report = json(&bench.path("out/report/report.json"));
    let arms = report["sweep"]["arms"].as_array().expect("a list");
    assert_eq!(arms.len(), 2);
    for (arm, budget) in [("whole", "tokens"), ("stack", "compute")] {
        let end = |rate: &str| {
            let done = format!("out/sweep/rate-{rate}/runs/{arm}/{budget}/seed-9/DONE");
            json(&bench.path(&done))["loss_nats_per_token"].as_f64().expect("a loss")
        };
        let ends = ["1e-4", "3e-3", "1e-2"].map(|rate| (end(rate), rate.parse::<f64>().expect("a number")));
        let best = ends.into_iter().min_by(|one, other| one.0.total_cmp(&other.0)).expect("three");
        let found = arms.iter().find(|found| found["arm"] == arm).expect("it was tried");
        assert_eq!(found["chosen"], best.1, "{arm}: {ends:?}");
        assert_eq!(found["trials"][0]["mean_loss"], ends[0].0);
        for seed in [1, 2] {
            let run = json(&bench.path(&format!("out/runs/{arm}/{budget}/seed-{seed}/run.json")));
            assert_eq!(run["config"]["schedule"]["rate"], best.1, "{arm}");
        }
    }
    assert_eq!(report["sweep"]["reference_steps"], 20, "half of the study's");
    assert!(printed.contains("LEARNING RATES") && printed.contains("chosen"), "{printed}");
    // The highest of the three is best for so small a model: that there may be a better one is told.
    assert!(printed.contains("stands at an end of the sweep"), "{printed}");

    assert_eq!(bench.study().good(), printed, "nothing is tried twice");
    assert_eq!(bench.sapwood(&["report", "out"]).good(), printed);
    let trained = bench.sapwood(&["train", "study.toml", "--arm", "whole"]);
    assert!(trained.code == Some(3) && trained.stderr.contains("its sweep comes to"), "{}", trained.said());
}

#[test]
fn a_rate_that_diverges_is_a_result_and_one_that_is_judged_by_its_own_seed_is_refused() {
    let bench = Bench::new();
    bench.add_to_study("\n[sweep]\nrates = [1e-2, 10.0]\nseeds = [9]\n");
    // Beyond any clipping: the rate itself is what tears the model apart.
    let ran = bench.sapwood(&["study", "study.toml", "--out", "out", "--set", "optimizer.weight_decay=10.0"]);
    let printed = ran.good();
    let sweep = &json(&bench.path("out/report/report.json"))["sweep"]["arms"];
    let is_told = |arm: &serde_json::Value| arm["chosen"] == 1e-2 && arm["trials"][1]["mean_loss"].is_null();
    assert!(sweep.as_array().expect("a list").iter().all(is_told), "{sweep:#}");
    assert!(printed.contains("diverged"), "{printed}");

    let bench = Bench::new();
    bench.add_to_study("\n[sweep]\nrates = [1e-3, 1e-2]\nseeds = [2]\n");
    let ran = bench.study();
    assert!(
        ran.code == Some(3) && ran.stderr.contains("seed 2 stands in `sweep.seeds` and in"),
        "{}",
        ran.said()
    );
    assert!(ran.stderr.contains("--> study.toml:"), "{}", ran.said());
}

#[test]
fn a_report_tells_where_one_side_alone_was_tuned() {
    let bench = Bench::new();
    let schedule = "schedule = { kind = \"constant\", rate = 3e-3, warmup_steps = 4 }";
    bench.write_study(&[("[arms.stack]\n", &format!("[arms.stack]\n{schedule}\n"))]);
    let printed = bench.study().good();
    let told = "stack has a learning rate other than that of whole: as far as this study shows, one side alone was tuned.";
    assert!(printed.replace("\n  ", " ").contains(told), "{printed}");

    let bench = Bench::new();
    let printed = bench.study().good();
    assert!(printed.replace("\n  ", " ").contains("The rate 1e-2 was looked for in no arm"), "{printed}");
}
