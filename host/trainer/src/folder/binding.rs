//! What a run's result is bound to, written into its folder before the first step: the resolved
//! configuration, the data, the plugins, and who made it. A folder of another run is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use data::{CorpusFacts, DataConfig, TokenizerIdentity};
use engine::EngineInfo;
use plugin_host::conformance::Examination;
use plugin_host::{Loaded, Provenance, bounded};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::folder::RunFolder;
use crate::growth::Initializers;
use crate::hugging_face::Imported;
use crate::initial::InitialModel;
use crate::storage::hash_of_file;
use crate::storage::{LARGEST_JSON_BYTES, create_folder, read_json, write_json};
use crate::{RunConfig, Suite, SuiteFacts, TrainError};

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// Every number of the run.
    pub config: RunConfig,
    /// What else the result depends on; another binding is another run.
    pub bound_to: BoundTo,
    /// Who made it; for people.
    pub made_by: MadeBy,
    /// What is noted of the model that it starts from, where that was imported; for people, and for costs told with and
    /// without those from before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_model: Option<Imported>,
}

/// What a result depends on beside its configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoundTo {
    /// Hash of all data.
    pub data_sha256: String,
    /// Strategy first, then initializers by slot.
    pub plugins: Vec<Provenance>,
    /// Each suite's file and tokenizer, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub suites: BTreeMap<String, SuiteFacts>,
    /// The engine's name.
    pub engine: String,
    /// Hash of the file that the initial model is read from, where it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_model_sha256: Option<String>,
}

/// Who made a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MadeBy {
    /// Version of this program.
    pub sapwood: String,
    /// SHA-256 of the program's file, where the system shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_sha256: Option<String>,
    /// The device in words.
    pub device: String,
    /// The processor's name, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// Operating system and processor architecture.
    pub system: String,
    /// Tokens for training.
    pub train_tokens: u64,
    /// Tokens for validation.
    pub validation_tokens: u64,
    /// What made the tokens, where the data tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerIdentity>,
    /// What `sapwood plugin validate` had found of each plugin, by id; `null` where it had not been asked.
    #[serde(default)]
    pub examined: BTreeMap<String, Option<Examination>>,
}

impl RunFile {
    /// What made its ids, where its data tells.
    pub fn tokenizer(&self) -> Option<TokenizerIdentity> {
        // Runs of text have one, also where they are older than this entry.
        let by_source =
            || matches!(self.config.data, DataConfig::Text { .. }).then(TokenizerIdentity::of_bytes);
        self.made_by.tokenizer.clone().or_else(by_source)
    }

    /// Of a run that is about to start.
    pub fn new(
        config: &RunConfig,
        engine: &EngineInfo,
        strategy: &Loaded<dyn plugin_host::api::GrowthStrategy>,
        initializers: &Initializers,
        initial: &InitialModel,
        data: &CorpusFacts,
        suites: &[Suite],
    ) -> RunFile {
        let mut plugins = vec![strategy.provenance.clone()];
        let mut examined = BTreeMap::from([(strategy.provenance.id.clone(), strategy.examined.clone())]);
        for initializer in initializers.values() {
            plugins.push(initializer.provenance.clone());
            examined.insert(initializer.provenance.id.clone(), initializer.examined.clone());
        }
        RunFile {
            config: config.clone(),
            bound_to: BoundTo {
                data_sha256: data.sha256.clone(),
                plugins,
                suites: suites.iter().map(|suite| (suite.config.name.clone(), suite.facts.clone())).collect(),
                engine: engine.engine.into(),
                initial_model_sha256: initial.sha256().map(ToOwned::to_owned),
            },
            made_by: MadeBy {
                sapwood: env!("CARGO_PKG_VERSION").into(),
                program_sha256: program_sha256(),
                device: engine.device.clone(),
                processor: processor(),
                system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                train_tokens: data.train_tokens.0,
                validation_tokens: data.validation_tokens.0,
                tokenizer: data.tokenizer.clone(),
                examined,
            },
            initial_model: initial.imported().cloned(),
        }
    }

    /// Writes it down, or makes sure that what is there is the same run.
    ///
    /// # Errors
    /// The folder holds another run, or cannot be written.
    pub fn bind(&self, folder: &RunFolder) -> Result<(), TrainError> {
        let path = folder.run_file();
        if !path.exists() {
            create_folder(folder.path())?;
            return write_json(&path, self);
        }
        let present: RunFile = read_json(&path)?;
        let folder = folder.path().to_path_buf();
        if let Some((made_with, now)) = self.rebuilt_plugin(&present) {
            let short = |plugin: &Provenance| plugin.sha256.chars().take(12).collect();
            let (id, made_with, present) = (now.id.clone(), short(made_with), short(now));
            return Err(TrainError::OtherPlugin { folder, id, made_with, present });
        }
        match self.first_difference(&present) {
            Some(difference) => Err(TrainError::OtherRun { folder, difference }),
            None => Ok(()),
        }
    }

