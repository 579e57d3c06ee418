//! The table of faults: what may happen to a study, how a test makes it happen, what is said, the exit code, and what is kept. The
//! tests prove what is kept, and enter here what they have seen; the table in docs/faults.md is held against that
//! (`UPDATE_EXPECT=1` writes it anew). Not here: what libraries and plugins may do wrong, of which `cases` makes a table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::support::{Ran, root};

/// A row.
struct Fault {
    name: &'static str,
    injected: &'static str,
    kept: &'static str,
    /// File and function; the file is a module of this binary unless it is a path.
    test: (&'static str, &'static str),
}

const fn fault(
    name: &'static str,
    injected: &'static str,
    kept: &'static str,
    test: (&'static str, &'static str),
) -> Fault {
    Fault { name, injected, kept, test }
}

/// What is seen of a fault and how the process ends.
type Seen = (String, String);

const ABOVE: &str = "# Faults

What may happen to a study, and what is left of it. Every row is a test; the table is held against what the tests have seen. Numbers
that depend on the moment are written as N. What libraries and plugins may do wrong has a table of its own, which `.ci/cases` prints.

A run is killed, loses its disk, or is interrupted: the same command goes on from its newest whole checkpoint, with logs cut back to
it, and ends in the same bits as a run that was left alone.

";
const BELOW: &str = "
Exit codes: 3 the study's file or a folder that does not fit it, 4 data, 5 a plugin that is not loaded, 6 a plugin that failed, 7 a
loss that is no number, 8 disk, memory, device or another process, 9 several of these, 11 and 12 a plugin that called `exit()` or
hung, 130 interrupted.
";
const HEADER: [&str; 6] =
    ["fault", "how it is made to happen", "what is said", "exit", "what is kept", "test"];

/// What is seen where a test cannot enter it: it is another crate's, or one that few machines can run.
const TOLD: [(&str, &str, &str); 6] = [
    (
        "a step in the middle whose loss is no number, skipped",
        "warning: RUN: N of its steps made no update, since the loss or gradient was not finite: N",
        "0",
    ),
    ("the disk is slow", "nothing", "0"),
    ("the device fails in a step", "error: RUN: the device failed: …", "8"),
    (
        "the folder is taken over while a checkpoint is being written",
        "left alone: RUN, which HOLDER works on",
        "8",
    ),
    (
        "a node of a Slurm cluster dies",
        "sapwood.log: RUN was left behind by NODE; goes on from the checkpoint before step N",
        "0",
    ),
    (
        "a machine is suspended for longer than a lease, and goes on",
        "left alone: RUN, which HOLDER works on",
        "8",
    ),
];

/// Enters what was seen of a fault: the first error, or else the first warning, or else `told`.
pub(crate) fn saw(name: &str, ran: &Ran, told: &str) {
    let line = |start: &str| ran.stderr.lines().find(|line| line.starts_with(start));
    let line = if told.is_empty() { line("error: ").or_else(|| line("warning: ")) } else { Some(told) };
    let line = line.unwrap_or_else(|| panic!("{name}: nothing was said: {}", ran.said()));
    enter(name, line, ran.code);
}

/// The same where numbers depend on the moment.
pub(crate) fn saw_about(name: &str, ran: &Ran, told: &str) {
    let line = if told.is_empty() {
        ran.stderr.lines().find(|line| line.starts_with("error: "))
    } else {
        Some(told)
    };
    let line = line.unwrap_or_else(|| panic!("{name}: nothing was said: {}", ran.said()));
    enter(name, &numbers_as_n(line), ran.code);
}

fn numbers_as_n(line: &str) -> String {
    let mut text = String::new();
    for character in line.chars() {
        match character {
            digit if digit.is_ascii_digit() => {
                if !text.ends_with('N') {
                    text.push('N');
                }
            }
            other => text.push(other),
        }
    }
    text
}

fn enter(name: &str, line: &str, code: Option<i32>) {
    assert!(FAULTS.iter().any(|fault| fault.name == name), "`{name}` is no row of the table");
    let seen = (line.replace('|', "\\|"), code.map_or_else(|| "signal".into(), |code| code.to_string()));
    // Tests side by side write one file.
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = entered();
    if all.get(name) == Some(&seen) {
        return;
    }
    if std::env::var_os("UPDATE_EXPECT").is_none() {
        panic!(
            "docs/faults.md says of `{name}` {:?}, but now it is {seen:?}; UPDATE_EXPECT=1 writes it anew",
            all.get(name)
        );
    }
    all.insert(name.to_owned(), seen);
    fs::write(page(), rendered(&all)).expect("the repository can be written");
}

fn page() -> PathBuf {
    root().join("docs/faults.md")
}

