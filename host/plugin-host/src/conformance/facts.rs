//! Questions about the library as such: what it says about itself, and what loading it does.

use sapwood_plugin::host::{check_facts, read_facts};
use sapwood_plugin::{Descriptor, LibraryFacts};

use super::process::{prints_nothing, signals, starts_no_thread, wrote_nothing_here};
use super::{Answer, Question, Subject, noted, passed};

pub(super) const QUESTIONS: &[Question] = &[
    Question { name: "facts-are-readable", asks: "says what it is without being run", ask: readable },
    Question { name: "interface-is-known", asks: "fits this host", ask: |s| fits(s) },
    Question { name: "id-is-author-slash-name", asks: "has an id like `author/name`", ask: id },
    Question { name: "ids-are-unique", asks: "offers each id once", ask: unique },
    Question { name: "version-is-semantic", asks: "has a version like 1.2.3", ask: version },
    Question { name: "summary-is-one-line", asks: "says in one line what it does", ask: summary },
    Question { name: "license-is-named", asks: "says under which licence it is", ask: license },
    Question { name: "loads", asks: "can be loaded", ask: |s| s.open().and_then(|_| passed()) },
    Question { name: "loads-twice", asks: "can be loaded again", ask: loads_twice },
    Question { name: "loading-prints-nothing", asks: "loads in silence", ask: loads_in_silence },
    Question { name: "loading-starts-no-thread", asks: "starts no thread when loaded", ask: no_thread },
    Question { name: "loading-leaves-signals-alone", asks: "handles no signal", ask: no_signal },
    Question {
        name: "loading-leaves-the-process-alone",
        asks: "changes neither environment nor working directory",
        ask: leaves_process_alone,
    },
    Question { name: "unknown-id-is-refused", asks: "makes nothing that it does not offer", ask: unknown_id },
];

fn read(subject: &Subject) -> Result<LibraryFacts, String> {
    read_facts(&subject.library).map_err(|refusal| refusal.reason)
}

fn descriptor(subject: &Subject) -> Result<Descriptor, String> {
    let is_it = |plugin: &Descriptor| plugin.kind == subject.kind && plugin.id == subject.id;
    let found = read(subject)?.plugins.into_iter().find(is_it);
    found.ok_or_else(|| format!("the facts name no {} `{}`", subject.kind, subject.id))
}

fn readable(subject: &Subject) -> Answer {
    let facts = read(subject)?;
    noted(format!("sapwood-plugin {}, {}, {}", facts.sdk, facts.rustc, facts.target))
}

fn fits(subject: &Subject) -> Answer {
    check_facts(&read(subject)?).map_err(|refusal| refusal.reason)?;
    passed()
}

fn id(subject: &Subject) -> Answer {
    let good = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        !part.is_empty() && part.len() <= 64 && part.bytes().all(allowed)
    };
    match subject.id.split_once('/') {
        Some((author, name)) if good(author) && good(name) => passed(),
        _ => Err(format!("`{}` is no `author/name` of lowercase letters, digits, - _ and .", subject.id)),
    }
}

fn unique(subject: &Subject) -> Answer {
    let facts = read(subject)?;
    let same = facts.plugins.iter().filter(|plugin| plugin.kind == subject.kind && plugin.id == subject.id);
    match same.count() {
        1 => passed(),
        count => Err(format!("offers it {count} times")),
    }
}

fn version(subject: &Subject) -> Answer {
    let version = descriptor(subject)?.version;
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let good = numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u64>().is_ok());
    if good { noted(version) } else { Err(format!("`{version}` is no MAJOR.MINOR.PATCH")) }
}

fn summary(subject: &Subject) -> Answer {
    match descriptor(subject)?.summary {
        text if text.trim().is_empty() => Err("is empty".into()),
        text if text.chars().count() > 120 => Err("has more than 120 characters".into()),
        _ => passed(),
    }
}

fn license(subject: &Subject) -> Answer {
    match descriptor(subject)?.license {
        text if text.trim().is_empty() => Err("`license` is missing in the crate's manifest".into()),
        text => noted(text),
    }
}

fn loads_twice(subject: &Subject) -> Answer {
    let schema = |_| -> Result<String, String> {
        let library = subject.open()?;
        library.schema(subject.kind, &subject.id).map_err(|error| error.to_string())
    };
    if schema(0)? == schema(1)? { passed() } else { Err("says something else the second time".into()) }
}

fn loads_in_silence(subject: &Subject) -> Answer {
    subject.open()?;
    prints_nothing(subject, true)
}

fn no_thread(subject: &Subject) -> Answer {
    starts_no_thread(|| subject.open().map(|_| ()))
}

fn no_signal(subject: &Subject) -> Answer {
    let before = signals();
    subject.open()?;
    let after = signals();
    if before == after { passed() } else { Err(format!("signals were {before:?}, are {after:?}")) }
}

fn leaves_process_alone(subject: &Subject) -> Answer {
    let process = || (std::env::current_dir().ok(), std::env::vars_os().collect::<Vec<_>>());
    let before = process();
    subject.open()?;
    if before != process() {
        return Err("changes the environment or the working directory".into());
    }
    wrote_nothing_here()
}

fn unknown_id(subject: &Subject) -> Answer {
    let other = Subject { id: format!("{}-that-is-not-there", subject.id), ..subject.clone() };
    match other.make(&subject.config.to_string()) {
        Ok(_) => Err("makes a plugin that it does not offer".into()),
        Err(error) if error.panicked().is_some() => Err(error.to_string()),
        Err(_) => passed(),
    }
}
