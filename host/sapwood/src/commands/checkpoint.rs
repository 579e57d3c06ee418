//! `sapwood checkpoint`: what a run has saved, whether it is whole, and room made of what is old.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use trainer::checkpoint::{self, list, load, size_in_bytes};
use trainer::folder::{RunFolder, runs_below};
use trainer::{ErrorClass, TrainError};

use crate::Outcome;
use crate::args::{CheckpointArgs, CheckpointCommand, PruneArgs};
use crate::failure::{Failed, code_of};
use crate::output::{bytes, json_of, note_line, result_line};

/// A checkpoint, as it is listed.
#[derive(Serialize)]
struct Listed {
    run: String,
    checkpoint: String,
    bytes: u64,
    /// What is wrong with it; only looked for by `verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

pub(crate) fn checkpoint(command: &CheckpointCommand) -> Outcome {
    match command {
        CheckpointCommand::List(args) => {
            let all = listed(&runs(&args.folder)?, |_, _| Ok(None))?;
            print(args, &all)?;
            Ok(ExitCode::SUCCESS)
        }
        CheckpointCommand::Verify(args) => verify(args),
        CheckpointCommand::Prune(args) => prune(args),
    }
}

fn verify(args: &CheckpointArgs) -> Outcome {
    let all = listed(&runs(&args.folder)?, damage)?;
    print(args, &all)?;
    let damaged = all.iter().filter(|checkpoint| checkpoint.damage.is_some()).count();
    if damaged == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    note_line!("{damaged} of {} are damaged; a run goes on from its newest whole one", all.len());
    Ok(ExitCode::from(code_of(ErrorClass::Resource)))
}

fn damage(run: &RunFolder, folder: &Path) -> Result<Option<String>, TrainError> {
    let shape = run.bound_run()?.config.model;
    Ok(load(folder, &shape).err().map(|error| error.to_string()))
}

fn prune(args: &PruneArgs) -> Outcome {
    let mut removed = Vec::new();
    for run in runs(&args.of.folder)? {
        let before = listed(std::slice::from_ref(&run), |_, _| Ok(None))?;
        checkpoint::prune(&run.checkpoints(), args.keep.into())?;
        let stay = list(&run.checkpoints())?;
        let is_gone = |listed: &Listed| !stay.iter().any(|path| path.ends_with(&listed.checkpoint));
        removed.extend(before.into_iter().filter(is_gone));
    }
    print(&args.of, &removed)?;
    if !args.of.json {
        let freed = removed.iter().map(|checkpoint| checkpoint.bytes).sum();
        result_line!("{} removed, {} of room made", removed.len(), bytes(freed));
    }
    Ok(ExitCode::SUCCESS)
}

fn runs(folder: &Path) -> Result<Vec<RunFolder>, Failed> {
    let found = runs_below(folder);
    if found.is_empty() {
        let message = format!("{} holds neither a run nor a study with one", folder.display());
        let hint = "name a folder such as runs/quickstart, or one below its runs/";
        return Err(Failed::new(ErrorClass::Config, message, hint));
    }
    Ok(found)
}

fn listed(
    runs: &[RunFolder],
    damage: fn(&RunFolder, &Path) -> Result<Option<String>, TrainError>,
) -> Result<Vec<Listed>, Failed> {
    let mut all = Vec::new();
    for run in runs {
        let name = run.bound_run()?.config.name();
        for folder in list(&run.checkpoints())? {
            let checkpoint = folder.file_name().map(PathBuf::from).unwrap_or_default().display().to_string();
            let (bytes, damage) = (size_in_bytes(&folder)?, damage(run, &folder)?);
            all.push(Listed { run: name.clone(), checkpoint, bytes, damage });
        }
    }
    Ok(all)
}

fn print(args: &CheckpointArgs, all: &[Listed]) -> Result<(), Failed> {
    if args.json {
        result_line!("{}", json_of(&all)?);
        return Ok(());
    }
    let widest = all.iter().map(|checkpoint| checkpoint.run.len()).max().unwrap_or(0);
    for Listed { run, checkpoint, bytes: size, damage } in all {
        let damage = damage.as_ref().map_or_else(String::new, |damage| format!("  damaged: {damage}"));
        result_line!("{run:<widest$}  {checkpoint:<20}  {:>9}{damage}", bytes(*size));
    }
    Ok(())
}
