//! The asking side: one child process for each question, with a time limit, and what its end means.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sapwood_plugin::host::{check_facts, read_facts};
use sapwood_plugin::{Descriptor, Kind, LibraryFacts};

use super::certificate::{Certificate, Examined, Outcome, Reply};
use super::{Answer, Fuzz, Question, Said, fuzz, questions};
use crate::bounded;
use crate::store::{self, Kept};
use crate::{PluginError, registry, trust};

/// What a process may write that answers a question, beside it a plugin of which nothing is known.
const LARGEST_ANSWER_BYTES: u64 = 64 << 20;

/// Where the answering side leaves its answer.
pub(super) const ANSWER_FILE: &str = "answer.json";
/// What the answering side prints goes there.
pub(super) const STDOUT_FILE: &str = "stdout";
/// As above.
pub(super) const STDERR_FILE: &str = "stderr";
/// Version of the certificate's format.
const FORMAT: u32 = 1;

/// Who asks, and how.
pub struct Examiner {
    /// The binary that answers.
    pub program: PathBuf,
    /// Its arguments before those that name the question.
    pub arguments: Vec<String>,
    /// How long a question may take.
    pub seconds_per_question: u64,
    /// The questions that are asked; all where none is named.
    pub only: Vec<String>,
    /// Whether each plugin is fuzzed beside that, and how.
    pub fuzz: Option<Fuzz>,
    /// Version of the host, for the certificate.
    pub version: String,
}

/// Examines a library's plugins: all, or the one of that id. Without a configuration each is examined with the
/// first example of its schema, else with an empty one.
///
/// # Errors
/// A library that is refused before it is loaded, or has no such plugin, or a child that cannot be started.
pub fn examine(
    examiner: &Examiner,
    library: &Path,
    id: Option<&str>,
    config: Option<&serde_json::Value>,
    on_reply: &mut dyn FnMut(&Descriptor, &Reply),
) -> Result<Certificate, PluginError> {
    let refused = |refusal| registry::refused(library, &refusal);
    trust::check(library).map_err(refused)?;
    // The certificate is about the bytes that were hashed, so these are examined.
    let Kept { sha256, copy } = store::keep(library)?;
    let facts = read_facts(&copy).map_err(refused)?;
    check_facts(&facts).map_err(refused)?;
    let chosen = chosen(library, &facts, id)?;
    let mut plugins = Vec::new();
    for plugin in chosen {
        let config = match config {
            Some(config) => config.clone(),
            None => examiner.example(&copy, plugin)?,
        };
        let mut replies = Vec::new();
        for question in examiner.asked(plugin.kind)? {
            let reply = examiner.ask(&copy, plugin, &config, question)?;
            on_reply(plugin, &reply);
            replies.push(reply);
        }
        let passed = replies.iter().all(|reply| reply.outcome != Outcome::Failed);
        plugins.push(Examined { plugin: plugin.clone(), config, passed, replies });
    }
    let passed = plugins.iter().all(|examined| examined.passed);
    Ok(Certificate { format: FORMAT, sha256, facts, examined_by: examiner.version.clone(), passed, plugins })
}

fn chosen<'a>(
    library: &Path,
    facts: &'a LibraryFacts,
    id: Option<&str>,
) -> Result<Vec<&'a Descriptor>, PluginError> {
    let chosen: Vec<&Descriptor> =
        facts.plugins.iter().filter(|plugin| id.is_none_or(|id| plugin.id == id)).collect();
    if chosen.is_empty() {
        return Err(PluginError::NotFound {
            kind: Kind::Strategy,
            id: id.unwrap_or("any").into(),
            hint: format!("{} offers {}", library.display(), registry::listed(&facts.plugins)),
        });
    }
    Ok(chosen)
}

