//! A study on a Slurm of two nodes, as daemons of this machine: it comes to the bits of the local executor, also where a
//! node dies, and where its daemon alone does and leaves its tasks behind. Needs Debian's `slurm-wlm` and `munge`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{self, Bench, json, left_out, root, run_folders, same_results};

/// Two daemons on one machine, and the controller; ended with the test.
struct Cluster(PathBuf);

impl Cluster {
    /// `None` where Slurm is not installed.
    fn start(bench: &mut Bench) -> Option<Cluster> {
        let programs = ["slurmctld", "slurmd", "sbatch", "munged"];
        let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
        let is_there = |program: &&str| folders.iter().any(|folder| Path::new(folder).join(program).exists());
        if let Some(missing) = programs.iter().find(|program| !is_there(program)) {
            left_out("slurm", &format!("there is no `{missing}`"));
            return None;
        }
        let cluster = Cluster(bench.path("cluster"));
        let output = cluster.script("start").output().expect("a Unix has bash");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            left_out("slurm", &format!("its daemons do not start here: {}", said.trim()));
            return None;
        }
        let configuration = cluster.0.join("slurm.conf").display().to_string();
        bench.set_variable("SLURM_CONF", &configuration);
        Some(cluster)
    }

    fn script(&self, command: &str) -> Command {
        let mut script = Command::new("bash");
        script.arg(root().join("tests/slurm/cluster")).arg(command).arg(&self.0);
        // The daemons would keep a pipe open for as long as they live.
        script.stdin(Stdio::null()).stdout(Stdio::null());
        script.stderr(fs::File::create(self.0.with_extension("said")).expect("room for a log"));
        script
    }

    fn asked(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(args).env("SLURM_CONF", self.0.join("slurm.conf"));
        let output = command.output().expect("it was looked for");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The daemon of a node.
    fn daemon(&self, node: &str) -> i32 {
        let text = fs::read_to_string(self.0.join(format!("{node}.pid"))).expect("it was started");
        text.trim().parse().expect("a number of a process")
    }

    /// Tasks that run on that node, such as `1_3`.
    fn tasks_on(&self, node: &str) -> Vec<String> {
        let args = ["--noheader", "--array", "--states=running", "--format=%i", "--nodelist", node];
        self.asked("squeue", &args).lines().map(|line| line.trim().to_owned()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.script("stop").status();
    }
}

/// Eight arms with two seeds, each run long enough to be caught at.
fn bench(steps: u32) -> Bench {
    let steps = format!("steps = {steps}");
    let bench = Bench::with(&[
        ("steps = 40", &steps),
        ("[checkpoints]\nevery_steps = 10", "[checkpoints]\nevery_steps = 200"),
        ("every_steps = 10\nsequences = 16", "every_steps = 1000\nsequences = 16"),
    ]);
    for arm in 1..=6 {
        bench.add_to_study(&format!(
            "\n[arms.stack{arm}]\ninitializers.new_blocks = {{ use = \"sapwood/copy\" }}\nstrategy = {{ use = \
             \"sapwood/stack\", config = {{ factor = 2, grow_after_steps = {}, optimizer = \"copy\" }} }}\n",
            50 * arm
        ));
    }
    bench
}

const ON_SLURM: [&str; 7] = ["study", "study.toml", "--out", "out", "--executor", "slurm", "--wait"];

/// What the same study comes to on this machine, into `local`.
fn locally(bench: &Bench) {
    bench.sapwood(&["study", "study.toml", "--out", "local", "--jobs", "2"]).good();
}

/// Every run was brought to its end, once, and to the same bits as here; nothing is left of who worked on them.
fn finished_once(bench: &Bench) {
    same_results(&bench.path("local"), &bench.path("out"));
    let runs = run_folders(&bench.path("out"));
    assert_eq!(runs.len(), 16);
    for run in runs {
        let log = log_of(&run);
        assert_eq!(log.matches("is finished").count(), 1, "{}:\n{log}", run.display());
        let files = fs::read_dir(&run).expect("it is there").flatten();
        let names: Vec<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        assert!(names.iter().all(|name| !name.starts_with("CLAIM")), "{}: {names:?}", run.display());
    }
}

fn log_of(run: &Path) -> String {
    fs::read_to_string(run.join("sapwood.log")).unwrap_or_default()
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(signal: &str, pid: i32) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(sent.expect("a Unix has `kill`").success(), "{signal} {pid}");
}

/// A process that stands still until this is dropped.
struct Stopped(i32);

impl Stopped {
    fn now(pid: i32) -> Stopped {
        signal("-STOP", pid);
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

/// The parent of a process, from `/proc`.
fn parent(pid: i32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = text.rsplit_once(')').expect("the name is in parentheses");
    rest.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()).expect("its parent")
}

/// A run that a task of that node trains and has saved, with the number of its process.
fn at_work_on(cluster: &Cluster, bench: &Bench, node: &str) -> (PathBuf, i32) {
    until("a run at work on that node", || {
        let tasks = cluster.tasks_on(node);
        run_folders(&bench.path("out")).into_iter().find_map(|run| {
            let claim = fs::read_to_string(run.join("CLAIM")).ok()?;
            let claim: serde_json::Value = serde_json::from_str(&claim).ok()?;
            let is_there = tasks.iter().any(|task| claim["slurm_job"] == task.as_str());
            let saved = fs::read_dir(run.join("checkpoints")).is_ok_and(|mut found| {
                found.any(|entry| {
                    entry.is_ok_and(|entry| !entry.file_name().to_string_lossy().contains("tmp"))
                })
            });
            let pid = i32::try_from(claim["pid"].as_i64()?).ok()?;
            (is_there && saved && !run.join("DONE").exists()).then_some((run, pid))
        })
    })
}

fn ends_well(bench: &Bench, child: Child) {
    let ended = bench.end(child);
    assert_eq!(ended.code, Some(0), "{}", ended.said());
    assert!(ended.stdout.to_lowercase().contains("verdict"), "{}", ended.said());
}

#[test]
fn on_two_nodes_a_study_comes_to_the_same_bits() {
    let mut bench = bench(400);
    let Some(_cluster) = Cluster::start(&mut bench) else { return };
    locally(&bench);
    let printed = bench.sapwood(&ON_SLURM).good();
    assert!(printed.starts_with("submitted as job 1, 16 tasks\n"), "{printed}");
    assert!(printed.to_lowercase().contains("verdict"), "{printed}");
    finished_once(&bench);
    let nodes: Vec<String> = (0..16)
        .map(|task| fs::read_to_string(bench.path(&format!("out/slurm/1_{task}.out"))).expect("its output"))
        .collect();
    assert!(nodes.iter().all(|output| output.contains("ends with 0: ")), "{nodes:?}");
    // Nothing is missing: nothing is submitted, and the report is the same.
    let again = bench.sapwood(&ON_SLURM).good();
    assert_eq!(again, printed.replacen("submitted as job 1, 16 tasks\n", "", 1));
}

#[test]
fn where_a_node_dies_its_runs_go_on_elsewhere_from_their_checkpoints() {
    let mut bench = bench(4000);
    let Some(cluster) = Cluster::start(&mut bench) else { return };
    locally(&bench);
    let child = bench.start(&ON_SLURM);
    let (run, pid) = at_work_on(&cluster, &bench, "node2");
    let status = bench.sapwood(&["status", "out"]).good();
    assert!(status.contains("by ") && status.contains("Slurm job 1_"), "{status}");
    // All at once, as when the power fails: the daemon, what it started a task with, the task's script, the run.
    let script = parent(pid);
    for process in [cluster.daemon("node2"), parent(script), script, pid] {
        signal("-KILL", process);
    }
    ends_well(&bench, child);
    finished_once(&bench);
    let log = log_of(&run);
    assert_eq!(log.matches(" starts").count(), 2, "{log}");
    assert!(log.contains("was left behind by") && log.contains("goes on from the checkpoint"), "{log}");
}

#[test]
fn where_a_daemon_dies_and_leaves_its_task_behind_nobody_runs_it_twice() {
    let mut bench = bench(4000);
    let Some(cluster) = Cluster::start(&mut bench) else { return };
    locally(&bench);
    let child = bench.start(&ON_SLURM);
    let (run, pid) = at_work_on(&cluster, &bench, "node2");
    signal("-KILL", cluster.daemon("node2"));
    // The orphan is slow: it is not done yet when Slurm has given its task to the other node.
    let orphan = Stopped::now(pid);
    until("its successor waits for it", || log_of(&run).contains("waits: ").then_some(()));
    drop(orphan);
    ends_well(&bench, child);
    finished_once(&bench);
    // It looks every half second, and the study's end does not wait for it.
    until("its successor notices", || log_of(&run).contains("has waited").then_some(()));
    assert_eq!(log_of(&run).matches(" starts").count(), 1, "{}", log_of(&run));
}

#[test]
fn what_slurm_refuses_is_one_error() {
    let mut bench = Bench::new();
    let study = ["study", "study.toml", "--out", "out", "--executor", "slurm"];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sbatch = folder.path().join("sbatch");
    bench.set_variable("PATH", &folder.path().display().to_string());
    let ran = bench.sapwood(&study);
    assert_eq!(
        ran.said(),
        "error: there is no `sbatch` on this machine\nhint: run this where Slurm's jobs are submitted, or leave out \
         `--executor slurm`\nexit 8\n"
    );
    let refuses = "#!/bin/sh\necho 'sbatch: error: invalid account' >&2\nexit 1\n";
    fs::write(&sbatch, refuses).expect("room for a script");
    executable(&sbatch);
    let ran = bench.sapwood(&study);
    assert_eq!(
        ran.said(),
        "error: sbatch refuses the job: invalid account\nhint: `--sbatch ARG` passes on what this cluster asks for, such \
         as an account or a partition\nexit 8\n"
    );
    // What it is asked for, and what is remembered of its answer.
    fs::write(&sbatch, "#!/bin/sh\necho \"$@\" > \"$XDG_STATE_HOME.asked\"\necho '12;here'\n").expect("room");
    let with = [&study[..], &["--sbatch=--gres=gpu:1", "--jobs", "3", "--device", "cuda"]].concat();
    assert_eq!(bench.sapwood(&with).good(), "submitted as job 12, 4 tasks\n");
    assert_eq!(json(&bench.path("out/slurm/job.json"))["job"], "12");
    let asked = fs::read_to_string(bench.path("state.asked")).expect("it was asked");
    assert!(
        asked.starts_with("--parsable --gres=gpu:1 /") && asked.ends_with("/out/slurm/job.sh\n"),
        "{asked}"
    );
    let script = fs::read_to_string(bench.path("out/slurm/job.sh")).expect("what it was given");
    assert!(script.contains("--array=0-3%3\n") && script.contains("  --device\n  cuda:0\n"), "{script}");
    assert!(support::run_folders(&bench.path("out")).is_empty(), "something was run here");
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}
