//! Which plugins there are, by their libraries' facts, and how one is loaded. Looking runs no plugin code.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sapwood_plugin::host::{Library, Refusal, check_facts, open, read_facts};
use sapwood_plugin::{
    Descriptor, Error, GrowthStrategy, Kind, LayerInitializer, LibraryFacts, MetricReporter,
};
use serde::{Deserialize, Serialize};

use crate::blame::{Call, Watched, making};
use crate::bounded::{self, LARGEST_LIBRARY_BYTES};
use crate::isolation::{Isolated, IsolatedInitializer, IsolatedReporter, IsolatedStrategy};
use crate::signature::{self, TrustedKey};
use crate::store::{self, Kept};
use crate::{
    ChildProgram, Isolation, Loaded, PluginError, PluginLock, Provenance, SearchPath, conformance, log,
    needs, trust,
};

/// A plugin as a study names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Its id, `author/name`.
    #[serde(rename = "use")]
    pub id: String,
    /// The library to take it from, instead of the search path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "Isolation::is_none")]
    pub isolation: Isolation,
    /// Its configuration.
    #[serde(default = "empty_table", skip_serializing_if = "is_empty_table")]
    pub config: serde_json::Value,
}

fn empty_table() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

fn is_empty_table(value: &serde_json::Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// A library on the search path: its facts, or why it is refused.
#[derive(Clone, Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Its facts, or the refusal.
    pub facts: Result<LibraryFacts, Refusal>,
}

impl Found {
    fn read(path: PathBuf) -> Found {
        let facts = trust::check(&path)
            .and_then(|()| read_facts(&path))
            .and_then(|facts| check_facts(&facts).map(|()| facts))
            .and_then(|facts| needs::check_file(&path).map(|()| facts));
        Found { path, facts }
    }

    fn plugins(&self) -> &[Descriptor] {
        self.facts.as_ref().map(|facts| facts.plugins.as_slice()).unwrap_or_default()
    }

    pub(crate) fn offers(&self, kind: Kind, id: &str) -> bool {
        self.plugins().iter().any(|plugin| plugin.kind == kind && plugin.id == id)
    }
}

/// The plugins of a search path.
pub struct Registry {
    folders: Vec<Vec<Found>>,
    search_path: SearchPath,
    /// Libraries that a choice names by their file, as they were when they were first looked at.
    named: Mutex<HashMap<PathBuf, Found>>,
    pinned: Mutex<HashMap<PathBuf, Pinned>>,
    lock: Option<PluginLock>,
    /// Whose signatures are demanded, if any are.
    signers: Option<Vec<TrustedKey>>,
    child_program: Option<ChildProgram>,
}

/// A library as it was when it was first needed; it stays that for the registry's life.
struct Pinned {
    kept: Kept,
    opened: Option<Library>,
}

impl Registry {
    /// Reads the facts of every library on the path; runs none of them.
    pub fn scan(search_path: SearchPath) -> Registry {
        let folders =
            search_path.libraries().map(|files| files.into_iter().map(Found::read).collect()).collect();
        Registry {
            folders,
            search_path,
            named: Mutex::default(),
            pinned: Mutex::default(),
            lock: None,
            signers: None,
            child_program: None,
        }
    }

    /// Has isolated plugins hosted by that program instead of this very binary.
    #[must_use]
    pub fn with_child_program(self, program: ChildProgram) -> Registry {
        Registry { child_program: Some(program), ..self }
    }

    /// From here on refuses every library that is not in the lock.
    pub fn require(&mut self, lock: PluginLock) {
        self.lock = Some(lock);
    }

    /// From here on refuses every library that none of these keys has signed.
    pub fn require_signatures(&mut self, keys: Vec<TrustedKey>) {
        self.signers = Some(keys);
    }

    /// What a choice resolves to, with the hash of its bytes, without loading it.
    ///
    /// # Errors
    /// As for [`resolve`](Registry::resolve).
    pub fn provenance(&self, kind: Kind, choice: &Choice) -> Result<Provenance, PluginError> {
        let (path, descriptor) = self.resolve(kind, choice)?;
        let Kept { sha256, .. } = self.keep(&path)?;
        Ok(Provenance { kind, id: choice.id.clone(), version: descriptor.version, sha256 })
    }

    /// All libraries, refused ones too, in the order of the search.
    pub fn libraries(&self) -> impl Iterator<Item = &Found> {
        self.folders.iter().flatten()
    }

