//! The text of `job.sh`: what Slurm runs once a task, to be read by people, too.

use std::path::Path;

use super::{JobArray, slurm_folder};

/// Before its time limit a task gets that many seconds to save: Slurm may be a minute late, or early.
const SECONDS_TO_SAVE: u32 = 60;

/// What a task does. The binary runs in the background, since a shell obeys signals only while it waits.
const TASK: &str = r#"run=${runs[$SLURM_ARRAY_TASK_ID]}
task=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
echo "$(date '+%F %T') $(hostname): task $task, start $((${SLURM_RESTART_COUNT:-0} + 1)): $run"

"${command[@]}" --only "$run" &
child=$!
# The time limit is near: save, stop, and go back into the queue.
trap 'signalled=1; limit=1; kill -TERM "$child" 2> /dev/null' USR1
# Cancelled or preempted: save and stop. Whether the task comes again is for Slurm to say.
trap 'signalled=1; kill -TERM "$child" 2> /dev/null' TERM
signalled=1 limit=
while [ -n "$signalled" ]; do
  signalled=
  wait "$child"
  code=$?
done
echo "$(date '+%F %T') $(hostname): task $task ends with $code: $run"

# 130: it is saved, and has more to do. 143: it had nothing to save yet.
if [ -n "$limit" ] && { [ "$code" = 130 ] || [ "$code" = 143 ]; }; then
  # Slurm ends this script when it has put the task back.
  scontrol requeue "$task" && sleep 60
fi
exit "$code"
"#;

impl JobArray<'_> {
    /// The script that is to lie there.
    pub(super) fn script(&self, path: &Path) -> String {
        let (last, limit) = (self.runs.len().saturating_sub(1), self.at_once);
        let limit = limit.map_or_else(String::new, |tasks| format!("%{tasks}"));
        // In a pattern of Slurm's, a percent sign begins a name.
        let output = slurm_folder(self.folder).display().to_string().replace('%', "%%");
        let sbatch: Vec<String> = self.sbatch.iter().map(|word| quoted(word)).collect();
        let submitted = [vec!["sbatch".into()], sbatch, vec![quoted(&path.display().to_string())]].concat();
        let options = [
            format!("--job-name=\"sapwood {}\"", self.study),
            format!("--array=0-{last}{limit}"),
            "--ntasks=1".into(),
            format!("--cpus-per-task={}", self.threads_per_run),
            "--requeue".into(),
            "--open-mode=append".into(),
            format!("--signal=B:USR1@{SECONDS_TO_SAVE}"),
            format!("--output=\"{output}/%A_%a.out\""),
        ];
        let options = options.map(|option| format!("#SBATCH {option}\n")).concat();
        let submitted = submitted.join(" ");
        let (runs, command) = (listed(self.runs), listed(self.command));
        format!(
            "#!/bin/bash\n# Written by `sapwood study --executor slurm`: a task for each run that was missing. Submitted by\n\
             # {submitted}\n{options}\nruns=(\n{runs})\ncommand=(\n{command})\n{TASK}"
        )
    }
}

/// The elements of an array, one a line.
fn listed(words: &[String]) -> String {
    words.iter().map(|word| format!("  {}\n", quoted(word))).collect()
}

/// As a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn script(runs: &[String], command: &[String], sbatch: &[String]) -> String {
        let folder = Path::new("/shared/runs/tiny");
        let (study, threads_per_run, at_once) = ("tiny", 2, Some(4));
        let job = JobArray { study, folder, runs, command, threads_per_run, at_once, sbatch };
        job.script(Path::new("/shared/runs/tiny/slurm/job.sh"))
    }

    #[test]
    fn it_begins_with_what_slurm_is_asked_for_and_what_it_runs() {
        let text = script(
            &words(&["whole/tokens/seed-1", "stack/compute/seed-1"]),
            &words(&["/bin/sapwood", "study", "/shared/it's.toml", "--set", "a=b c"]),
            &words(&["--gres=gpu:1", "--comment=two words"]),
        );
        let (begins, _) = text.split_once("run=").expect("a task follows");
        expect_test::expect![[r#"
            #!/bin/bash
            # Written by `sapwood study --executor slurm`: a task for each run that was missing. Submitted by
            # sbatch --gres=gpu:1 '--comment=two words' /shared/runs/tiny/slurm/job.sh
            #SBATCH --job-name="sapwood tiny"
            #SBATCH --array=0-1%4
            #SBATCH --ntasks=1
            #SBATCH --cpus-per-task=2
            #SBATCH --requeue
            #SBATCH --open-mode=append
            #SBATCH --signal=B:USR1@60
            #SBATCH --output="/shared/runs/tiny/slurm/%A_%a.out"

            runs=(
              whole/tokens/seed-1
              stack/compute/seed-1
            )
            command=(
              /bin/sapwood
              study
              '/shared/it'\''s.toml'
              --set
              'a=b c'
            )
        "#]]
        .assert_eq(begins);
    }

    /// Runs a task with that command in the place of the binary, `scontrol` answering with its arguments; sends the
    /// signal when the command has said that it is there. Answers its exit code and what was printed.
    fn task(command: &str, signal: Option<&str>) -> (Option<i32>, String) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let scontrol = "scontrol() { echo \"scontrol $*\"; return 1; }\n";
        let text = script(&words(&["a", "b"]), &words(&["/bin/bash", "-c", command, "task"]), &[]);
        let (ready, printed) = (folder.path().join("ready"), folder.path().join("printed"));
        let mut bash = Command::new("/bin/bash");
        bash.args(["-c", &format!("{scontrol}{text}")]).current_dir(folder.path());
        bash.envs([("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_ARRAY_JOB_ID", "7")]);
        let mut child =
            bash.stdout(fs::File::create(&printed).expect("room")).spawn().expect("there is a bash");
        if let Some(signal) = signal {
            while !ready.exists() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
            assert!(sent.expect("a Unix has `kill`").success());
        }
        let code = child.wait().expect("it is ours").code();
        (code, fs::read_to_string(&printed).expect("what it printed"))
    }

    #[test]
    fn a_task_runs_its_run_and_ends_as_that_does() {
        let (code, printed) = task("echo \"$1 $2\"; exit 7", None);
        assert!(printed.contains("\n--only b\n") && printed.contains("start 1: b"), "{printed}");
        assert_eq!((code, printed.contains("scontrol")), (Some(7), false), "{printed}");
        assert_eq!(task("exit 130", None).0, Some(130));
    }

    #[test]
    fn near_its_time_limit_a_task_saves_and_goes_back_into_the_queue() {
        let saves = "trap 'echo saved; exit 130' TERM; touch ready; while :; do sleep 0.02; done";
        let (code, printed) = task(saves, Some("-USR1"));
        assert_eq!(code, Some(130), "{printed}");
        assert!(printed.contains("saved\n") && printed.contains("scontrol requeue 7_1"), "{printed}");
        let (code, printed) = task("touch ready; while :; do sleep 0.02; done", Some("-USR1"));
        assert_eq!((code, printed.contains("scontrol requeue 7_1")), (Some(143), true), "{printed}");
        let (code, printed) = task(saves, Some("-TERM"));
        assert_eq!((code, printed.contains("scontrol")), (Some(130), false), "{printed}");
        let done_by_then = "trap 'exit 0' TERM; touch ready; while :; do sleep 0.02; done";
        let (code, printed) = task(done_by_then, Some("-USR1"));
        assert_eq!((code, printed.contains("scontrol")), (Some(0), false), "{printed}");
    }
}
