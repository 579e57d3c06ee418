//! `sapwood plugin list` and `inspect`; the commands that do more stand in files below.

pub(crate) mod build;
mod facts;
pub(crate) mod install;
pub(crate) mod lock;
pub(crate) mod new;
pub(crate) mod pack;
pub(crate) mod sign;
pub(crate) mod validate;

use std::path::Path;
use std::process::ExitCode;

use plugin_host::api::{Descriptor, Kind, LibraryFacts};
use plugin_host::{PluginError, Registry, SearchPath};

use trainer::ErrorClass;

use crate::Outcome;
use crate::args::{InspectArgs, PluginPath};
use crate::failure::Failed;
use crate::output::result_line;

pub(crate) fn list(args: &PluginPath) -> Outcome {
    let registry = Registry::scan(SearchPath::standard(&args.plugin_path));
    for kind in Kind::ALL {
        let mut rows = Vec::new();
        for facts in registry.libraries().filter_map(|found| found.facts.as_ref().ok()) {
            let revisions = facts.interfaces.iter().filter(|interface| interface.kind == kind);
            let revision = revisions.map(|interface| interface.revision).max().unwrap_or_default();
            let plugins = facts.plugins.iter().filter(|plugin| plugin.kind == kind);
            rows.extend(plugins.map(|plugin| (plugin, revision)));
        }
        rows.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        result_line!("{kind}");
        for (plugin, revision) in &rows {
            let Descriptor { id, version, summary, .. } = plugin;
            result_line!("  {id:<24} {version:<8} ABI {revision:<3} {summary}");
        }
        if rows.is_empty() {
            result_line!("  none");
        }
    }
    for found in registry.libraries() {
        if let Err(refusal) = &found.facts {
            result_line!("passed over: {} {refusal}", found.path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn inspect(args: &InspectArgs) -> Outcome {
    let named = Path::new(&args.plugin);
    let is_file = named.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION);
    if is_file {
        let (folder, file) = (named.parent().unwrap_or(Path::new("")), named.to_path_buf());
        let registry = Registry::scan(SearchPath(vec![folder.to_path_buf()]));
        let facts = registry.facts_of(&file)?;
        print_library(&file, &facts);
        for plugin in &facts.plugins {
            print_plugin(&registry, plugin, &file)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let registry = Registry::scan(SearchPath::standard(&args.plugins.plugin_path));
    let mut found = Vec::new();
    for kind in Kind::ALL {
        match registry.find(kind, &args.plugin) {
            Ok(library) => found.push((kind, library.path.clone())),
            Err(PluginError::NotFound { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    if found.is_empty() {
        // The kind is not known, so any serves for the message; a strategy is the likeliest.
        registry.find(Kind::Strategy, &args.plugin)?;
    }
    for (kind, path) in found {
        let facts = registry.facts_of(&path)?;
        print_library(&path, &facts);
        for plugin in facts.plugins.iter().filter(|plugin| plugin.kind == kind && plugin.id == args.plugin) {
            print_plugin(&registry, plugin, &path)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_library(path: &Path, facts: &LibraryFacts) {
    result_line!("library     {}", path.display());
    result_line!("built with  sapwood-plugin {}, {}, {}", facts.sdk, facts.rustc, facts.target);
    let interfaces: Vec<String> =
        facts.interfaces.iter().map(|i| format!("{} {} ({})", i.kind, i.revision, i.layout)).collect();
    result_line!("interfaces  {}", interfaces.join(", "));
}

fn print_plugin(registry: &Registry, plugin: &Descriptor, path: &Path) -> Result<(), PluginError> {
    result_line!("\n{} `{}` {} ({})", plugin.kind, plugin.id, plugin.version, plugin.license);
    result_line!("{}", plugin.summary);
    if !plugin.homepage.is_empty() {
        result_line!("{}", plugin.homepage);
    }
    result_line!("\nconfiguration (JSON Schema):\n{}", registry.schema(plugin.kind, &plugin.id, path)?);
    Ok(())
}

/// The child of an isolated plugin.
pub(crate) fn host() -> Outcome {
    let served = plugin_host::isolation::serve();
    served.map_err(|message| {
        Failed::new(ErrorClass::Internal, message, "only the host itself runs this command")
    })?;
    Ok(ExitCode::SUCCESS)
}
