//! Files that are damaged, missing, in the way, or not what they were: what is passed over with a warning, and what is an error
//! that names the file. Processes that end before their time stand in `kill`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::faults::{saw, saw_about};
use crate::support::{Bench, Ran, json_lines, results, text};

const RUN: &str = "out/runs/whole/tokens/seed-1";
const TRAIN: [&str; 7] = ["train", "study.toml", "--arm", "whole", "--out", "out", "--seed=1"];

/// A run that is finished, but for its last mark: as one that was killed right before it.
fn all_but_done() -> (Bench, Vec<(String, Vec<u8>)>) {
    let bench = Bench::new();
    bench.sapwood(&TRAIN).good();
    let wanted = results(&bench.path(RUN));
    fs::remove_file(bench.path(RUN).join("DONE")).expect("it was finished");
    (bench, wanted)
}

/// The last warning in the log, from its message on.
fn warned(bench: &Bench) -> String {
    let log = fs::read_to_string(bench.path("out/sapwood.log")).expect("a log");
    let line =
        log.lines().rfind(|line| line.contains(" WARN ")).unwrap_or_else(|| panic!("no warning in {log}"));
    let message = line.split_once(" WARN ").map_or(line, |(_, message)| message);
    let message = message.split_once(": ").map_or(message, |(_, message)| message);
    format!("sapwood.log: {}", message.split(" run=").next().unwrap_or(message))
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("room");
}

fn cut_in_half(path: &Path) {
    let bytes = fs::read(path).expect("it is there");
    fs::write(path, &bytes[..bytes.len() / 2]).expect("room");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let check = |fault: &str, damage: fn(&Path)| {
        let (bench, wanted) = all_but_done();
        damage(&bench.path(RUN).join("checkpoints/00000040"));
        let ran = bench.sapwood(&TRAIN);
        let warning = warned(&bench);
        assert!(warning.ends_with("the steps since the one before it are done again"), "{warning}");
        saw(fault, &ran, &warning);
        ran.good();
        assert!(results(&bench.path(RUN)) == wanted, "{fault}: another end");
        let log = fs::read_to_string(bench.path("out/sapwood.log")).expect("a log");
        assert!(log.contains("goes on from the checkpoint before step 30"), "{log}");
    };
    check("weights of a checkpoint cut short", |folder| cut_in_half(&folder.join("weights.safetensors")));
    check("a bit of a checkpoint flipped", |folder| flip_a_bit(&folder.join("moments.safetensors")));
    check("a file of a checkpoint missing", |folder| {
        fs::remove_file(folder.join("plugins/strategy.bin")).expect("it is there");
    });
    check("a checkpoint without a state", |folder| fs::write(folder.join("state.json"), "").expect("room"));
}

#[test]
fn where_every_checkpoint_is_damaged_the_run_begins_anew() {
    let (bench, wanted) = all_but_done();
    for step in ["00000030", "00000040"] {
        flip_a_bit(&bench.path(RUN).join("checkpoints").join(step).join("weights.safetensors"));
    }
    let ran = bench.sapwood(&TRAIN);
    saw("every checkpoint damaged", &ran, &warned(&bench));
    ran.good();
    assert!(results(&bench.path(RUN)) == wanted, "another end");
}

#[test]
fn a_checkpoint_of_a_later_version_is_no_damaged_one() {
    let (bench, wanted) = all_but_done();
    let state = bench.path(RUN).join("checkpoints/00000040/state.json");
    let good = fs::read_to_string(&state).expect("it is there");
    fs::write(&state, good.replace("\"format_version\": 3", "\"format_version\": 4")).expect("room");
    let before = contents(&bench.path(RUN));
    let ran = bench.sapwood(&TRAIN);
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.stderr.contains("hint: use the sapwood that saved it, or a later one"), "{}", ran.stderr);
    saw("a checkpoint of a later version", &ran, "");
    // Why it did not go on is noted, until it does.
    fs::remove_file(bench.path(RUN).join("FAILED")).expect("it was noted");
    assert!(contents(&bench.path(RUN)) == before, "it was touched");
    fs::write(&state, good).expect("room");
    bench.sapwood(&TRAIN).good();
    assert!(results(&bench.path(RUN)) == wanted, "another end");
}

