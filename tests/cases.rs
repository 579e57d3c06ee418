//! The table of what a library or a plugin may do wrong: the case, what is said of it, the exit code, and what the
//! runs are then. The tests enter what they have seen (and judge it themselves); `.ci/cases` prints the table.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use crate::support::{Bench, Ran, run_folders};

/// Enters a case of a command, whose message is the first error or warning.
pub(crate) fn enter(who: &str, case: &str, bench: &Bench, ran: &Ran) {
    let mut lines = ran.stderr.lines().filter(|line| is_message(line));
    write_line(who, case, lines.next().unwrap_or_default(), ran.code, &state(&bench.path("out")));
}

/// Enters what became of one arm of a study.
pub(crate) fn enter_arm(who: &str, case: &str, bench: &Bench, arm: &str, ran: &Ran) {
    let of_arm = |line: &&str| is_message(line) && line.contains(&format!(" {arm}/"));
    let message = ran.stderr.lines().find(of_arm).unwrap_or_default();
    let state = state(&bench.path(&format!("out/runs/{arm}")));
    write_line(who, case, message, ran.code, &state);
}

/// Enters a case whose message stands elsewhere than on standard error.
pub(crate) fn enter_told(who: &str, case: &str, bench: &Bench, told: &str, ran: &Ran) {
    write_line(who, case, told, ran.code, &state(&bench.path("out")));
}

fn is_message(line: &str) -> bool {
    line.starts_with("error: ") || line.starts_with("warning: ")
}

/// What stands in the folders of the runs below.
fn state(folder: &Path) -> String {
    let runs = run_folders_below(folder);
    let count = |what: fn(&Path) -> bool| runs.iter().filter(|run| what(run)).count();
    let parts = [
        (count(|run| run.join("DONE").exists()), "finished".to_owned()),
        (
            count(|run| run.join("FAILED").exists()),
            format!("stopped, saved at {}", steps_saved(&runs, "FAILED")),
        ),
        (count(is_open), format!("cut off, saved at {}", steps_saved(&runs, "OPEN"))),
    ];
    let told: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if told.is_empty() { "nothing was begun".into() } else { told.join("; ") }
}

fn run_folders_below(folder: &Path) -> Vec<std::path::PathBuf> {
    if folder.ends_with("out") {
        return run_folders(folder);
    }
    let study = folder.ancestors().nth(2).expect("an arm lies in a study's `runs`");
    run_folders(study).into_iter().filter(|run| run.starts_with(folder)).collect()
}

fn is_open(run: &Path) -> bool {
    !run.join("DONE").exists() && !run.join("FAILED").exists()
}

/// The newest checkpoint of each of these runs that is in that state.
fn steps_saved(runs: &[std::path::PathBuf], state: &str) -> String {
    let chosen =
        runs.iter().filter(|run| if state == "OPEN" { is_open(run) } else { run.join(state).exists() });
    let steps =
        chosen.map(|run| newest_checkpoint(run).map_or("no step".into(), |step| format!("step {step}")));
    steps.collect::<Vec<_>>().join(", ")
}

fn newest_checkpoint(run: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(run.join("checkpoints")).ok()?.flatten();
    let whole = entries.filter(|entry| entry.path().join("state.json").exists());
    whole.filter_map(|entry| entry.file_name().to_str()?.split('-').next()?.parse().ok()).max()
}

fn write_line(who: &str, case: &str, message: &str, code: Option<i32>, state: &str) {
    let Some(table) = std::env::var_os("SAPWOOD_CASES") else { return };
    let code = code.map_or("signal".into(), |code| code.to_string());
    let line = format!("{who}\t{case}\t{message}\t{code}\t{state}\n");
    let file = OpenOptions::new().create(true).append(true).open(table);
    // One write, so that lines of tests side by side stay whole.
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the table can be written");
}
