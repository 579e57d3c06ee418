//! A study on Slurm: a job array of one task a run. Not here: what a task does, which is to run one run with its claim;
//! Slurm may start it as often as it likes, and twice at once.
//!
//! ```text
//! STUDY/slurm/job.sh       what was submitted; the runs stand in it, by the index of their task
//!             job.json     under which number
//!             JOB_TASK.out what tasks print
//! ```

mod script;

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::{Deserialize, Serialize};
use trainer::TrainError;
use trainer::storage::{create_folder, read_json, write_json, write_whole};

use crate::StudyError;

/// A job array that is to be submitted.
#[derive(Clone, Debug)]
pub struct JobArray<'a> {
    /// The study's name.
    pub study: &'a str,
    /// Its folder, from the root on.
    pub folder: &'a Path,
    /// The runs, by index of their task.
    pub runs: &'a [String],
    /// The program and its arguments, to which `--only RUN` is added.
    pub command: &'a [String],
    /// Cores of a task.
    pub threads_per_run: usize,
    /// Tasks at once, at most.
    pub at_once: Option<usize>,
    /// Further arguments of `sbatch`.
    pub sbatch: &'a [String],
}

/// A job array that was submitted: the content of `job.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Slurm's number of it.
    pub job: String,
    /// How many tasks it has.
    pub tasks: usize,
}

impl JobArray<'_> {
    /// Writes `job.sh` and submits it.
    ///
    /// # Errors
    /// A disk that cannot be written, or `sbatch` is not there or refuses.
    pub fn submit(&self) -> Result<Submitted, StudyError> {
        let slurm = slurm_folder(self.folder);
        create_folder(&slurm)?;
        let script = slurm.join("job.sh");
        write_whole(&script, self.script(&script).as_bytes())?;
        let executable = std::fs::set_permissions(&script, Permissions::from_mode(0o755));
        executable.map_err(|source| TrainError::Storage { action: "write", path: script.clone(), source })?;
        let output = slurm_program(Command::new("sbatch").arg("--parsable").args(self.sbatch).arg(&script))?;
        if !output.status.success() {
            let message = format!("sbatch refuses the job: {}", said(&output));
            let hint =
                "`--sbatch ARG` passes on what this cluster asks for, such as an account or a partition";
            return Err(StudyError::Slurm { message, hint });
        }
        // `JOB`, or `JOB;CLUSTER` where there are several.
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let job = answer.split(';').next().unwrap_or_default().to_owned();
        let submitted = Submitted { job, tasks: self.runs.len() };
        write_json(&slurm.join("job.json"), &submitted)?;
        Ok(submitted)
    }
}

impl Submitted {
    /// What was submitted last for that study, if anything was.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn last(study: &Path) -> Result<Option<Submitted>, StudyError> {
        let path = slurm_folder(study).join("job.json");
        if path.is_file() { Ok(Some(read_json(&path)?)) } else { Ok(None) }
    }

    /// Tasks that wait, run or end; `None` where Slurm does not say now.
    ///
    /// # Errors
    /// `squeue` is not there.
    pub fn tasks_left(&self) -> Result<Option<usize>, StudyError> {
        let asked = ["--noheader", "--array", "--format=%i", "--jobs", &self.job];
        let output = slurm_program(Command::new("squeue").args(asked))?;
        if output.status.success() {
            return Ok(Some(String::from_utf8_lossy(&output.stdout).lines().count()));
        }
        // A job that has ended is forgotten after some minutes.
        Ok(said(&output).contains("Invalid job id").then_some(0))
    }
}

fn slurm_folder(study: &Path) -> PathBuf {
    study.join("slurm")
}

fn slurm_program(command: &mut Command) -> Result<Output, StudyError> {
    command.output().map_err(|error| {
        let program = command.get_program().to_string_lossy();
        let (message, hint) = match error.kind() {
            ErrorKind::NotFound => (
                format!("there is no `{program}` on this machine"),
                "run this where Slurm's jobs are submitted, or leave out `--executor slurm`",
            ),
            _ => (format!("`{program}` cannot be run: {error}"), "check Slurm's installation"),
        };
        StudyError::Slurm { message, hint }
    })
}

/// What went wrong, in the program's words.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> =
        text.lines().map(|line| line.trim_start_matches("sbatch: error: ").trim()).collect();
    lines.join("; ")
}