    /// The file that offers a plugin.
    ///
    /// # Errors
    /// None does, or two of one folder do.
    pub fn find(&self, kind: Kind, id: &str) -> Result<&Found, PluginError> {
        for folder in &self.folders {
            let mut offers = folder.iter().filter(|found| found.offers(kind, id));
            let Some(first) = offers.next() else { continue };
            return match offers.next() {
                None => Ok(first),
                Some(second) => Err(PluginError::Ambiguous {
                    kind,
                    id: id.into(),
                    first: first.path.clone(),
                    second: second.path.clone(),
                }),
            };
        }
        Err(PluginError::NotFound { kind, id: id.into(), hint: self.not_found_hint(kind, id) })
    }

    /// Loads a strategy.
    ///
    /// # Errors
    /// It is not there, is refused, or refuses its configuration; so below.
    pub fn strategy(&self, choice: &Choice) -> Result<Loaded<dyn GrowthStrategy>, PluginError> {
        let here =
            |library: Library, id: &str, config: &str| -> sapwood_plugin::Result<Box<dyn GrowthStrategy>> {
                let made = making(Kind::Strategy, id, Call::New, || library.strategy(id, config))?;
                Ok(Box::new(Watched::<dyn GrowthStrategy>::new(Kind::Strategy, id, made)))
            };
        let apart = |isolated| -> sapwood_plugin::Result<Box<dyn GrowthStrategy>> {
            Ok(Box::new(IsolatedStrategy::new(isolated)))
        };
        self.make(Kind::Strategy, choice, here, apart)
    }

    /// Loads an initializer.
    ///
    /// # Errors
    /// As for [`strategy`](Registry::strategy).
    pub fn initializer(&self, choice: &Choice) -> Result<Loaded<dyn LayerInitializer>, PluginError> {
        let here =
            |library: Library, id: &str, config: &str| -> sapwood_plugin::Result<Box<dyn LayerInitializer>> {
                let made = making(Kind::Initializer, id, Call::New, || library.initializer(id, config))?;
                Ok(Box::new(Watched::<dyn LayerInitializer>::new(Kind::Initializer, id, made)))
            };
        let apart = |isolated| -> sapwood_plugin::Result<Box<dyn LayerInitializer>> {
            Ok(Box::new(IsolatedInitializer::new(isolated)?))
        };
        self.make(Kind::Initializer, choice, here, apart)
    }

    /// Loads a reporter.
    ///
    /// # Errors
    /// As for [`strategy`](Registry::strategy).
    pub fn reporter(&self, choice: &Choice) -> Result<Loaded<dyn MetricReporter>, PluginError> {
        let here =
            |library: Library, id: &str, config: &str| -> sapwood_plugin::Result<Box<dyn MetricReporter>> {
                let made = making(Kind::Reporter, id, Call::New, || library.reporter(id, config))?;
                Ok(Box::new(Watched::<dyn MetricReporter>::new(Kind::Reporter, id, made)))
            };
        let apart = |isolated| -> sapwood_plugin::Result<Box<dyn MetricReporter>> {
            Ok(Box::new(IsolatedReporter::new(isolated)))
        };
        self.make(Kind::Reporter, choice, here, apart)
    }

    /// The facts of one file.
    ///
    /// # Errors
    /// The file is refused.
    pub fn facts_of(&self, path: &Path) -> Result<LibraryFacts, PluginError> {
        Found::read(path.to_path_buf()).facts.map_err(|refusal| refused(path, &refusal))
    }

    /// The JSON schema of a plugin's configuration; loads the library.
    ///
    /// # Errors
    /// As for [`strategy`](Registry::strategy).
    pub fn schema(&self, kind: Kind, id: &str, path: &Path) -> Result<String, PluginError> {
        let library = self.open(path)?;
        library.schema(kind, id).map_err(|error| bad_config(kind, id, &error))
    }

    /// What a choice resolves to, without loading it: its file and descriptor.
    ///
    /// # Errors
    /// As for [`strategy`](Registry::strategy), but for the configuration.
    pub fn resolve(&self, kind: Kind, choice: &Choice) -> Result<(PathBuf, Descriptor), PluginError> {
        let id = &choice.id;
        let named = choice.library.as_ref().map(|path| self.named(path));
        let found = match &named {
            Some(found) => found,
            None => self.find(kind, id)?,
        };
        if let Err(refusal) = &found.facts {
            return Err(refused(&found.path, refusal));
        }
        let descriptor = found.plugins().iter().find(|plugin| plugin.kind == kind && plugin.id == *id);
        let descriptor = descriptor.cloned().ok_or_else(|| PluginError::NotFound {
            kind,
            id: id.clone(),
            hint: format!("{} offers {}", found.path.display(), listed(found.plugins())),
        })?;
        Ok((found.path.clone(), descriptor))
    }

