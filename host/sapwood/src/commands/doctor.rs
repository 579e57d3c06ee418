//! `sapwood doctor`: what this machine has.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;

use plugin_host::{Registry, SearchPath};

use crate::args::PluginPath;
use crate::{Outcome, engines};

pub(crate) fn doctor(args: &PluginPath) -> Outcome {
    println!("sapwood {}, {} {}", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    let cores =
        std::thread::available_parallelism().map_or_else(|_| "unknown".into(), |cores| cores.to_string());
    println!("cores: {cores}");
    println!("\nengines");
    for (engine, device, found) in engines::devices() {
        match found {
            Ok(what) => println!("  {engine:<10} {device:<5} {what}"),
            Err(error) => println!("  {engine:<10} {device:<5} not available: {error}"),
        }
    }
    let search_path = SearchPath::standard(&args.plugin_path);
    println!("\nplugins are looked for in");
    for folder in &search_path.0 {
        println!("  {}{}", folder.display(), if folder.is_dir() { "" } else { "  (not there)" });
    }
    let registry = Registry::scan(search_path);
    let (good, refused): (Vec<_>, Vec<_>) = registry.libraries().partition(|found| found.facts.is_ok());
    println!("  {} libraries can be loaded", good.len());
    for found in refused {
        if let Err(refusal) = &found.facts {
            println!("  {} {refusal}\n    {}", found.path.display(), refusal.hint);
        }
    }
    println!("\nplugins that ended a process");
    let leftovers = plugin_host::blame::leftovers();
    for leftover in &leftovers {
        println!("  {leftover}");
    }
    if leftovers.is_empty() {
        println!("  none since the last start");
    }
    Ok(ExitCode::SUCCESS)
}
