//! `sapwood plugin validate`: the conformance suite, asked of a library, and the hidden command that answers
//! one of its questions in a process of its own.

use std::path::Path;
use std::process::ExitCode;

use plugin_host::api::Kind;
use plugin_host::conformance::{self, Certificate, Examiner, Fuzz, Outcome, Reply, Subject, examine};
use trainer::ErrorClass;
use trainer::storage::write_json;

use crate::Outcome as CommandOutcome;
use crate::args::{QuestionArgs, ValidateArgs};
use crate::failure::{Failed, code_of};
use crate::output::{note_line, result_line};

pub(crate) fn validate(args: &ValidateArgs) -> CommandOutcome {
    let config = args.config.as_deref().map(parse_config).transpose()?;
    let program = std::env::current_exe()
        .map_err(|error| Failed::new(ErrorClass::Internal, error, "please report this"))?;
    let examiner = Examiner {
        program,
        arguments: vec!["plugin-question".into()],
        seconds_per_question: args.seconds,
        only: args.question.clone(),
        fuzz: args.fuzz.map(|seconds| Fuzz { seconds, seed: args.seed }),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let mut heading = String::new();
    let certificate =
        examine(&examiner, &args.library, args.id.as_deref(), config.as_ref(), &mut |plugin, reply| {
            if args.json {
                return;
            }
            let title = format!("{} `{}` {}", plugin.kind, plugin.id, plugin.version);
            if heading != title {
                result_line!("{title}");
                heading = title;
            }
            print_reply(reply);
        })?;
    if let Some(path) = &args.certificate {
        write_json(path, &certificate)?;
    }
    if args.id.is_none() && args.question.is_empty() {
        keep(&certificate);
    }
    if args.json {
        let text = serde_json::to_string_pretty(&certificate);
        result_line!("{}", text.map_err(|error| Failed::new(ErrorClass::Internal, error, ""))?);
    } else {
        print_verdict(&certificate);
    }
    Ok(if certificate.passed { ExitCode::SUCCESS } else { ExitCode::from(code_of(ErrorClass::PluginFault)) })
}

/// For the runs that will use the library; what was found is no less true where it cannot be kept.
fn keep(certificate: &Certificate) {
    match certificate.keep() {
        Ok(Some(path)) => note_line!("certificate: {}", path.display()),
        Ok(None) => {}
        Err(error) => note_line!("warning: {error}"),
    }
}

pub(crate) fn parse_config(text: &str) -> Result<serde_json::Value, Failed> {
    let parsed = serde_json::from_str::<serde_json::Value>(text);
    parsed.ok().filter(serde_json::Value::is_object).ok_or_else(|| {
        let message = format!("`--config {text}` is no JSON object");
        Failed::new(
            ErrorClass::Config,
            message,
            "write what stands under `config =`, as in '{\"factor\": 2}'",
        )
    })
}

fn print_reply(reply: &Reply) {
    let mark = match reply.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "FAILED",
        Outcome::NotApplicable => "-",
    };
    result_line!("  {mark:<6}  {:<38} {:>6} ms  {}", reply.question, reply.milliseconds, reply.said);
}

fn print_verdict(certificate: &Certificate) {
    result_line!();
    for examined in &certificate.plugins {
        let failures: Vec<&str> = examined.failures().map(|reply| reply.question.as_str()).collect();
        let asked = examined.replies.len();
        let name = format!("{} `{}`", examined.plugin.kind, examined.plugin.id);
        if failures.is_empty() {
            result_line!("{name} passed all {asked} questions, with config {}", examined.config);
        } else {
            result_line!("{name} FAILED {} of {asked}: {}", failures.len(), failures.join(", "));
        }
    }
    result_line!("library sha256 {}", certificate.sha256);
}

/// The answering side: one question, in this process.
pub(crate) fn question(args: &QuestionArgs) -> CommandOutcome {
    let internal =
        |message: String| Failed::new(ErrorClass::Internal, message, "`sapwood plugin validate` asks");
    let kind = Kind::ALL.into_iter().find(|kind| kind.to_string() == args.kind);
    let subject = Subject {
        library: args.library.clone(),
        kind: kind.ok_or_else(|| internal(format!("there is no kind `{}`", args.kind)))?,
        id: args.id.clone(),
        config: parse_config(&args.config)?,
        folder: Path::new(&args.folder).to_path_buf(),
        fuzz: args.fuzz_seconds.zip(args.fuzz_seed).map(|(seconds, seed)| Fuzz { seconds, seed }),
    };
    conformance::answer(&subject, &args.question).map_err(internal)?;
    Ok(ExitCode::SUCCESS)
}
