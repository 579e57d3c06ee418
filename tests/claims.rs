//! Claims whose owners are gone, and clocks that are wrong: who takes a run over, and who leaves it alone. How claims come about
//! is tested in `study`; two processes that are both alive stand in `study.rs`.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::faults::saw;
use crate::support::{Bench, same_results};

const RUN: &str = "out/runs/stack/compute/seed-2";

/// Leaves a claim in a run's folder whose owner's last sign of life was at that time.
fn claim(bench: &Bench, claim: &str, at: SystemTime) {
    let run = bench.path(RUN);
    fs::create_dir_all(&run).expect("room");
    fs::write(run.join("CLAIM"), claim).expect("room");
    let file = fs::File::options().write(true).open(run.join("CLAIM")).expect("it is ours");
    file.set_modified(at).expect("it is ours");
}

const OF_ANOTHER_MACHINE: &str = r#"{ "host": "node7", "pid": 4711, "boot": "another", "token": "t" }"#;

fn log_of(bench: &Bench) -> String {
    fs::read_to_string(bench.path("out/sapwood.log")).expect("a log")
}

/// All runs are finished, as in a study that nobody disturbed.
fn finished(bench: &Bench) {
    let reference = Bench::new();
    reference.study().good();
    same_results(&reference.path("out"), &bench.path("out"));
    assert!(!bench.path(RUN).join("CLAIM").exists());
}

fn line_of<'a>(log: &'a str, words: &str) -> &'a str {
    let line = log.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {log}"));
    let at = line.find("out/runs").unwrap_or_default();
    &line[at..]
}

/// It is watched for some heartbeats before it is believed to be left behind: this takes a quarter of a minute.
#[test]
fn a_run_whose_machine_died_is_taken_over() {
    let bench = Bench::new();
    claim(&bench, OF_ANOTHER_MACHINE, SystemTime::now() - Duration::from_secs(120));
    let ran = bench.study();
    let log = log_of(&bench);
    saw(
        "a machine died in the middle of a run",
        &ran,
        &format!("sapwood.log: {}", line_of(&log, "was left behind by")),
    );
    ran.good();
    finished(&bench);
}

#[test]
fn a_sign_of_life_from_the_future_is_one() {
    let bench = Bench::new();
    claim(&bench, OF_ANOTHER_MACHINE, SystemTime::now() + Duration::from_secs(24 * 3600));
    let ran = bench.study();
    assert_eq!(ran.code, Some(8), "{}", ran.said());
    let said = ran.stderr.lines().next().unwrap_or_default().to_owned();
    saw("a clock was set back", &ran, &said);
    assert!(bench.path("out/runs/stack/compute/seed-1/DONE").exists(), "the others are run");
    fs::remove_file(bench.path(RUN).join("CLAIM")).expect("it was left alone");
    bench.study().good();
    finished(&bench);
}

#[test]
fn who_is_gone_is_gone_whatever_the_clock_says() {
    let bench = Bench::new();
    // Of a process that was here a moment ago.
    let mut gone = std::process::Command::new("true").spawn().expect("a Unix has it");
    let pid = gone.id();
    gone.wait().expect("it is ours");
    let read = |path: &str| fs::read_to_string(path).expect("a Linux has it").trim().to_owned();
    let (host, start) = (read("/proc/sys/kernel/hostname"), read("/proc/sys/kernel/random/boot_id"));
    let space = fs::read_link("/proc/self/ns/pid").expect("a Linux has it");
    let boot = format!("{start} {}", space.display());
    let mine = format!(r#"{{ "host": "{host}", "pid": {pid}, "boot": "{boot}", "token": "t" }}"#);
    claim(&bench, &mine, SystemTime::now() + Duration::from_secs(24 * 3600));
    let ran = bench.study();
    let log = log_of(&bench);
    let line = line_of(&log, "was left behind by").replace(&host, "HOST").replace(&pid.to_string(), "PID");
    saw("a clock was set back, and the process is gone", &ran, &format!("sapwood.log: {line}"));
    ran.good();
    finished(&bench);
}