    /// A plugin whose library is another now, where nothing that somebody wrote into the file is.
    fn rebuilt_plugin<'a>(&'a self, present: &'a RunFile) -> Option<(&'a Provenance, &'a Provenance)> {
        let mut pairs = present.bound_to.plugins.iter().zip(&self.bound_to.plugins);
        let rebuilt = pairs.find(|(old, new)| old.id == new.id && old.sha256 != new.sha256);
        rebuilt.filter(|_| self.binding_config() == present.binding_config())
    }

    fn first_difference(&self, present: &RunFile) -> Option<String> {
        let value =
            |file: &RunFile| Some((file.binding_config()?, serde_json::to_value(&file.bound_to).ok()?));
        let ((config, bound), (old_config, old_bound)) = (value(self)?, value(present)?);
        difference(Path::new(""), &old_config, &config)
            .or_else(|| difference(Path::new(""), &old_bound, &bound))
    }

    /// The configuration without what changes no bit.
    fn binding_config(&self) -> Option<Value> {
        let mut config = serde_json::to_value(&self.config).ok()?;
        forget_isolation(&mut config);
        forget_shadows(&mut config);
        forget_writing(&mut config);
        Some(config)
    }
}

/// Of this program's file; read once.
fn program_sha256() -> Option<String> {
    static SHA256: OnceLock<Option<String>> = OnceLock::new();
    let read = || std::env::current_exe().ok().and_then(|program| hash_of_file(&program).ok());
    SHA256.get_or_init(read).clone()
}

fn processor() -> Option<String> {
    let text = bounded::read_text(Path::new("/proc/cpuinfo"), LARGEST_JSON_BYTES).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
}

/// Where a plugin runs changes no bit of what it comes to: a run whose plugin crashed may go on with it isolated.
fn forget_isolation(config: &mut Value) {
    let initializers = config["initializers"].as_object_mut().into_iter().flat_map(|all| all.values_mut());
    for choice in initializers {
        choice.as_object_mut().map(|choice| choice.remove("isolation"));
    }
    config["strategy"].as_object_mut().map(|choice| choice.remove("isolation"));
}

/// What rides along changes no bit either: shadows may come and go.
fn forget_shadows(config: &mut Value) {
    config.as_object_mut().map(|config| config.remove("shadows"));
}

/// Nor does whether training waits for its checkpoints.
fn forget_writing(config: &mut Value) {
    config["checkpoints"].as_object_mut().map(|checkpoints| checkpoints.remove("write"));
}

/// The first place at which two values differ, in words.
fn difference(place: &Path, old: &Value, new: &Value) -> Option<String> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
            let mut differences = keys.map(|key| {
                let (old, new) = (old.get(key), new.get(key));
                difference(&place.join(key), old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null))
            });
            differences.find_map(|difference| difference)
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            let mut pairs = old.iter().zip(new).enumerate();
            pairs.find_map(|(index, (old, new))| difference(&place.join(index.to_string()), old, new))
        }
        _ if old == new => None,
        _ => {
            let key = place.display().to_string().replace(std::path::MAIN_SEPARATOR, ".");
            Some(format!("`{key}` was {old}, now {new}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn where_a_plugin_runs_binds_nothing() {
        let mut config = json!({
            "strategy": {"use": "a/b", "isolation": "process"},
            "initializers": {"new_blocks": {"use": "a/c", "isolation": "process"}},
        });
        forget_isolation(&mut config);
        let bare = json!({"strategy": {"use": "a/b"}, "initializers": {"new_blocks": {"use": "a/c"}}});
        assert_eq!(config, bare);
    }

    #[test]
    fn what_rides_along_binds_nothing() {
        let mut config = json!({"arm": "a", "shadows": [{"use": "a/b"}]});
        forget_shadows(&mut config);
        assert_eq!(config, json!({"arm": "a"}));
    }

    #[test]
    fn how_checkpoints_are_written_binds_nothing() {
        let mut config = json!({"checkpoints": {"keep": 2, "write": "at-once"}});
        forget_writing(&mut config);
        assert_eq!(config, json!({"checkpoints": {"keep": 2}}));
    }

    #[test]
    fn the_first_difference_is_named() {
        let check = |old: Value, new: Value| difference(Path::new(""), &old, &new);
        assert_eq!(check(json!({"a": 1}), json!({"a": 1})), None);
        let nested = check(json!({"a": {"b": [1, 2]}}), json!({"a": {"b": [1, 3]}}));
        assert_eq!(nested.as_deref(), Some("`a.b.1` was 2, now 3"));
        assert_eq!(check(json!({}), json!({"a": 1})).as_deref(), Some("`a` was null, now 1"));
    }
}
