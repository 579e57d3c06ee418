//! `sapwood plugin inspect`: a library's facts, and what its plugins take. The schemas are made by the plugins'
//! code, so the library is loaded.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use plugin_host::api::{Descriptor, Kind, LibraryFacts};
use plugin_host::{PluginError, Registry, SearchPath};
use serde_json::{Value, json};

use super::facts::{print_json, print_library};
use super::numbers::{Found, numbers};
use super::page::page;
use crate::Outcome;
use crate::args::InspectArgs;
use crate::failure::Failed;
use crate::output::result_line;

/// A library, and those of its plugins that were asked for.
struct Inspected {
    path: PathBuf,
    facts: LibraryFacts,
    plugins: Vec<(Descriptor, String)>,
}

pub(crate) fn inspect(args: &InspectArgs) -> Outcome {
    let named = Path::new(&args.plugin);
    let is_file = named.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION);
    let inspected = if is_file { vec![file(named)?] } else { plugins(args)? };
    if args.json {
        print_json(&inspected.iter().map(as_json).collect())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.markdown {
        let studies = args.studies.iter().map(|file| Found::in_usual_folder(file));
        let studies: Vec<Found> = studies.collect::<Result<_, _>>()?;
        let plugins = inspected.iter().flat_map(|inspected| &inspected.plugins);
        let page = |(plugin, schema): &(Descriptor, String)| {
            let parts = [Some(page(plugin, &parsed(schema))), numbers(&plugin.id, &studies)];
            parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
        };
        let pages: Vec<String> = plugins.map(page).collect();
        result_line!("{}", pages.join("\n\n"));
        return Ok(ExitCode::SUCCESS);
    }
    for Inspected { path, facts, plugins } in &inspected {
        print_library(path, facts);
        plugins.iter().for_each(|(plugin, schema)| print_plugin(plugin, schema));
    }
    Ok(ExitCode::SUCCESS)
}

fn file(path: &Path) -> Result<Inspected, Failed> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let registry = Registry::scan(SearchPath(vec![folder.to_path_buf()]));
    Ok(look(&registry, path, |_| true)?)
}

/// The plugins of that id, of whatever kind.
fn plugins(args: &InspectArgs) -> Result<Vec<Inspected>, Failed> {
    let registry = Registry::scan(SearchPath::standard(&args.plugins.plugin_path));
    let mut found = Vec::new();
    for kind in Kind::ALL {
        match registry.find(kind, &args.plugin) {
            Ok(library) => {
                let wanted = |plugin: &Descriptor| plugin.kind == kind && plugin.id == args.plugin;
                found.push(look(&registry, &library.path, wanted)?);
            }
            Err(PluginError::NotFound { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    if found.is_empty() {
        // The kind is not known, so any serves for the message; a strategy is the likeliest.
        registry.find(Kind::Strategy, &args.plugin)?;
    }
    Ok(found)
}

fn look(
    registry: &Registry,
    path: &Path,
    wanted: impl Fn(&Descriptor) -> bool,
) -> Result<Inspected, PluginError> {
    let facts = registry.facts_of(path)?;
    let chosen = facts.plugins.iter().filter(|plugin| wanted(plugin));
    let with_schema =
        |plugin: &Descriptor| Ok((plugin.clone(), registry.schema(plugin.kind, &plugin.id, path)?));
    let plugins = chosen.map(with_schema).collect::<Result<_, PluginError>>()?;
    Ok(Inspected { path: path.to_path_buf(), facts, plugins })
}

fn as_json(Inspected { path, facts, plugins }: &Inspected) -> Value {
    let plugin = |(plugin, schema): &(Descriptor, String)| json!({ "kind": plugin.kind, "id": plugin.id, "config_schema": parsed(schema) });
    json!({ "library": path, "facts": facts, "plugins": plugins.iter().map(plugin).collect::<Value>() })
}

/// What is no JSON is told as the text that it is.
fn parsed(schema: &str) -> Value {
    serde_json::from_str(schema).unwrap_or_else(|_| Value::String(schema.to_owned()))
}

fn print_plugin(plugin: &Descriptor, schema: &str) {
    result_line!("\n{} `{}` {} ({})", plugin.kind, plugin.id, plugin.version, plugin.license);
    result_line!("{}", plugin.summary);
    if !plugin.homepage.is_empty() {
        result_line!("{}", plugin.homepage);
    }
    result_line!("\nconfiguration (JSON Schema):\n{schema}");
}
