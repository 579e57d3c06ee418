//! A study from its first step to its verdict, and again: what is finished is never repeated, what is added is
//! trained, and the same file gives the same bits anywhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::faults::saw;
use crate::support::{Bench, files_below, json, run_folders, same_results};

/// Every file of all runs, with its content and the time of its last change.
fn untouched(study: &Path) -> Vec<(PathBuf, SystemTime, Vec<u8>)> {
    let look = |path: PathBuf| {
        let time = fs::metadata(&path).and_then(|facts| facts.modified()).expect("a file has a time");
        let bytes = fs::read(&path).expect("nobody else is at work here");
        (path, time, bytes)
    };
    files_below(&study.join("runs")).into_iter().map(look).collect()
}

#[test]
fn a_study_ends_with_a_verdict_in_the_terminal_and_in_two_files() {
    let bench = Bench::new();
    let printed = bench.study().good();
    assert_eq!(run_folders(&bench.path("out")).len(), 4, "two arms with two seeds");
    let markdown = fs::read_to_string(bench.path("out/report/report.md")).expect("a report for people");
    let report = json(&bench.path("out/report/report.json"));
    for arm in ["whole", "stack"] {
        assert!(
            printed.contains(arm) && markdown.contains(arm),
            "{arm} is missing in\n{printed}\n{markdown}"
        );
        let arms = report["arms"].as_array().expect("`arms` is a list");
        assert!(arms.iter().any(|found| found["arm"] == arm), "{arm} is missing in {report:#}");
    }
    assert!(printed.to_lowercase().contains("verdict") && markdown.to_lowercase().contains("verdict"));
    assert!(!report["verdict"].is_null(), "{report:#}");
    assert!(markdown.contains("| stack | 2 | 15 | 1 -> 2 | "), "no growth is told in\n{markdown}");
    for row in ["| whole | sapwood/baseline | ", "| stack | sapwood/stack | ", "| stack | sapwood/copy | "] {
        assert!(markdown.contains(row), "no time is told for {row} in\n{markdown}");
    }
    // Two seeds are fewer than an interval that says anything takes, and the verdict has to say so.
    assert!(report["verdict"].to_string().contains("too-few-seeds"), "{:#}", report["verdict"]);
    assert_eq!(bench.sapwood(&["report", "out"]).good(), printed, "`report` says what `study` said");
    let again: serde_json::Value =
        serde_json::from_str(&bench.sapwood(&["report", "out", "--json"]).good()).expect("JSON");
    assert_eq!(again, report);
}

/// After all runs, and where one has not come to its end.
#[test]
fn status_tells_how_far_a_study_is() {
    let bench = Bench::new();
    bench.study().good();
    let said = bench.sapwood(&["status", "out"]).good();
    assert!(said.starts_with("tiny: 4 runs, 4 finished; 100 % done, nothing is left to do"), "{said}");
    assert!(said.contains("stack/compute/seed-2  100.0 %  finished      loss "), "{said}");
    let json: serde_json::Value =
        serde_json::from_str(&bench.sapwood(&["status", "out", "--json"]).good()).expect("JSON");
    let report = json_of(&bench);
    let end = |run: &serde_json::Value| run["loss_nats_per_token"].as_f64().expect("a loss");
    assert_eq!(end(&json["runs"][0]), end(&report["arms"][0]["final_points"][0]));
    fs::remove_file(bench.path("out/runs/stack/compute/seed-2/DONE")).expect("it is done");
    let said = bench.sapwood(&["status", "out"]).good();
    assert!(
        said.starts_with("tiny: 4 runs, 3 finished, 1 begun; 100 % done, at work, about 0 s left"),
        "{said}"
    );
    // A line that is being written at this moment is none yet.
    for log in ["metrics.jsonl", "evals.jsonl"] {
        let path = bench.path(&format!("out/runs/stack/compute/seed-2/{log}"));
        let whole = fs::read_to_string(&path).expect("a log");
        fs::write(&path, whole + "{\"step\":4").expect("a log may grow");
    }
    assert_eq!(bench.sapwood(&["status", "out"]).good(), said);
    let nothing = bench.sapwood(&["status", "nothing"]);
    assert!(nothing.code == Some(3) && nothing.stderr.contains("nothing"), "{}", nothing.said());
    // There is no terminal here: watching says what to do instead.
    let watched = bench.sapwood(&["watch", "out"]);
    assert!(watched.code == Some(3) && watched.stderr.contains("sapwood status"), "{}", watched.said());
}