/// What the page says of each fault.
fn entered() -> BTreeMap<String, Seen> {
    let text = fs::read_to_string(page()).unwrap_or_default();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let row = |row: &str| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [name, _, seen, code, ..] = cells[..] else { return None };
        Some((name.to_owned(), (seen.to_owned(), code.to_owned())))
    };
    let mut all: BTreeMap<String, Seen> = rows.filter_map(row).collect();
    for (name, line, code) in TOLD {
        all.insert(name.into(), (line.into(), code.into()));
    }
    all
}

fn rendered(seen: &BTreeMap<String, Seen>) -> String {
    let mut text = ABOVE.to_owned();
    let mut row = |cells: [&str; 6]| writeln!(text, "| {} |", cells.join(" | ")).expect("a string grows");
    row(HEADER);
    row(["---"; 6]);
    for Fault { name, injected, kept, test: (file, function) } in &FAULTS {
        let unseen = Seen::default();
        let (line, code) = seen.get(*name).unwrap_or(&unseen);
        row([name, injected, line, code, kept, &format!("`{file}::{function}`")]);
    }
    text + BELOW
}

#[test]
fn the_page_has_every_fault_and_each_has_its_test() {
    let wanted = rendered(&entered());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(page(), &wanted).expect("the repository can be written");
    }
    let text = fs::read_to_string(page()).expect("docs/faults.md is there");
    assert!(text == wanted, "docs/faults.md is not what the table makes; UPDATE_EXPECT=1 writes it anew");
    let seen = entered();
    for Fault { name, .. } in &FAULTS {
        assert!(seen.get(*name).is_some_and(|(line, _)| !line.is_empty()), "nothing is entered of `{name}`");
    }
    for Fault { name, test: (file, function), .. } in &FAULTS {
        let path =
            if file.ends_with(".rs") { root().join(file) } else { root().join(format!("tests/{file}.rs")) };
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(source.contains(&format!("fn {function}()")), "{} has no test `{function}`", path.display());
        let told = TOLD.iter().any(|(told, ..)| told == name);
        assert!(
            told || source.contains(&format!("\"{name}\"")),
            "{} enters nothing of `{name}`",
            path.display()
        );
    }
}