    fn make<P: ?Sized>(
        &self,
        kind: Kind,
        choice: &Choice,
        here: impl Fn(Library, &str, &str) -> sapwood_plugin::Result<Box<P>>,
        apart: impl Fn(Isolated) -> sapwood_plugin::Result<Box<P>>,
    ) -> Result<Loaded<P>, PluginError> {
        let (path, descriptor) = self.resolve(kind, choice)?;
        let Kept { sha256, copy } = self.keep(&path)?;
        if let Some(lock) = &self.lock {
            lock.check(&path, kind, &choice.id, &sha256)?;
        }
        if let Some(keys) = &self.signers {
            // Of the copy, which is what is loaded.
            let bytes = bounded::read(&copy, LARGEST_LIBRARY_BYTES).map_err(|error| PluginError::Host {
                message: format!("{} cannot be read: {error}", copy.display()),
            })?;
            signature::verify(&path, &bytes, keys)?;
        }
        let config = choice.config.to_string();
        let plugin = match choice.isolation {
            Isolation::None => {
                let library = making(kind, &choice.id, Call::Load, || self.open(&path))?;
                here(library, &choice.id, &config)
            }
            Isolation::Process => {
                apart(Isolated::start(&self.child_program()?, &copy, kind, &choice.id, &config)?)
            }
        };
        let plugin = plugin.map_err(|error| bad_config(kind, &choice.id, &error))?;
        let examined = conformance::find(&sha256, kind, &choice.id);
        let provenance = Provenance { kind, id: choice.id.clone(), version: descriptor.version, sha256 };
        Ok(Loaded::new(provenance, examined, plugin))
    }

    fn child_program(&self) -> Result<ChildProgram, PluginError> {
        match &self.child_program {
            Some(program) => Ok(program.clone()),
            None => ChildProgram::this_binary().map_err(|error| PluginError::Host {
                message: format!("this binary cannot be found to isolate a plugin with: {error}"),
            }),
        }
    }

    fn named(&self, path: &Path) -> Found {
        let mut named = self.named.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        named.entry(path.to_path_buf()).or_insert_with(|| Found::read(path.to_path_buf())).clone()
    }

    fn keep(&self, path: &Path) -> Result<Kept, PluginError> {
        let mut pinned = self.pinned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(pinned) = pinned.get(path) {
            return Ok(pinned.kept.clone());
        }
        let kept = store::keep(path)?;
        pinned.insert(path.to_path_buf(), Pinned { kept: kept.clone(), opened: None });
        Ok(kept)
    }

    fn open(&self, path: &Path) -> Result<Library, PluginError> {
        let kept = self.keep(path)?;
        let mut pinned = self.pinned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = pinned.entry(path.to_path_buf()).or_insert(Pinned { kept, opened: None });
        if let Some(library) = entry.opened {
            return Ok(library);
        }
        log::into_host_log();
        let library = open(&entry.kept.copy).map_err(|refusal| refused(path, &refusal))?;
        entry.opened = Some(library);
        Ok(library)
    }

    fn not_found_hint(&self, kind: Kind, id: &str) -> String {
        let known: Vec<&str> = self
            .libraries()
            .flat_map(Found::plugins)
            .filter(|plugin| plugin.kind == kind)
            .map(|plugin| plugin.id.as_str())
            .collect();
        let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, id));
        let refused: Vec<String> = self
            .libraries()
            .filter_map(|found| {
                let refusal = found.facts.as_ref().err()?;
                Some(format!("{} {refusal}", found.path.display()))
            })
            .collect();
        let folders: Vec<String> =
            self.search_path.0.iter().map(|folder| folder.display().to_string()).collect();
        let mut hint = match nearest {
            Some(nearest) => format!("did you mean `{nearest}`? "),
            None => String::new(),
        };
        hint += &format!("`sapwood plugin list` shows what there is; searched {}", folders.join(", "));
        if let Some(reason) = SearchPath::own_folder_unknown() {
            hint += &format!("; {reason}");
        }
        if !refused.is_empty() {
            hint += &format!("; passed over: {}", refused.join("; "));
        }
        hint
    }
}

pub(crate) fn refused(path: &Path, refusal: &Refusal) -> PluginError {
    let Refusal { reason, hint } = refusal.clone();
    PluginError::Refused { path: path.to_path_buf(), reason, hint }
}

pub(crate) fn bad_config(kind: Kind, id: &str, error: &Error) -> PluginError {
    if error.panicked().is_some() {
        return PluginError::Fault { kind, id: id.into(), call: "new".into(), message: error.to_string() };
    }
    let field = error.field().unwrap_or_default().to_owned();
    PluginError::BadConfig { kind, id: id.into(), field, message: error.message().to_owned() }
}

pub(crate) fn listed(plugins: &[Descriptor]) -> String {
    let all: Vec<String> =
        plugins.iter().map(|plugin| format!("the {} `{}`", plugin.kind, plugin.id)).collect();
    if all.is_empty() { "nothing".into() } else { all.join(", ") }
}
