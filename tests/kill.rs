//! Killed, interrupted, or out of disk: run again, a study ends as if nothing had happened, and nothing that was
//! finished is done twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::faults::{saw, saw_about};
use crate::support::{self, Bench, Ran, Random, files_below, json_lines, results, run_folders, same_results};

/// More to write and to be caught at than the tiny study has.
fn busy() -> Bench {
    Bench::with(&[
        ("[budget]\nsteps = 40", "[budget]\nsteps = 160"),
        ("[checkpoints]\nevery_steps = 10", "[checkpoints]\nevery_steps = 5"),
        ("at_phase_end = false", "at_phase_end = true"),
        ("[arms.whole]", "[[reporters]]\nuse = \"sapwood/csv\"\n\n[arms.whole]"),
    ])
}

const STUDY: [&str; 6] = ["study", "study.toml", "--out", "out", "--jobs", "2"];

/// The study's results when nothing happens to it, and how long that takes.
fn undisturbed() -> (Bench, Duration) {
    let bench = busy();
    let started = Instant::now();
    bench.sapwood(&STUDY).good();
    (bench, started.elapsed())
}

/// Every file is whole: no temporary one is left, every line and every tensor file can be read.
fn whole(study: &Path) {
    assert_eq!(temporary_files(study), Vec::<PathBuf>::new(), "half-written files");
    for path in files_below(study) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".jsonl") {
            assert!(!json_lines(&path).is_empty(), "{} is empty", path.display());
        }
        if name.ends_with(".json") || name == "DONE" {
            support::json(&path);
        }
        if name.ends_with(".safetensors") {
            let bytes = fs::read(&path).expect("it was just listed");
            assert_eq!(tensor_file_length(&bytes), Some(bytes.len()), "{} is cut short", path.display());
        }
    }
}

/// Files under a temporary name, or in a folder that has one.
fn temporary_files(study: &Path) -> Vec<PathBuf> {
    let files = files_below(study).into_iter();
    let below = files.map(|path| path.strip_prefix(study).expect("found below it").to_path_buf());
    below.filter(|path| path.to_string_lossy().contains("tmp")).collect()
}

/// How long a safetensors file says that it is: 8 bytes of length, a header, and the tensors.
fn tensor_file_length(bytes: &[u8]) -> Option<usize> {
    let header_length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?) as usize;
    let header: serde_json::Value = serde_json::from_slice(bytes.get(8..8 + header_length)?).ok()?;
    let ends = header.as_object()?.values().filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    Some(8 + header_length + ends.max()? as usize)
}

/// A run that is finished: what it came to, and when.
#[derive(PartialEq)]
struct Finished {
    run: PathBuf,
    results: Vec<(String, Vec<u8>)>,
    at: SystemTime,
}

fn finished(study: &Path) -> Vec<Finished> {
    let done = run_folders(study).into_iter().filter(|run| run.join("DONE").exists());
    done.map(|run| {
        let facts = fs::metadata(run.join("DONE")).expect("it was there a moment ago");
        Finished { results: results(&run), at: facts.modified().expect("a file has a time"), run }
    })
    .collect()
}

/// Runs that were finished before are so still, untouched.
fn none_repeated(before: &[Finished], after: &[Finished]) {
    for run in before {
        assert!(after.contains(run), "{} was finished, and was done again", run.run.display());
    }
}

#[test]
fn killed_at_any_moment_it_goes_on_and_ends_the_same() {
    let (reference, mut longest) = undisturbed();
    let mut random = Random(20_240_817);
    let mut rounds = 0;
    for _ in 0..100 {
        let bench = busy();
        let moment = longest.mul_f64(random.below(1000) as f64 / 1000.0);
        let mut child = bench.start(&STUDY);
        std::thread::sleep(moment);
        child.kill().expect("it was started here");
        let killed = bench.end(child);
        if killed.code.is_some() {
            // It was faster than the first time, when other tests may have been at work.
            longest = longest.mul_f64(0.8);
            continue;
        }
        if !bench.path("out/runs").exists() {
            continue;
        }
        saw("killed at any moment", &killed, "nothing");
        let before = finished(&bench.path("out"));
        let ended = bench.sapwood(&STUDY);
        assert_eq!(ended.code, Some(0), "killed after {moment:?}: {}", ended.said());
        none_repeated(&before, &finished(&bench.path("out")));
        whole(&bench.path("out"));
        same_results(&reference.path("out"), &bench.path("out"));
        rounds += 1;
        if rounds == 10 {
            return;
        }
    }
    panic!("only {rounds} of 100 kills came while runs were under way");
}