/// The rows, in the order of the page.
const FAULTS: [Fault; 49] = [
    // ------------------------------------------------------------ the process
    fault(
        "killed at any moment",
        "SIGKILL after a random time, ten times",
        "all but the steps since the newest checkpoint that was written; what was finished is not done again; run again, the same bits",
        ("kill", "killed_at_any_moment_it_goes_on_and_ends_the_same"),
    ),
    fault(
        "interrupted",
        "SIGINT while it trains",
        "everything: each run is saved where it stands; run again, the same bits",
        ("kill", "interrupted_it_saves_and_goes_on"),
    ),
    fault(
        "asked to end",
        "SIGTERM while it trains",
        "everything, as after SIGINT",
        ("kill", "asked_to_end_it_saves_and_goes_on"),
    ),
    fault(
        "interrupted twice",
        "SIGINT twice while it trains",
        "what was saved before, and by the first if there was time; run again, the same bits",
        ("kill", "interrupted_twice_it_stops_at_once_and_goes_on"),
    ),
    fault(
        "a limit on the size of files",
        "`ulimit -f` below a checkpoint's size",
        "all that was saved before; with the limit raised, the same bits",
        ("kill", "a_limit_on_the_size_of_files_ends_it_and_without_it_goes_on"),
    ),
    fault(
        "no memory left",
        "`ulimit -v` below what a step takes",
        "all that was saved before; with the limit raised, the same bits",
        ("kill", "without_memory_it_ends_and_with_it_goes_on"),
    ),
    fault(
        "standard output closed",
        "a pipe that nobody reads",
        "everything: the study is run to its end",
        ("printing", "a_closed_pipe_ends_no_command"),
    ),
    fault(
        "standard output full",
        "standard output is /dev/full",
        "everything but what was printed",
        ("printing", "results_that_cannot_be_written_are_an_error"),
    ),
    // ------------------------------------------------------------ the disk
    fault(
        "the disk is full",
        "a tmpfs too small for the study",
        "what was finished and what was saved, nothing half written; with room, the same bits",
        ("kill", "a_full_disk_is_an_error_and_with_room_it_goes_on"),
    ),
    fault(
        "the disk becomes read-only",
        "a tmpfs is mounted anew, read-only, before the second run of the command",
        "all that was there; once it can be written, the same bits",
        ("kill", "a_disk_that_cannot_be_written_is_an_error_and_later_it_goes_on"),
    ),
    fault(
        "the disk is slow",
        "a checkpoint that is not written before it is let go, when the next is due",
        "everything: training goes on until the next is due, and waits then",
        ("host/trainer/src/run/writer.rs", "work_is_done_one_at_a_time_and_waited_for"),
    ),
    fault(
        "something is in the way of a checkpoint",
        "a file in the place of its temporary folder",
        "the checkpoint before; with that removed, the same bits",
        ("damage", "something_in_the_way_of_a_checkpoint_is_an_error_and_without_it_goes_on"),
    ),
    // ------------------------------------------------------------ damaged files
    fault(
        "weights of a checkpoint cut short",
        "half of weights.safetensors is cut off",
        "the checkpoint before: the steps since are done again; the same bits",
        ("damage", "a_damaged_checkpoint_is_passed_over_for_the_one_before"),
    ),
    fault(
        "a bit of a checkpoint flipped",
        "one bit in the middle of moments.safetensors",
        "the checkpoint before, likewise",
        ("damage", "a_damaged_checkpoint_is_passed_over_for_the_one_before"),
    ),
    fault(
        "a file of a checkpoint missing",
        "plugins/strategy.bin is removed",
        "the checkpoint before, likewise",
        ("damage", "a_damaged_checkpoint_is_passed_over_for_the_one_before"),
    ),
    fault(
        "a checkpoint without a state",
        "state.json is emptied",
        "the checkpoint before, likewise",
        ("damage", "a_damaged_checkpoint_is_passed_over_for_the_one_before"),
    ),
    fault(
        "every checkpoint damaged",
        "a bit of each is flipped",
        "nothing of that run, which is begun anew; the same bits",
        ("damage", "where_every_checkpoint_is_damaged_the_run_begins_anew"),
    ),
    fault(
        "a checkpoint of a later version",
        "format_version is raised by one",
        "everything, untouched; with the sapwood that saved it, the same bits",
        ("damage", "a_checkpoint_of_a_later_version_is_no_damaged_one"),
    ),
    fault(
        "a log cut short",
        "metrics.jsonl loses its second half",
        "the file is left as it is, for its owner to restore; other runs go on",
        ("damage", "a_log_that_lacks_what_a_checkpoint_counts_on_is_an_error"),
    ),
    fault(
        "a log with half a line",
        "the end of a line is lost, as when the power fails",
        "everything: logs are cut back to the checkpoint; the same bits",
        ("damage", "half_a_line_at_a_logs_end_is_cut_off"),
    ),
    fault(
        "an empty run.json",
        "run.json is emptied",
        "the folder is left as it is",
        ("damage", "a_file_that_says_nothing_is_an_error_by_name"),
    ),
    fault(
        "a run.json that nests without end",
        "a million brackets are opened",
        "the folder is left as it is",
        ("damage", "a_file_that_nests_without_end_is_an_error_by_name"),
    ),
    fault(
        "a damaged DONE",
        "DONE is cut short",
        "the folder is left as it is",
        ("damage", "a_file_that_says_nothing_is_an_error_by_name"),
    ),
    fault(
        "half-written files of a killed process",
        "a temporary checkpoint is left in the folder",
        "everything: it is removed when the run goes on",
        ("damage", "what_a_killed_process_left_half_written_is_removed"),
    ),
    // ------------------------------------------------------------ the data and the file
    fault(
        "data missing",
        "the text is removed",
        "nothing is begun",
        ("damage", "data_that_is_missing_or_unfit_is_refused_before_anything_runs"),
    ),
    fault(
        "a token beyond the vocabulary",
        "bytes of 200 where the vocabulary is 128",
        "what was trained before it is read; nothing is finished",
        ("damage", "data_that_is_missing_or_unfit_is_refused_before_anything_runs"),
    ),
    fault(
        "the data shrinks while it is read",
        "the text is cut short in the middle of a run",
        "the checkpoints; with the text restored, the same bits",
        ("damage", "data_that_shrinks_under_a_run_is_an_error_and_restored_it_goes_on"),
    ),
    fault(
        "other data between two sittings",
        "the text is cut short before the second run of the command",
        "the folder is left as it is",
        ("damage", "other_data_or_another_configuration_is_another_run"),
    ),
    fault(
        "another configuration between two sittings",
        "another weight decay in the file",
        "the folder is left as it is",
        ("damage", "other_data_or_another_configuration_is_another_run"),
    ),
    fault(
        "another engine between two sittings",
        "the same command with `--engine reference`",
        "everything: the folder is not touched",
        ("damage", "other_data_or_another_configuration_is_another_run"),
    ),
    fault(
        "a study that nests without end",
        "a million brackets are opened",
        "nothing is begun",
        ("damage", "a_file_that_nests_without_end_is_an_error_by_name"),
    ),
    fault(
        "a key that is not known",
        "`[training] sequences_for_step`",
        "nothing is begun",
        ("damage", "a_study_that_makes_no_sense_is_refused_before_anything_runs"),
    ),
    fault(
        "a plugin that is not there",
        "`use = \"nobody/knows\"`",
        "nothing is begun",
        ("damage", "a_study_that_makes_no_sense_is_refused_before_anything_runs"),
    ),
    fault(
        "a device that is not there",
        "`--device cuda` without a driver",
        "nothing is begun, least of all elsewhere",
        ("devices", "a_device_that_is_not_there_is_no_reason_to_train_elsewhere"),
    ),
    // ------------------------------------------------------------ numbers
    fault(
        "a loss that is no number, which stops the run",
        "weights that grow without end (rate and decay of 10)",
        "the checkpoints before it; other runs go on",
        ("numbers", "a_loss_that_is_no_number_ends_its_run_alone"),
    ),
    fault(
        "losses that are no number, more than may be skipped",
        "the same, with `on_non_finite = { skip = { at_most = 2 } }`",
        "the same, and which steps were skipped",
        ("numbers", "more_than_may_be_skipped_ends_the_run_and_the_log_has_the_steps"),
    ),
    fault(
        "a step in the middle whose loss is no number, skipped",
        "an engine that says so at three steps, stopped before each step in turn",
        "everything: the same bits wherever it was stopped, with the steps on record",
        (
            "host/trainer/tests/it/non_finite.rs",
            "a_run_that_has_skipped_steps_goes_on_to_the_same_end_wherever_it_stopped",
        ),
    ),
    fault(
        "the device fails in a step",
        "an engine that says so",
        "the checkpoints before it",
        ("host/trainer/tests/it/faults.rs", "a_failing_device_is_a_matter_of_resources"),
    ),
    // ------------------------------------------------------------ others
    fault(
        "two processes on one folder",
        "the same command while the first is at work",
        "everything: the first goes on, undisturbed",
        ("study", "a_second_process_is_kept_off_the_folder"),
    ),
    fault(
        "another machine works on a run",
        "a claim of another machine, a moment old",
        "everything: the run is left to it, all others are run",
        ("study", "a_run_that_another_machine_works_on_is_left_to_it"),
    ),
    fault(
        "a machine died in the middle of a run",
        "a claim of another machine, two minutes old",
        "everything: the run is taken over; the same bits",
        ("claims", "a_run_whose_machine_died_is_taken_over"),
    ),
    fault(
        "a clock was set back",
        "a claim whose last sign of life lies a day in the future",
        "everything: it counts as alive, and is left alone",
        ("claims", "a_sign_of_life_from_the_future_is_one"),
    ),
    fault(
        "a clock was set back, and the process is gone",
        "the same, of a process of this machine that has ended",
        "everything: the run is taken over; the same bits",
        ("claims", "who_is_gone_is_gone_whatever_the_clock_says"),
    ),
    fault(
        "the folder is taken over while a checkpoint is being written",
        "an owner that is lost when the thread that writes asks",
        "what was saved before; nothing of the late owner counts",
        (
            "host/trainer/tests/it/resume.rs",
            "a_checkpoint_that_was_being_written_when_the_run_was_taken_over_does_not_count",
        ),
    ),
    fault(
        "a machine is suspended for longer than a lease, and goes on",
        "an owner that is lost between two steps, or before a checkpoint",
        "what was saved before; the successor's run ends in the same bits",
        (
            "host/trainer/tests/it/resume.rs",
            "a_run_that_was_taken_over_saves_nothing_more_and_the_rest_is_the_same",
        ),
    ),
    fault(
        "a node of a Slurm cluster dies",
        "SIGKILL to its daemon and all that it runs",
        "everything: the run goes on elsewhere from its checkpoint, once",
        ("slurm", "where_a_node_dies_its_runs_go_on_elsewhere_from_their_checkpoints"),
    ),
    // ------------------------------------------------------------ plugins
    fault(
        "a plugin crashes",
        "a wild pointer in `before_step`",
        "the checkpoint before; repaired, it goes on",
        ("blame", "a_crash_is_told_of_by_doctor_and_once_by_the_next_start"),
    ),
    fault(
        "a plugin calls exit()",
        "`exit(0)` in `before_step`",
        "the checkpoint before; repaired, it goes on",
        ("blame", "an_exit_is_caught_on_its_way_out"),
    ),
    fault(
        "a plugin is rebuilt between two sittings",
        "another library of the same id",
        "the folder is left as it is; with the old build back it goes on",
        ("bad_plugins", "a_run_is_bound_to_the_build_of_its_plugins"),
    ),
];
