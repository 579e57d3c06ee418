//! The conformance suite: named questions to a finished library, each in a process of its own, and the
//! certificate that comes of it. `sapwood plugin validate` prints it.
//!
//! The asking side ([`examine`]) knows nothing of the library but its facts; the answering side ([`answer`]) is
//! the same binary, started once for each question, so that a plugin that crashes, exits or hangs fails that
//! question and no other.

mod asking;
mod certificate;
mod configuration;
mod facts;
mod fuzz;
mod initializer;
mod kept;
mod process;
mod reporter;
mod strategy;
mod subject;

pub use asking::{Examiner, examine};
pub use certificate::{Certificate, Examined, Outcome, Reply};
pub use fuzz::Fuzz;
pub use kept::Examination;
pub(crate) use kept::find;
pub use subject::Subject;

use sapwood_plugin::Kind;

/// What is asked, of which kinds, and how the answer is found.
pub struct Question {
    /// Its name.
    pub name: &'static str,
    /// What a plugin that passes does.
    pub asks: &'static str,
    ask: fn(&Subject) -> Answer,
}

/// What a question comes to: a pass, perhaps with something to say, or why not.
type Answer = Result<Said, String>;

/// What a passed question has to say.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Said {
    /// A measured number, say.
    note: String,
    /// Nothing was there to ask about.
    not_applicable: bool,
    /// Has to be the same in another process; empty where nothing is compared.
    digest: String,
}

fn passed() -> Answer {
    Ok(Said::default())
}

fn noted(note: String) -> Answer {
    Ok(Said { note, ..Said::default() })
}

fn not_applicable(why: &str) -> Answer {
    Ok(Said { note: why.into(), not_applicable: true, ..Said::default() })
}

/// The questions for a kind, in order.
pub fn questions(kind: Kind) -> Vec<&'static Question> {
    let own: &[Question] = match kind {
        Kind::Strategy => strategy::QUESTIONS,
        Kind::Initializer => initializer::QUESTIONS,
        Kind::Reporter => reporter::QUESTIONS,
    };
    facts::QUESTIONS.iter().chain(configuration::QUESTIONS).chain(own).collect()
}

/// Answers one question, in a process that was started for it: writes the reply into the subject's folder.
///
/// # Errors
/// A question that there is not, or a folder that cannot be written.
pub fn answer(subject: &Subject, name: &str) -> Result<(), String> {
    let all = questions(subject.kind).into_iter().chain([&configuration::EXAMPLE, &fuzz::QUESTION]);
    let asked = all.into_iter().find(|question| question.name == name);
    let question = asked.ok_or_else(|| format!("there is no question `{name}`"))?;
    let answer = (question.ask)(subject);
    let bytes = serde_json::to_vec(&answer).map_err(|error| error.to_string())?;
    std::fs::write(subject.folder.join(asking::ANSWER_FILE), bytes).map_err(|error| error.to_string())
}