#[test]
fn a_log_that_lacks_what_a_checkpoint_counts_on_is_an_error() {
    let (bench, _) = all_but_done();
    let log = bench.path(RUN).join("metrics.jsonl");
    cut_in_half(&log);
    let left = fs::read(&log).expect("it is there");
    let ran = bench.sapwood(&TRAIN);
    assert_eq!(ran.code, Some(8), "{}", ran.said());
    saw_about("a log cut short", &ran, "");
    assert!(
        ran.stderr.contains("hint: restore the file, or delete the run's folder to start it over"),
        "{}",
        ran.stderr
    );
    assert!(fs::read(&log).expect("it is there") == left, "it was touched");
}

#[test]
fn half_a_line_at_a_logs_end_is_cut_off() {
    let (bench, wanted) = all_but_done();
    let run = bench.path(RUN);
    fs::remove_dir_all(run.join("checkpoints/00000040")).expect("as if it had not been written yet");
    for log in ["metrics.jsonl", "evals.jsonl", "decisions.jsonl"] {
        let bytes = fs::read(run.join(log)).expect("it is there");
        fs::write(run.join(log), &bytes[..bytes.len() - 7]).expect("room");
    }
    let ran = bench.sapwood(&TRAIN);
    saw("a log with half a line", &ran, "nothing");
    ran.good();
    assert!(results(&run) == wanted, "another end");
}

#[test]
fn a_file_that_says_nothing_is_an_error_by_name() {
    let (bench, _) = all_but_done();
    fs::write(bench.path(RUN).join("run.json"), "").expect("room");
    let ran = bench.sapwood(&TRAIN);
    assert_eq!(ran.code, Some(8), "{}", ran.said());
    saw("an empty run.json", &ran, "");

    let bench = Bench::new();
    bench.study().good();
    // Before the first number that a clock gives: where the message says it ends must not hang on that.
    bench.write(&format!("{RUN}/DONE"), "{\n");
    let ran = bench.study();
    assert_eq!(ran.code, Some(8), "{}", ran.said());
    saw("a damaged DONE", &ran, "");
}

#[test]
fn a_file_that_nests_without_end_is_an_error_by_name() {
    let nested = "[".repeat(1_000_000);
    let (bench, _) = all_but_done();
    bench.write(&format!("{RUN}/run.json"), format!("{{\"arm\": {nested}"));
    let ran = bench.sapwood(&TRAIN);
    assert_eq!(ran.code, Some(8), "{}", ran.said());
    saw("a run.json that nests without end", &ran, "");

    let bench = Bench::new();
    let study = fs::read_to_string(bench.path("study.toml")).expect("it is there");
    bench.write("study.toml", format!("nested = {nested}\n{study}"));
    let ran = bench.study();
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    saw("a study that nests without end", &ran, "");
    bench.write("study.toml", study);
    let ran = bench.sapwood(&[
        "study",
        "study.toml",
        "--out",
        "out",
        "--set",
        &format!("data={}", &nested[..100_000]),
    ]);
    assert_eq!(ran.code, Some(3), "{}", ran.said());
}

#[test]
fn what_a_killed_process_left_half_written_is_removed() {
    let (bench, wanted) = all_but_done();
    let left = bench.path(RUN).join("checkpoints/00000037.tmp/plugins");
    fs::create_dir_all(&left).expect("room");
    let ran = bench.sapwood(&TRAIN);
    saw("half-written files of a killed process", &ran, "nothing");
    ran.good();
    assert!(!left.exists() && results(&bench.path(RUN)) == wanted);
}

#[test]
fn something_in_the_way_of_a_checkpoint_is_an_error_and_without_it_goes_on() {
    let (bench, wanted) = all_but_done();
    let checkpoints = bench.path(RUN).join("checkpoints");
    fs::remove_dir_all(checkpoints.join("00000040")).expect("it is there");
    let in_the_way = checkpoints.join("00000040.tmp");
    fs::write(&in_the_way, "").expect("room");
    let ran = bench.sapwood(&TRAIN);
    assert_eq!(ran.code, Some(8), "{}", ran.said());
    saw("something is in the way of a checkpoint", &ran, "");
    fs::remove_file(in_the_way).expect("it is ours");
    bench.sapwood(&TRAIN).good();
    assert!(results(&bench.path(RUN)) == wanted, "another end");
}

#[test]
fn data_that_is_missing_or_unfit_is_refused_before_anything_runs() {
    let bench = Bench::new();
    fs::remove_file(bench.path("text.txt")).expect("it was written");
    let ran = bench.study();
    assert_eq!(ran.code, Some(4), "{}", ran.said());
    saw("data missing", &ran, "");
    assert!(!bench.path("out/runs").exists());

    let bench = Bench::with(&[("vocabulary = 256", "vocabulary = 128")]);
    let mut bytes = text(40_000).into_bytes();
    bytes.iter_mut().step_by(50).for_each(|byte| *byte = 200);
    bench.write("text.txt", bytes);
    let ran = bench.study();
    assert_eq!(ran.code, Some(4), "{}", ran.said());
    saw("a token beyond the vocabulary", &ran, "");
    assert!(!bench.path(RUN).join("DONE").exists());
}

