//! `sapwood plugin lock`, and what `--locked` does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use plugin_host::PluginLock;
use serde_json::json;
use study::{Lab, Source};

use super::facts::print_json;
use crate::args::{FileArgs, LockArgs};
use crate::failure::Failed;
use crate::output::result_line;
use crate::{Outcome, engines};

pub(crate) fn lock(args: &LockArgs) -> Outcome {
    let source = Source::read(&args.file, &[])?;
    let (path, build) = (&args.plugins.plugin_path, &engines::for_planning);
    let lab = Lab::open(source, path, build, crate::suites::open)?;
    let lock = lab.lock()?;
    let path = args.out.clone().unwrap_or_else(|| beside(&args.file));
    lock.write(&path)?;
    if args.json {
        print_json(&json!({ "written": path, "plugins": lock.plugins }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for plugin in &lock.plugins {
        result_line!(
            "{:<12} {:<26} {:<8} {}",
            plugin.kind.to_string(),
            plugin.id,
            plugin.version,
            plugin.sha256
        );
    }
    result_line!("written: {}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// With `--locked`, holds a study to the lock beside its file.
pub(crate) fn require(file: &FileArgs, lab: &mut Lab<'_>) -> Result<(), Failed> {
    if file.locked {
        lab.require(PluginLock::read(&beside(&file.file))?);
    }
    Ok(())
}

fn beside(study: &Path) -> PathBuf {
    study.with_file_name("plugins.lock")
}