fn json_of(bench: &Bench) -> serde_json::Value {
    json(&bench.path("out/report/report.json"))
}

#[test]
fn several_studies_stand_side_by_side() {
    let bench = Bench::new();
    bench.study().good();
    bench
        .sapwood(&["study", "study.toml", "--out", "other", "--jobs", "1", "--set", "study.name=other"])
        .good();
    let said = bench.sapwood(&["report", "out", "other"]).good();
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("stack")).collect();
    assert!(lines.len() == 2 && lines[0].starts_with("tiny") && lines[1].starts_with("other"), "{said}");
    let json: serde_json::Value =
        serde_json::from_str(&bench.sapwood(&["report", "out", "other", "--json"]).good()).expect("JSON");
    assert_eq!((&json[0]["study"]["name"], &json[1]["study"]["name"]), (&"tiny".into(), &"other".into()));
    let missing = bench.sapwood(&["report", "out", "nothing"]);
    assert!(missing.code == Some(3) && missing.stderr.contains("nothing"), "{}", missing.said());
}

/// The whole model once more under another name, and with three tenths of the rate: five seeds.
#[test]
fn the_baseline_is_not_different_from_itself_and_is_better_than_with_three_tenths_of_its_rate() {
    let bench = Bench::with(&[("seeds = [1, 2]", "seeds = [1, 2, 3, 4, 5]")]);
    bench.add_to_study(
        r#"
[arms.twin]
strategy = { use = "sapwood/baseline" }

[arms.slow]
strategy = { use = "sapwood/baseline" }
schedule = { kind = "constant", rate = 3e-3, warmup_steps = 0 }
"#,
    );
    bench.study().good();
    let report = json(&bench.path("out/report/report.json"));
    let arm = |name: &str| {
        let arms = report["comparisons"].as_array().expect("a list");
        arms.iter().find(|found| found["arm"] == name).expect("it is compared").clone()
    };
    let (twin, slow) = (arm("twin"), arm("slow"));
    for kind in ["compute_matched", "token_matched"] {
        let pairs = twin[kind]["pairs"].as_array().expect("pairs");
        assert!(pairs.len() == 5 && pairs.iter().all(|pair| pair["difference"] == 0.0), "{kind}: {pairs:?}");
        assert_eq!(
            (&twin[kind]["outcome"], &slow[kind]["outcome"]),
            (&"inconclusive".into(), &"worse".into()),
            "{kind}"
        );
    }
    let same_cost = twin["cost_to_reach"]["flops_ratio"]["mean"].as_f64().expect("reached in all seeds");
    assert!((same_cost - 1.0).abs() < 1e-12, "{same_cost}");
}

#[test]
fn run_again_it_repeats_nothing_and_goes_on_with_a_new_seed() {
    let bench = Bench::new();
    let printed = bench.study().good();
    let before = untouched(&bench.path("out"));
    assert_eq!(bench.study().good(), printed);
    assert!(untouched(&bench.path("out")) == before, "a finished run was touched");

    bench.write_study(&[("seeds = [1, 2]", "seeds = [1, 2, 3]")]);
    bench.study().good();
    let after = untouched(&bench.path("out"));
    assert!(before.iter().all(|file| after.contains(file)), "a finished run was touched");
    let new: Vec<&PathBuf> =
        after.iter().map(|(path, ..)| path).filter(|path| path.ends_with("DONE")).collect();
    assert_eq!(new.len(), 6, "{new:?}");
}

