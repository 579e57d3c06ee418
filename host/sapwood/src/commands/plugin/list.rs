//! `sapwood plugin list`: what is on the search path, by the libraries' facts; none of their code runs.

use std::process::ExitCode;

use plugin_host::api::{Descriptor, Kind};
use plugin_host::{Registry, SearchPath};
use serde_json::json;

use super::facts::print_json;
use crate::Outcome;
use crate::args::ListArgs;
use crate::output::result_line;

pub(crate) fn list(args: &ListArgs) -> Outcome {
    let registry = Registry::scan(SearchPath::standard(&args.plugins.plugin_path));
    if args.json {
        let libraries = registry.libraries().map(|found| match &found.facts {
            Ok(facts) => json!({ "library": found.path, "facts": facts }),
            Err(refusal) => {
                json!({ "library": found.path, "passed_over": refusal.reason, "hint": refusal.hint })
            }
        });
        print_json(&libraries.collect())?;
        return Ok(ExitCode::SUCCESS);
    }
    for kind in Kind::ALL {
        result_line!("{kind}");
        let rows = rows(&registry, kind);
        for (Descriptor { id, version, summary, .. }, revision) in &rows {
            result_line!("  {id:<26} {version:<8} ABI {revision:<3} {summary}");
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
    if let Some(reason) = SearchPath::own_folder_unknown() {
        result_line!("looked for, but {reason}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The plugins of a kind, by id, each with the newest revision of the interface that its library has.
fn rows(registry: &Registry, kind: Kind) -> Vec<(&Descriptor, u32)> {
    let mut rows = Vec::new();
    for facts in registry.libraries().filter_map(|found| found.facts.as_ref().ok()) {
        let revisions = facts.interfaces.iter().filter(|interface| interface.kind == kind);
        let revision = revisions.map(|interface| interface.revision).max().unwrap_or_default();
        rows.extend(
            facts.plugins.iter().filter(|plugin| plugin.kind == kind).map(|plugin| (plugin, revision)),
        );
    }
    rows.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    rows
}
