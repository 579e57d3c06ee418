//! `sapwood doctor`: what this machine has.

use std::process::ExitCode;

use plugin_host::{Registry, SearchPath};

use crate::args::PluginPath;
use crate::output::result_line;
use crate::{Outcome, engines};

pub(crate) fn doctor(args: &PluginPath) -> Outcome {
    result_line!(
        "sapwood {}, {} {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    let cores =
        std::thread::available_parallelism().map_or_else(|_| "unknown".into(), |cores| cores.to_string());
    result_line!("cores: {cores}");
    result_line!("\nengines");
    for (engine, device, found) in engines::devices() {
        match found {
            Ok(what) => result_line!("  {engine:<10} {device:<5} {what}"),
            Err(error) => result_line!("  {engine:<10} {device:<5} not available: {error}"),
        }
    }
    let search_path = SearchPath::standard(&args.plugin_path);
    result_line!("\nplugins are looked for in");
    for folder in &search_path.0 {
        result_line!("  {}{}", folder.display(), if folder.is_dir() { "" } else { "  (not there)" });
    }
    let registry = Registry::scan(search_path);
    let (good, refused): (Vec<_>, Vec<_>) = registry.libraries().partition(|found| found.facts.is_ok());
    result_line!("  {} libraries can be loaded", good.len());
    for found in refused {
        if let Err(refusal) = &found.facts {
            result_line!("  {} {refusal}\n    {}", found.path.display(), refusal.hint);
        }
    }
    result_line!("\nplugins that ended a process");
    let leftovers = plugin_host::blame::leftovers();
    for leftover in &leftovers {
        result_line!("  {leftover}");
    }
    if leftovers.is_empty() {
        result_line!("  none since the last start");
    }
    Ok(ExitCode::SUCCESS)
}