#[test]
fn the_same_file_gives_the_same_bits_elsewhere_and_side_by_side() {
    let (here, there) = (Bench::new(), Bench::new());
    here.study().good();
    there.sapwood(&["study", "study.toml", "--out", "elsewhere", "--jobs", "4"]).good();
    same_results(&here.path("out"), &there.path("elsewhere"));
}

#[test]
fn arms_of_a_seed_read_the_same_and_another_seed_reads_something_else() {
    let bench = Bench::new();
    bench.study().good();
    let read = |arm: &str, seed: u64| -> Vec<serde_json::Value> {
        let path = bench.path(&format!("out/runs/{arm}/seed-{seed}/evals.jsonl"));
        crate::support::json_lines(&path)
            .iter()
            .take(5)
            .map(|record| record["batches_sha256"].clone())
            .collect()
    };
    assert_eq!(read("whole/tokens", 1), read("stack/compute", 1));
    assert_ne!(read("whole/tokens", 1)[1..], read("whole/tokens", 2)[1..]);
}

#[test]
fn one_run_alone_is_the_same_run() {
    let bench = Bench::new();
    bench.study().good();
    let trained =
        bench.sapwood(&["train", "study.toml", "--out", "one", "--arm", "stack", "--seed", "2"]).good();
    assert!(trained.starts_with("stack/compute/seed-2: "), "{trained}");
    let (of_study, alone) =
        (bench.path("out/runs/stack/compute/seed-2"), bench.path("one/runs/stack/compute/seed-2"));
    assert!(crate::support::results(&of_study) == crate::support::results(&alone), "another result");
    let again =
        bench.sapwood(&["train", "study.toml", "--out", "one", "--arm", "stack", "--seed", "2"]).good();
    let said =
        "stack/compute/seed-2: finished before; delete one/runs/stack/compute/seed-2 to run it again\n";
    assert_eq!(again, said, "that folder, not the whole study's");
}

#[test]
fn a_second_process_is_kept_off_the_folder() {
    let bench = Bench::with(&[("steps = 40", "steps = 4000")]);
    let mut first = bench.start(&["study", "study.toml", "--out", "out", "--jobs", "1"]);
    while !bench.path("out/runs/whole/tokens/seed-1/metrics.jsonl").exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let second = bench.study();
    first.kill().expect("it is at work");
    first.wait().expect("it was killed");
    assert_eq!(second.code, Some(8), "{}", second.said());
    saw("two processes on one folder", &second, "");
    assert!(
        second.stderr.contains("error: another process is working on out\nhint: wait for it"),
        "{}",
        second.stderr
    );
}

/// A claim of a machine that is not this one, and has just given a sign of life.
#[test]
fn a_run_that_another_machine_works_on_is_left_to_it() {
    let bench = Bench::new();
    let run = bench.path("out/runs/stack/compute/seed-2");
    fs::create_dir_all(&run).expect("room");
    let claim = r#"{ "host": "node7", "pid": 4711, "boot": "another", "slurm_job": "12_3", "token": "t" }"#;
    fs::write(run.join("CLAIM"), claim).expect("room");
    let ran = bench.study();
    assert_eq!(
        ran.said(),
        "left alone: stack/compute/seed-2, which node7, Slurm job 12_3 works on\nno verdict yet: others are to \
         finish 1 of its runs\nhint: `sapwood status out` tells how far they are, `sapwood report out` what they came to\nexit 8\n"
    );
    saw("another machine works on a run", &ran, ran.stderr.lines().next().unwrap_or_default());
    assert!(!run.join("metrics.jsonl").exists() && bench.path("out/runs/stack/compute/seed-1/DONE").exists());
    let told = bench.sapwood(&["status", "out"]).good();
    let row =
        told.lines().find(|line| line.starts_with("stack/compute/seed-2 ")).expect("every run has a row");
    assert!(row.contains(" to come ") && row.ends_with(" by node7, Slurm job 12_3"), "{told}");
    fs::remove_file(run.join("CLAIM")).expect("it was left alone");
    bench.study().good();
    let reference = Bench::new();
    reference.study().good();
    same_results(&reference.path("out"), &bench.path("out"));
}