#[test]
fn from_any_checkpoint_it_ends_the_same() {
    let bench = Bench::with(&[
        ("seeds = [1, 2]", "seeds = [1]"),
        ("[checkpoints]\nevery_steps = 10\nkeep = 2", "[checkpoints]\nevery_steps = 7\nkeep = 100"),
        ("at_phase_end = false", "at_phase_end = true"),
    ]);
    bench.study().good();
    let run = bench.path("out/runs/stack/compute/seed-1");
    let wanted = results(&run);
    let checkpoints = names_in(&run.join("checkpoints"));
    assert!(checkpoints.contains(&"00000015-phase-end".to_owned()), "{checkpoints:?}");
    for last in 0..checkpoints.len() {
        fs::remove_file(run.join("DONE")).expect("the run was finished");
        for later in &checkpoints[last + 1..] {
            fs::remove_dir_all(run.join("checkpoints").join(later)).expect("it was there");
        }
        bench.study().good();
        assert!(results(&run) == wanted, "from {} it ends in another way", checkpoints[last]);
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("it is there").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Waits until the study has trained for some steps.
fn wait_for_steps(bench: &Bench, child: &mut Child) {
    let log = bench.path("out/runs/whole/tokens/seed-1/metrics.jsonl");
    let begun = Instant::now();
    while fs::read_to_string(&log).map_or(0, |log| log.lines().count()) < 20 {
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended before it could be interrupted");
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not get on");
        std::thread::sleep(Duration::from_millis(2));
    }
}

const LONG: (&str, &str) = ("steps = 40", "steps = 800");

/// A study that has trained for some steps, and what it is held against: the same one, left alone.
fn under_way() -> (Bench, Bench, Child) {
    let (reference, bench) = (Bench::with(&[LONG]), Bench::with(&[LONG]));
    reference.study().good();
    let mut child = bench.start(&["study", "study.toml", "--out", "out", "--jobs", "1"]);
    wait_for_steps(&bench, &mut child);
    (reference, bench, child)
}

#[cfg(unix)]
fn signal(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("a Unix has `kill`").success());
}

/// Run again it ends like the one that was left alone.
fn goes_on(reference: &Bench, bench: &Bench) {
    bench.study().good();
    whole(&bench.path("out"));
    same_results(&reference.path("out"), &bench.path("out"));
}

/// It has said that it is interrupted, and saved where it was, not at the last multiple of `checkpoints.every_steps` alone.
fn saved_where_it_was(fault: &str, bench: &Bench, ended: &Ran) {
    assert_eq!(ended.code, Some(130), "{}", ended.said());
    assert!(ended.stderr.contains("saving; once more stops at once\n"), "{}", ended.stderr);
    let told = "interrupted: 4 runs are to go on; run the same command again";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    saw(fault, ended, told);
    let steps = json_lines(&bench.path("out/runs/whole/tokens/seed-1/metrics.jsonl")).len();
    let saved = format!("out/runs/whole/tokens/seed-1/checkpoints/{steps:08}/state.json");
    assert!(bench.path(&saved).exists(), "{saved} is not there");
}

#[test]
#[cfg(unix)]
fn interrupted_it_saves_and_goes_on() {
    let (reference, bench, child) = under_way();
    signal("-INT", &child);
    saved_where_it_was("interrupted", &bench, &bench.end(child));
    goes_on(&reference, &bench);
}

#[test]
#[cfg(unix)]
fn asked_to_end_it_saves_and_goes_on() {
    let (reference, bench, child) = under_way();
    signal("-TERM", &child);
    saved_where_it_was("asked to end", &bench, &bench.end(child));
    goes_on(&reference, &bench);
}

#[test]
#[cfg(unix)]
fn interrupted_twice_it_stops_at_once_and_goes_on() {
    let (reference, bench, child) = under_way();
    // Suspended meanwhile, so that it cannot be done with saving before the second comes.
    for name in ["-STOP", "-INT", "-CONT"] {
        signal(name, &child);
    }
    signal("-INT", &child);
    let ended = bench.end(child);
    assert_eq!(ended.code, Some(130), "{}", ended.said());
    saw("interrupted twice", &ended, "saving; once more stops at once");
    goes_on(&reference, &bench);
}

/// The study under a limit of the shell's.
#[cfg(unix)]
fn limited(bench: &Bench, limit: &str) -> Ran {
    let script = format!("{limit}; exec \"$0\" study study.toml --out out --jobs 1");
    let plain = bench.command(&[]);
    let mut shell = Command::new("/bin/bash");
    shell.args(["-c", &script, support::SAPWOOD]).env_clear();
    shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(bench.path("")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    bench.end(shell.spawn().expect("this system has a shell"))
}

#[test]
#[cfg(target_os = "linux")]
fn a_limit_on_the_size_of_files_ends_it_and_without_it_goes_on() {
    let (reference, bench) = (Bench::new(), Bench::new());
    reference.study().good();
    // In blocks of 1 KiB; a checkpoint's moments are larger.
    let ran = limited(&bench, "ulimit -f 20");
    assert_ne!(ran.code, Some(0), "{}", ran.said());
    saw("a limit on the size of files", &ran, ran.stderr.lines().next().unwrap_or("nothing"));
    goes_on(&reference, &bench);
}

#[test]
#[cfg(target_os = "linux")]
fn without_memory_it_ends_and_with_it_goes_on() {
    let large = [
        ("layers = 2\nwidth = 16", "layers = 2\nwidth = 128"),
        ("context = 16", "context = 128"),
        (
            "sequences_per_step = 4\nmicro_batch_sequences = 4",
            "sequences_per_step = 128\nmicro_batch_sequences = 128",
        ),
        ("seeds = [1, 2]", "seeds = [1]"),
        ("compare = [\"tokens\", \"compute\"]", "compare = [\"tokens\"]"),
        ("steps = 40", "steps = 2"),
        ("every_steps = 10\nsequences = 16", "every_steps = 10\nsequences = 1"),
        ("grow_after_steps = 15", "grow_after_steps = 1"),
    ];
    let (reference, bench) = (Bench::with(&large), Bench::with(&large));
    reference.study().good();
    let ran = limited(&bench, "ulimit -v 300000");
    assert_eq!(ran.code, None, "{}", ran.said());
    let told = ran.stderr.lines().find(|line| line.contains("memory allocation of"));
    saw_about("no memory left", &ran, told.unwrap_or_else(|| panic!("{}", ran.said())));
    goes_on(&reference, &bench);
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: PathBuf, kib: u32) -> Option<SmallDisk> {
        fs::create_dir(&folder).expect("room for a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "sapwood-test"]).arg(&folder);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(SmallDisk(folder))
    }

    fn grow(&self, kib: u32) {
        self.remount(&format!("size={kib}k"));
    }

    fn remount(&self, how: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{how}")]).arg(&self.0);
        assert!(mount.status().expect("it was mounted by the same command").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_an_error_and_with_room_it_goes_on() {
    let (reference, _) = undisturbed();
    let bench = busy();
    let Some(disk) = SmallDisk::mount(bench.path("disk"), 900) else {
        return support::left_out("full-disk", "this user may not mount a tmpfs");
    };
    let study = ["study", "study.toml", "--out", "disk/out", "--jobs", "1"];
    let ran = bench.sapwood(&study);
    assert_eq!(ran.code, Some(8), "{}", ran.said());
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: free some space and run the same command again"), "{}", ran.stderr);
    // Which file it is that finds no room depends on the order of the runs' ends.
    saw("the disk is full", &ran, "error: RUN: cannot write FILE: No space left on device (os error 28)");
    let left = temporary_files(&bench.path("disk/out"));
    assert!(left.is_empty(), "half-written files take up the room that is missing: {left:?}");
    let before = finished(&bench.path("disk/out"));
    assert!(!before.is_empty(), "the disk was too small for any run: {}", ran.said());
    disk.grow(64 * 1024);
    bench.sapwood(&study).good();
    none_repeated(&before, &finished(&bench.path("disk/out")));
    whole(&bench.path("disk/out"));
    same_results(&reference.path("out"), &bench.path("disk/out"));
}

#[test]
fn a_disk_that_cannot_be_written_is_an_error_and_later_it_goes_on() {
    let (reference, bench) = (Bench::new(), Bench::new());
    reference.study().good();
    let Some(disk) = SmallDisk::mount(bench.path("disk"), 64 * 1024) else {
        return support::left_out("full-disk", "this user may not mount a tmpfs");
    };
    let only = ["study", "study.toml", "--out", "disk/out", "--only", "whole/tokens/seed-1"];
    bench.sapwood(&only).good();
    let before = finished(&bench.path("disk/out"));
    disk.remount("ro");
    let study = ["study", "study.toml", "--out", "disk/out", "--jobs", "1"];
    let ran = bench.sapwood(&study);
    assert_eq!(ran.code, Some(8), "{}", ran.said());
    saw("the disk becomes read-only", &ran, "");
    disk.remount("rw");
    bench.sapwood(&study).good();
    none_repeated(&before, &finished(&bench.path("disk/out")));
    same_results(&reference.path("out"), &bench.path("disk/out"));
}