impl Examiner {
    fn asked(&self, kind: Kind) -> Result<Vec<&'static Question>, PluginError> {
        let mut all = questions(kind);
        all.extend(self.fuzz.map(|_| &fuzz::QUESTION));
        if let Some(unknown) =
            self.only.iter().find(|name| all.iter().all(|question| question.name != **name))
        {
            let message = format!("there is no question `{unknown}` for a {kind}");
            return Err(PluginError::Host { message });
        }
        all.retain(|question| self.only.is_empty() || self.only.iter().any(|name| name == question.name));
        Ok(all)
    }

    /// The first example that the schema gives, found in a process of its own.
    fn example(&self, library: &Path, plugin: &Descriptor) -> Result<serde_json::Value, PluginError> {
        let empty = serde_json::json!({});
        let (answer, _) = self.answer(library, plugin, &empty, &super::configuration::EXAMPLE)?;
        let example = answer.ok().and_then(|said| serde_json::from_str(&said.digest).ok());
        Ok(example.unwrap_or(empty))
    }

    fn ask(
        &self,
        library: &Path,
        plugin: &Descriptor,
        config: &serde_json::Value,
        question: &Question,
    ) -> Result<Reply, PluginError> {
        let (mut answer, took) = self.answer(library, plugin, config, question)?;
        let digest = answer.as_ref().map(|said| said.digest.clone()).unwrap_or_default();
        if !digest.is_empty() {
            let (again, _) = self.answer(library, plugin, config, question)?;
            let same = again.as_ref().is_ok_and(|again| again.digest == digest);
            if !same {
                answer = Err(again.err().unwrap_or("answers something else in another process".into()));
            }
        }
        let (outcome, said) = match answer {
            Ok(Said { note, not_applicable: true, .. }) => (Outcome::NotApplicable, note),
            Ok(said) => (Outcome::Passed, said.note),
            Err(why) => (Outcome::Failed, why),
        };
        let milliseconds = took.as_millis() as u64;
        Ok(Reply { question: question.name.into(), outcome, said, milliseconds })
    }

    fn answer(
        &self,
        library: &Path,
        plugin: &Descriptor,
        config: &serde_json::Value,
        question: &Question,
    ) -> Result<(Answer, Duration), PluginError> {
        let folder = tempfile::tempdir().map_err(|error| cannot("create a temporary folder", &error))?;
        let began = Instant::now();
        let child = self.start(library, plugin, config, question, folder.path());
        let mut child = child.map_err(|error| cannot("start a process for the question", &error))?;
        let fuzzing =
            self.fuzz.filter(|_| question.name == fuzz::QUESTION.name).map_or(0, |fuzz| fuzz.seconds);
        let ended = wait(&mut child, Duration::from_secs(self.seconds_per_question.saturating_add(fuzzing)));
        let answer = match bounded::read(&folder.path().join(ANSWER_FILE), LARGEST_ANSWER_BYTES) {
            Ok(bytes) if ended.as_ref().is_ok_and(|status| status.success()) => {
                serde_json::from_slice(&bytes).unwrap_or_else(|error| Err(format!("no answer: {error}")))
            }
            _ => Err(self.untimely_end(ended, folder.path())),
        };
        Ok((answer, began.elapsed()))
    }

    fn start(
        &self,
        library: &Path,
        plugin: &Descriptor,
        config: &serde_json::Value,
        question: &Question,
        folder: &Path,
    ) -> std::io::Result<Child> {
        let inside = folder.join("inside");
        fs::create_dir(&inside)?;
        Command::new(&self.program)
            .args(&self.arguments)
            .arg(std::path::absolute(library)?)
            .args([&plugin.kind.to_string(), &plugin.id, question.name])
            .args([&config.to_string()])
            .arg(folder)
            .args(self.fuzz.iter().flat_map(|fuzz| [fuzz.seconds.to_string(), fuzz.seed.to_string()]))
            .current_dir(inside)
            .stdin(Stdio::null())
            .stdout(File::create(folder.join(STDOUT_FILE))?)
            .stderr(File::create(folder.join(STDERR_FILE))?)
            .spawn()
    }

    fn untimely_end(&self, ended: Result<ExitStatus, String>, folder: &Path) -> String {
        let said = bounded::read_text(&folder.join(STDERR_FILE), LARGEST_ANSWER_BYTES).unwrap_or_default();
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let last: String = last.chars().take(200).collect();
        let how = match ended {
            Ok(status) => format!("ended its process: {status}"),
            Err(why) => why,
        };
        let how = match bounded::read_text(&folder.join(fuzz::CASE_FILE), LARGEST_ANSWER_BYTES) {
            Ok(case) => format!("seed {case}: {how}"),
            Err(_) => how,
        };
        if last.is_empty() { how } else { format!("{how} ({last})") }
    }
}

/// How a child ended, or why it was ended.
fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus, String> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            ended => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(match ended {
                    Err(error) => format!("cannot be waited for: {error}"),
                    _ => format!("does not come to an end within {} s", limit.as_secs()),
                });
            }
        }
    }
}

fn cannot(what: &str, error: &std::io::Error) -> PluginError {
    PluginError::Host { message: format!("cannot {what}: {error}") }
}
