//! What a library says about itself, printed for people and as JSON.

use std::path::Path;

use plugin_host::Installed;
use plugin_host::api::{Descriptor, LibraryFacts};
use serde_json::{Value, json};
use trainer::ErrorClass;

use crate::failure::Failed;
use crate::output::result_line;

pub(super) fn print_facts(path: &Path, facts: &LibraryFacts) {
    print_library(path, facts);
    for plugin in &facts.plugins {
        result_line!("plugin      {}: {}", plugin_line(plugin), plugin.summary);
    }
}

/// Kind, id and version.
pub(super) fn plugin_line(plugin: &Descriptor) -> String {
    format!("{} `{}` {}", plugin.kind, plugin.id, plugin.version)
}

/// # Errors
/// Facts that JSON cannot hold.
pub(super) fn print_facts_json(
    path: &Path,
    facts: &LibraryFacts,
    installed: Option<&Installed>,
) -> Result<(), Failed> {
    let mut said = json!({ "library": path, "facts": facts });
    if let Some(installed) = installed {
        said["sha256"] = json!(installed.sha256);
        said["replaced"] = match &installed.replaced {
            Some(replaced) => json!({ "sha256": replaced.sha256, "plugins": replaced.plugins }),
            None => json!(null),
        };
    }
    print_json(&said)
}

/// # Errors
/// What JSON cannot hold.
pub(super) fn print_json(said: &Value) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(said)
        .map_err(|error| Failed::new(ErrorClass::Internal, error, "please report this"))?;
    result_line!("{text}");
    Ok(())
}

pub(super) fn print_library(path: &Path, facts: &LibraryFacts) {
    result_line!("library     {}", path.display());
    result_line!("built with  sapwood-plugin {}, {}, {}", facts.sdk, facts.rustc, facts.target);
    let interfaces: Vec<String> =
        facts.interfaces.iter().map(|i| format!("{} {} ({})", i.kind, i.revision, i.layout)).collect();
    result_line!("interfaces  {}", interfaces.join(", "));
}