/// Waits until that many steps are in the log.
fn wait_for_steps(log: &Path, steps: usize) {
    let begun = Instant::now();
    while fs::read_to_string(log).map_or(0, |log| log.lines().count()) < steps {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not get on");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn data_that_shrinks_under_a_run_is_an_error_and_restored_it_goes_on() {
    let long = || Bench::with(&[("steps = 40", "steps = 1500")]);
    let (reference, bench) = (long(), long());
    reference.sapwood(&TRAIN).good();
    let child = bench.start(&TRAIN);
    wait_for_steps(&bench.path(RUN).join("metrics.jsonl"), 20);
    let whole = fs::read(bench.path("text.txt")).expect("it was written");
    // In place, as by a job that writes its data anew.
    let file = fs::File::options().write(true).open(bench.path("text.txt")).expect("it is ours");
    file.set_len(100).expect("it can be cut");
    let ran = bench.end(child);
    assert_eq!(ran.code, Some(4), "{}", ran.said());
    saw_about("the data shrinks while it is read", &ran, "");
    assert!(!json_lines(&bench.path(RUN).join("evals.jsonl")).is_empty());
    bench.write("text.txt", whole);
    bench.sapwood(&TRAIN).good();
    assert!(results(&bench.path(RUN)) == results(&reference.path(RUN)), "another end");
}

#[test]
fn other_data_or_another_configuration_is_another_run() {
    let refused_by = |bench: &Bench, arguments: &[&str], fault: &str, told: &str| {
        let before = contents(&bench.path(RUN));
        let ran = bench.sapwood(&[&TRAIN, arguments].concat());
        assert_eq!(ran.code, Some(3), "{}", ran.said());
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
        saw(fault, &ran, &format!("error: {RUN} holds a run of another configuration: {told}"));
        assert!(contents(&bench.path(RUN)) == before, "it was touched");
    };
    let refused = |bench: &Bench, fault: &str, told: &str| refused_by(bench, &[], fault, told);
    let (bench, _) = all_but_done();
    refused_by(
        &bench,
        &["--engine", "reference"],
        "another engine between two sittings",
        "`engine` was \"native\", now \"reference\"",
    );
    cut_in_half(&bench.path("text.txt"));
    refused(&bench, "other data between two sittings", "`data_sha256` was …".trim_end_matches(" …"));
    let (bench, _) = all_but_done();
    bench.write_study(&[("weight_decay = 0.1", "weight_decay = 0.2")]);
    refused(
        &bench,
        "another configuration between two sittings",
        "`optimizer.weight_decay` was 0.1, now 0.2",
    );
}

#[test]
fn who_goes_on_on_another_device_is_told_and_who_only_reports_is_not() {
    let (bench, _) = all_but_done();
    let file = bench.path(RUN).join("run.json");
    let here = fs::read_to_string(&file).expect("it is there");
    let (before, device) = here.split_once("\"device\": \"").expect("it says where");
    fs::write(&file, format!("{before}\"device\": \"another {device}")).expect("room");
    let told = || {
        let log = fs::read_to_string(bench.path("out/sapwood.log")).expect("a log");
        log.matches("it was begun on another ").count()
    };
    bench.sapwood(&TRAIN).good();
    assert_eq!(told(), 1, "it went on");
    bench.sapwood(&TRAIN).good();
    assert_eq!(told(), 1, "it was finished");
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = crate::support::files_below(folder).into_iter();
    files.map(|path| (path.clone(), fs::read(path).expect("it was just listed"))).collect()
}

#[test]
fn a_study_that_makes_no_sense_is_refused_before_anything_runs() {
    let refused = |edit: (&str, &str), fault: &str, code: i32| {
        let bench = Bench::with(&[edit]);
        let ran: Ran = bench.study();
        assert_eq!(ran.code, Some(code), "{}", ran.said());
        saw(fault, &ran, "");
        assert!(!bench.path("out/runs").exists());
    };
    refused(("sequences_per_step = 4", "sequences_for_step = 4"), "a key that is not known", 3);
    refused(("use = \"sapwood/stack\"", "use = \"nobody/knows\""), "a plugin that is not there", 5);
}