#[test]
fn a_run_of_many_is_run_alone_and_waited_for_where_somebody_has_it() {
    let bench = Bench::new();
    let only = |run: &'static str| ["study", "study.toml", "--out", "out", "--only", run];
    let ran = bench.sapwood(&only("stack/compute/seed-1")).good();
    assert!(ran.starts_with("stack/compute/seed-1: ") && !ran.contains("verdict"), "{ran}");
    assert_eq!(run_folders(&bench.path("out")).len(), 1);
    let none = bench.sapwood(&only("stack/tokens/seed-1"));
    assert_eq!(none.code, Some(3));
    assert!(
        none.stderr.starts_with("error: the study has no run `stack/tokens/seed-1`\nhint: "),
        "{}",
        none.stderr
    );

    let run = bench.path("out/runs/whole/tokens/seed-1");
    fs::create_dir_all(&run).expect("room");
    let claim = r#"{ "host": "node7", "pid": 4711, "boot": "another", "token": "t" }"#;
    fs::write(run.join("CLAIM"), claim).expect("room");
    let waiting = bench.start(&only("whole/tokens/seed-1"));
    while !fs::read_to_string(run.join("sapwood.log"))
        .is_ok_and(|log| log.contains("waits: node7, process 4711"))
    {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(!run.join("run.json").exists(), "it did not wait");
    fs::remove_file(run.join("CLAIM")).expect("it was left alone");
    bench.end(waiting).good();
    bench.study().good();
    // The file has become another, and somebody may work by the old one.
    bench.write_study(&[("steps = 40", "steps = 41")]);
    let changed = bench.sapwood(&only("whole/tokens/seed-1"));
    assert_eq!(changed.code, Some(3), "{}", changed.said());
}

#[test]
fn on_several_devices_it_comes_to_the_same_bits() {
    let (one, two) = (Bench::new(), Bench::new());
    one.sapwood(&["study", "study.toml", "--out", "out"]).good();
    two.sapwood(&["study", "study.toml", "--out", "out", "--devices", "cpu,cpu"]).good();
    same_results(&one.path("out"), &two.path("out"));
    let log = |bench: &Bench| fs::read_to_string(bench.path("out/sapwood.log")).expect("a log");
    assert!(log(&two).contains("devices: cpu, cpu, one run on each at a time"), "{}", log(&two));
    assert!(log(&one).contains("side by side, chosen by `--jobs auto`: "), "{}", log(&one));
    let missing = one.sapwood(&["study", "study.toml", "--out", "other", "--devices", "cpu,97"]);
    assert_eq!(missing.code, Some(8), "{}", missing.said());
    assert!(missing.stderr.contains("cuda:97") && !one.path("other/runs").exists(), "{}", missing.said());
}

#[test]
fn a_run_is_bound_to_the_model_that_it_starts_from() {
    let bench = Bench::new();
    bench.study().good();
    fs::create_dir(bench.path("model")).expect("room");
    let start_from = |seed: u64| {
        let trained = format!("out/runs/whole/tokens/seed-{seed}/checkpoints/00000040/weights.safetensors");
        fs::copy(bench.path(&trained), bench.path("model/model.safetensors")).expect("a finished run");
    };
    let study = ["study", "study.toml", "--out", "further", "--set", "initial_model.from=model"];
    start_from(1);
    bench.sapwood(&study).good();
    start_from(2);
    let ran = bench.sapwood(&study);
    let place = "error: further/runs/whole/tokens/seed-1 holds a run of another configuration: `initial_model_sha256` was ";
    assert!(ran.stderr.starts_with(place), "{}", ran.stderr);
    assert_eq!(ran.code, Some(3));
    start_from(1);
    bench.sapwood(&study).good();
}
