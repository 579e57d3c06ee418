//! Standard output that somebody has closed, and one that is full: the first is no error, the second is one with
//! an exit code of its own. What is printed stands in `cli`.

use std::fs::OpenOptions;
use std::io::PipeWriter;

use expect_test::{Expect, expect};

use crate::faults::saw;
use crate::support::{Bench, run_folders};

/// A command of each kind, all of which print something.
const COMMANDS: [&[&str]; 9] = [
    &["--help"],
    &["--version"],
    &["doctor"],
    &["plugin", "list"],
    &["plugin", "inspect", "sapwood/paper"],
    &["plan", "study.toml"],
    &["bench", "--layers", "1", "--steps", "1", "--batch", "1"],
    &["train", "study.toml", "--arm", "stack", "--out", "one"],
    &STUDY,
];
const STUDY: [&str; 6] = ["study", "study.toml", "--out", "out", "--jobs", "1"];

/// The end of a pipe that is written to, its reader gone: what `| head -1` comes to, without waiting for it.
fn nobody_reads() -> PipeWriter {
    let (_, writer) = std::io::pipe().expect("a pipe");
    writer
}

#[test]
fn a_closed_pipe_ends_no_command() {
    let bench = Bench::new();
    for command in COMMANDS {
        let ran = bench.sapwood_into(command, nobody_reads());
        assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.said());
        assert!(!ran.stderr.contains("panicked"), "{command:?}: {}", ran.stderr);
        saw("standard output closed", &ran, "nothing");
    }
    assert_eq!(run_folders(&bench.path("out")).len(), 4, "the study was run to its end");
    assert!(bench.path("out/report/report.json").exists());
    bench.sapwood_into(&["report", "out"], nobody_reads()).good();
}

#[test]
fn a_closed_standard_error_ends_no_command() {
    let bench = Bench::new();
    bench.add_to_study("\n[[reporters]]\nuse = \"sapwood/console\"\n");
    let mut study = bench.command(&STUDY);
    let ended = study.stdout(nobody_reads()).stderr(nobody_reads()).status().expect("it was built");
    assert_eq!(ended.code(), Some(0));
    let mut wrong = bench.command(&["study", "nothing.toml"]);
    let ended = wrong.stdout(nobody_reads()).stderr(nobody_reads()).status().expect("it was built");
    assert_eq!(ended.code(), Some(3), "the exit code says what nobody could read");
}

/// What a command says whose output goes to a file on a full disk.
#[cfg(target_os = "linux")]
fn on_a_full_disk(bench: &Bench, command: &[&str]) -> crate::support::Ran {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a Linux has it");
    bench.sapwood_into(command, full)
}

#[test]
#[cfg(target_os = "linux")]
fn results_that_cannot_be_written_are_an_error() {
    let bench = Bench::new();
    let check = |command: &[&str], expected: Expect| {
        expected.assert_eq(&on_a_full_disk(&bench, command).said());
    };
    for command in &COMMANDS[..8] {
        check(
            command,
            expect![[r#"
                error: cannot write to standard output: No space left on device (os error 28)
                hint: free some space or send it elsewhere, and run the same command again
                exit 8
            "#]],
        );
    }
    // The study itself is not lost: only its verdict could not be shown here.
    check(
        &STUDY,
        expect![[r#"
            report: out/report/report.html
            error: cannot write to standard output: No space left on device (os error 28)
            hint: free some space or send it elsewhere, and run the same command again
            exit 8
        "#]],
    );
    assert!(bench.path("out/report/report.json").exists());
    bench.study().good();
    saw("standard output full", &on_a_full_disk(&bench, &STUDY), "");
    // An error of its own goes before.
    check(
        &["plan", "nothing.toml"],
        expect![[r#"
            error: cannot read nothing.toml: No such file or directory (os error 2)
              --> nothing.toml
            hint: check the path; configs/ holds examples
            exit 3
        "#]],
    );
}
