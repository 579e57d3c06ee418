//! `sapwood plugin lock`: which bytes each plugin of a study has.

use std::process::ExitCode;

use plugin_host::Lock;
use study::{Lab, Source};
use trainer::ErrorClass;
use trainer::folder::write_whole;

use crate::args::{DeviceName, EngineArgs, EngineName, LockArgs};
use crate::failure::Failed;
use crate::output::result_line;
use crate::{Outcome, engines};

pub(crate) fn lock(args: &LockArgs) -> Outcome {
    // Nothing is computed: any engine will do.
    let build = engines::builder(EngineArgs { engine: EngineName::Native, device: DeviceName::Cpu });
    let (mut plugins, mut file) = (Vec::new(), None);
    for study in &args.files {
        let lab = Lab::open(Source::read(study, &[])?, &args.plugins.plugin_path, &build)?;
        plugins.extend(lab.provenances()?);
        file.get_or_insert(lab.lock_file());
    }
    let internal = |what: String| Failed::new(ErrorClass::Internal, what, "please report this");
    let file = file.ok_or_else(|| internal("no study was named".into()))?;
    let text = Lock::of(plugins.iter().cloned(), &file).text();
    write_whole(&file, text.map_err(|error| internal(error.to_string()))?.as_bytes())?;
    plugins.sort_by(|a, b| (a.kind.number(), &a.id).cmp(&(b.kind.number(), &b.id)));
    plugins.dedup();
    for plugin in &plugins {
        result_line!(
            "{:<12} {:<24} {:<8} {}",
            plugin.kind.to_string(),
            plugin.id,
            plugin.version,
            plugin.sha256
        );
    }
    result_line!("{} plugins in {}", plugins.len(), file.display());
    Ok(ExitCode::SUCCESS)
}
