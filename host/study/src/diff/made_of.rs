//! What two runs are made of, key by key.

use std::collections::BTreeMap;

use plugin_host::Provenance;
use serde::Serialize;
use serde_json::{Value, json};
use trainer::{MadeBy, RunFile, TrainError};

use super::Changed;

pub(super) fn config(old: &RunFile, new: &RunFile) -> Result<Vec<Changed>, TrainError> {
    changes(&old.config, &new.config)
}

pub(super) fn made_by(old: &RunFile, new: &RunFile) -> Result<Vec<Changed>, TrainError> {
    // What was found of plugins differs where they do, and that is told already.
    let without_plugins = |file: &RunFile| MadeBy { examined: BTreeMap::new(), ..file.made_by.clone() };
    changes(&without_plugins(old), &without_plugins(new))
}

pub(super) fn bound_to(old: &RunFile, new: &RunFile) -> Result<Vec<Changed>, TrainError> {
    changes(&by_role(old), &by_role(new))
}

/// What a run is bound to, its plugins by what they are in it: their order says nothing to a reader.
fn by_role(file: &RunFile) -> Value {
    let slots = file.config.initializers.keys().map(|slot| format!("initializers.{slot}"));
    let roles = std::iter::once("strategy".to_owned()).chain(slots);
    let plugins: BTreeMap<String, &Provenance> = roles.zip(&file.bound_to.plugins).collect();
    let mut bound_to = json!(file.bound_to);
    bound_to["plugins"] = json!(plugins);
    bound_to
}

fn changes(old: &impl Serialize, new: &impl Serialize) -> Result<Vec<Changed>, TrainError> {
    let value = |error: serde_json::Error| TrainError::Internal(format!("no JSON of what was read: {error}"));
    let (old, new) = (serde_json::to_value(old).map_err(value)?, serde_json::to_value(new).map_err(value)?);
    let mut found = Vec::new();
    compare("", Some(&old), Some(&new), &mut found);
    Ok(found)
}

fn compare(key: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Changed>) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
                compare(&below(name), old.get(name), new.get(name), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&format!("{key}[{index}]"), Some(old), Some(new), found);
            }
        }
        _ if old == new => {}
        _ => found.push(Changed { key: key.to_owned(), old: old.cloned(), new: new.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_differs_is_told_with_its_place() {
        let (old, new) = (json!({"a": {"b": [1, 2]}, "c": 1}), json!({"a": {"b": [1, 3]}, "d": null}));
        let found: Vec<String> = changes(&old, &new)
            .expect("values are JSON")
            .into_iter()
            .map(|changed| format!("{} {:?} {:?}", changed.key, changed.old, changed.new))
            .collect();
        let wanted =
            ["a.b[1] Some(Number(2)) Some(Number(3))", "c Some(Number(1)) None", "d None Some(Null)"];
        assert_eq!(found, wanted);
        assert_eq!(changes(&old, &old).expect("values are JSON"), []);
    }
}
